"""Actions of SLB 2014-05-15 on classic load balancers (CLB)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from spiderpool_lab.alibaba import addressing, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import CLB
from spiderpool_lab.alibaba.ecs_enis import describe_tags, timestamp
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, missing, not_found
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.settings import ON_OFF, NumberRange, Rule, read_settings
from spiderpool_lab.alibaba.tagging import check_tags

RULES: dict[str, Rule] = {
    "AddressType": ("internet", "intranet"),
    "AddressIPVersion": ("ipv4", "ipv6"),
    "Bandwidth": NumberRange(1, 5120, also=(-1,)),
    "DeleteProtection": ON_OFF,
    "InstanceChargeType": ("PayBySpec", "PayByCLCU"),
    "InternetChargeType": ("paybytraffic", "paybybandwidth"),
    "ModificationProtectionStatus": ("NonProtection", "ConsoleProtection"),
    "PayType": ("PayOnDemand", "PrePay"),
    "LoadBalancerSpec": tuple(
        f"slb.{size}"
        for size in ("s1.small", "s2.small", "s2.medium", "s3.small", "s3.medium", "s3.large", "lcu.elastic")
    ),
}
DEFAULTS = {
    "AddressType": "internet",
    "AddressIPVersion": "ipv4",
    "DeleteProtection": "off",
    "InstanceChargeType": "PayByCLCU",
    "InternetChargeType": "paybytraffic",
    "ModificationProtectionStatus": "NonProtection",
    "PayType": "PayOnDemand",
}
_STORED = (
    *RULES,
    "MasterZoneId",
    "SlaveZoneId",
    "ModificationProtectionReason",
    "ResourceGroupId",
)


def balancer(account: Account, parameters: Parameters) -> CLB:
    """The CLB that a call names. Raises Refusal if it does not exist."""
    identity = parameters.required("LoadBalancerId")
    if (found := account.tables.clbs.get(identity)) is None:
        raise not_found("InvalidLoadBalancerId.NotFound", "LoadBalancerId", identity)
    return found


@action(
    "slb",
    "CreateLoadBalancer",
    required="RegionId",
    optional="Address AddressIPVersion AddressType AutoPay Bandwidth ClientToken DeleteProtection Duration "
    "InstanceChargeType InternetChargeType LoadBalancerName LoadBalancerSpec MasterZoneId ModificationProtectionReason "
    "ModificationProtectionStatus PayType PricingCycle ResourceGroupId SlaveZoneId Tag VSwitchId VpcId",
)
def create_load_balancer(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 CreateLoadBalancer: creates a CLB without listeners, active immediately."""
    settings = {**DEFAULTS, **read_settings(parameters, _STORED, RULES)}
    if settings["InstanceChargeType"] == "PayBySpec" and "LoadBalancerSpec" not in settings:
        raise missing("LoadBalancerSpec")
    vswitch = parameters.text("VSwitchId")
    if settings["AddressType"] == "intranet" and not vswitch:
        raise missing("VSwitchId")
    check_tags(parameters.tags())
    identity = account.new_id("lb-")
    clb = CLB(
        identity,
        parameters.text("LoadBalancerName", identity),
        _address(account, parameters.text("Address"), settings, vswitch),
        settings,
        vswitch if settings["AddressType"] == "intranet" else "",
        tags=parameters.tags(),
        created=account.clock(),
    )
    account.tables.clbs.put(clb)
    return {
        "LoadBalancerId": clb.identity,
        "LoadBalancerName": clb.name,
        "Address": clb.address,
        "AddressIPVersion": settings["AddressIPVersion"],
        "NetworkType": _network_type(clb),
        "VpcId": account.vpc.identity if clb.vswitch else "",
        "VSwitchId": clb.vswitch,
        "ResourceGroupId": settings.get("ResourceGroupId", ""),
    }


def _address(account: Account, requested: str, settings: Mapping[str, str], vswitch: str) -> str:
    if settings["AddressIPVersion"] == "ipv6":
        used = {item.address for item in account.tables.clbs}
        return addressing.free_ipv6(account.public_ipv6_block, used, 1)[0]
    if settings["AddressType"] == "internet":
        return account.choose_public_address()
    if not requested:
        return account.choose_addresses(vswitch, 1)[0]
    if requested in account.used_addresses(vswitch) or not addressing.assignable(
        account.vswitch(vswitch).block, requested
    ):
        raise Refusal("IpNotAvailable", f"The specified address {requested} is not available in {vswitch}.")
    return requested


def _network_type(item: CLB) -> str:
    return "vpc" if item.vswitch else "classic"


@action("slb", "DeleteLoadBalancer", required="RegionId LoadBalancerId")
def delete_load_balancer(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DeleteLoadBalancer: deletes a CLB with its listeners and groups, unless it is protected."""
    found = balancer(account, parameters)
    if found.settings["DeleteProtection"] == "on":
        raise Refusal(
            "OperationDenied.DeleteProtectionIsOn",
            "The loadbalancer can't be deleted due to DeleteProtection is enabled.",
        )
    for group in account.tables.clb_groups:
        if group.balancer == found.identity:
            account.tables.clb_groups.remove(group.identity)
    account.tables.clbs.remove(found.identity)
    return {}


@action(
    "slb",
    "DescribeLoadBalancers",
    required="RegionId",
    optional="Address AddressIPVersion AddressType InternetChargeType LoadBalancerId LoadBalancerName "
    "LoadBalancerStatus MasterZoneId NetworkType PageNumber PageSize PayType ResourceGroupId ServerId "
    "ServerIntranetAddress SlaveZoneId Tag Tags VSwitchId VpcId",
)
def describe_load_balancers(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeLoadBalancers: lists the CLBs that pass all filters."""
    found = [item for item in account.tables.clbs if _passes(account, item, parameters)]
    page, counted = paging.by_number(found, parameters, most=100)
    return {**counted, "LoadBalancers": {"LoadBalancer": [describe(account, item) for item in page]}}


_FILTERS = (
    "Address",
    "AddressIPVersion",
    "AddressType",
    "InternetChargeType",
    "LoadBalancerStatus",
    "MasterZoneId",
    "NetworkType",
    "PayType",
    "ResourceGroupId",
    "SlaveZoneId",
    "VSwitchId",
    "VpcId",
)


def _passes(account: Account, item: CLB, parameters: Parameters) -> bool:
    exact = {**item.settings, "Address": item.address, "VSwitchId": item.vswitch, "LoadBalancerStatus": _status(item)}
    exact["VpcId"] = account.vpc.identity if item.vswitch else ""
    exact["NetworkType"] = _network_type(item)
    ids = set(filter(None, parameters.text("LoadBalancerId").split(",")))
    names = set(filter(None, parameters.text("LoadBalancerName").split(",")))
    tags = {**parameters.tags(), **sent_tags(parameters)}
    return (
        (not ids or item.identity in ids)
        and (not names or item.name in names)
        and all(parameters.text(name) in ("", exact.get(name)) for name in _FILTERS)
        and all(key in item.tags and value in ("", item.tags[key]) for key, value in tags.items())
    )


def sent_tags(parameters: Parameters) -> dict[str, str]:
    """Tags in the older form: ``Tags`` is a JSON array of TagKey and TagValue."""
    return {tag.required("TagKey"): tag.text("TagValue") for tag in parameters.json_objects("Tags")}


def _status(item: CLB) -> str:
    return "active" if item.active else "inactive"


def describe(account: Account, item: CLB) -> dict[str, Any]:
    """A CLB as the lists of the API show it."""
    settings = dict(item.settings)
    bandwidth = settings.pop("Bandwidth", "-1")
    return {
        **settings,
        "LoadBalancerId": item.identity,
        "LoadBalancerName": item.name,
        "LoadBalancerStatus": _status(item),
        "Address": item.address,
        "NetworkType": _network_type(item),
        "VpcId": account.vpc.identity if item.vswitch else "",
        "VSwitchId": item.vswitch,
        "RegionId": account.region,
        "Bandwidth": int(bandwidth),
        "CreateTime": timestamp(item.created),
        "Tags": {"Tag": describe_tags(item.tags)},
    }


@action("slb", "DescribeLoadBalancerAttribute", required="LoadBalancerId")
def describe_load_balancer_attribute(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeLoadBalancerAttribute: describes one CLB with the ports of its listeners."""
    found = balancer(account, parameters)
    ports = [
        {
            "ListenerPort": listener.port,
            "ListenerProtocol": listener.protocol,
            "Description": listener.settings.get("Description", ""),
            "ListenerForward": listener.settings.get("ListenerForward", "off"),
        }
        for listener in found.listeners
    ]
    return {
        **describe(account, found),
        "BackendServers": {"BackendServer": []},
        "ListenerPorts": {"ListenerPort": [listener.port for listener in found.listeners]},
        "ListenerPortsAndProtocol": {"ListenerPortAndProtocol": ports},
    }


def _setter(
    name: str, settings: str, *, required: str = "", ignored: str = ""
) -> Callable[[Account, Parameters], Answer]:
    """Register an action of SLB 2014-05-15 that only changes settings of a CLB."""

    @action("slb", name, required=f"RegionId LoadBalancerId {required}", optional=f"{settings} {ignored}")
    def change(account: Account, parameters: Parameters) -> Answer:
        found = balancer(account, parameters)
        sent = read_settings(parameters, settings.split(), RULES)
        account.tables.clbs.put(replace(found, settings={**found.settings, **sent}))
        return {}

    return change


_setter("SetLoadBalancerDeleteProtection", "DeleteProtection", required="DeleteProtection")
_setter(
    "SetLoadBalancerModificationProtection",
    "ModificationProtectionStatus ModificationProtectionReason",
    required="ModificationProtectionStatus",
)
_setter("ModifyLoadBalancerInternetSpec", "InternetChargeType Bandwidth", ignored="AutoPay")
_setter("ModifyLoadBalancerInstanceSpec", "LoadBalancerSpec", required="LoadBalancerSpec", ignored="AutoPay")
_setter(
    "ModifyLoadBalancerInstanceChargeType",
    "InstanceChargeType LoadBalancerSpec InternetChargeType Bandwidth",
    required="InstanceChargeType",
)


@action("slb", "SetLoadBalancerName", required="RegionId LoadBalancerId LoadBalancerName")
def set_load_balancer_name(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 SetLoadBalancerName: renames a CLB."""
    found = balancer(account, parameters)
    account.tables.clbs.put(replace(found, name=parameters.required("LoadBalancerName")))
    return {}


@action("slb", "SetLoadBalancerStatus", required="RegionId LoadBalancerId LoadBalancerStatus")
def set_load_balancer_status(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 SetLoadBalancerStatus: enables or disables a CLB with all its listeners."""
    found = balancer(account, parameters)
    status = parameters.one_of("LoadBalancerStatus", ("active", "inactive"))
    account.tables.clbs.put(replace(found, active=status == "active"))
    return {}


@action("slb", "AddTags", required="RegionId LoadBalancerId Tags")
def add_tags(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 AddTags: adds tags to a CLB, in the older form of ``Tags``."""
    found = balancer(account, parameters)
    tags = {**found.tags, **sent_tags(parameters)}
    check_tags(tags)
    account.tables.clbs.put(replace(found, tags=tags))
    return {}


@action("slb", "RemoveTags", required="RegionId LoadBalancerId Tags")
def remove_tags(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 RemoveTags: removes tags from a CLB, in the older form of ``Tags``."""
    found = balancer(account, parameters)
    removed = sent_tags(parameters)
    account.tables.clbs.put(
        replace(found, tags={key: value for key, value in found.tags.items() if key not in removed})
    )
    return {}


@action("slb", "DescribeTags", required="RegionId", optional="DistinctKey LoadBalancerId PageNumber PageSize Tags")
def describe_tags_of_balancers(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeTags: lists the tags of one or all CLBs, each with the number of CLBs that have it."""
    identity, filters = parameters.text("LoadBalancerId"), sent_tags(parameters)
    counts: dict[tuple[str, str], int] = {}
    for item in account.tables.clbs:
        for tag in item.tags.items() if identity in ("", item.identity) else ():
            if not filters or filters.get(tag[0]) in ("", tag[1]):
                counts[tag] = counts.get(tag, 0) + 1
    page, numbered = paging.by_number(list(counts.items()), parameters, most=100)
    sets = [{"TagKey": key, "TagValue": value, "InstanceCount": count} for (key, value), count in page]
    return {**numbered, "TagSets": {"TagSet": sets}}

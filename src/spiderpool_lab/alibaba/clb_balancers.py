"""SLB: classic load balancers, created, described, changed, protected, tagged, deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from spiderpool_lab.alibaba import addressing, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import CLB
from spiderpool_lab.alibaba.ecs_enis import describe_tags, timestamp
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, absent, missing
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
_KEPT = (
    *RULES,
    "MasterZoneId",
    "SlaveZoneId",
    "ModificationProtectionReason",
    "ResourceGroupId",
)


def balancer(account: Account, parameters: Parameters) -> CLB:
    """The balancer that a call names. Raises Refusal if it does not exist."""
    identity = parameters.needed("LoadBalancerId")
    if (found := account.world.clbs.get(identity)) is None:
        raise absent("InvalidLoadBalancerId.NotFound", "LoadBalancerId", identity)
    return found


@action(
    "slb",
    "CreateLoadBalancer",
    needed="RegionId",
    known="Address AddressIPVersion AddressType AutoPay Bandwidth ClientToken DeleteProtection Duration "
    "InstanceChargeType InternetChargeType LoadBalancerName LoadBalancerSpec MasterZoneId ModificationProtectionReason "
    "ModificationProtectionStatus PayType PricingCycle ResourceGroupId SlaveZoneId Tag VSwitchId VpcId",
)
def create_load_balancer(account: Account, parameters: Parameters) -> Answer:
    """A balancer without listeners, which is active at once."""
    settings = {**DEFAULTS, **read_settings(parameters, _KEPT, RULES)}
    if settings["InstanceChargeType"] == "PayBySpec" and "LoadBalancerSpec" not in settings:
        raise missing("LoadBalancerSpec")
    vswitch = parameters.text("VSwitchId")
    if settings["AddressType"] == "intranet" and not vswitch:
        raise missing("VSwitchId")
    check_tags(parameters.tags())
    identity = account.new_id("lb-")
    made = CLB(
        identity,
        parameters.text("LoadBalancerName", identity),
        _address(account, parameters.text("Address"), settings, vswitch),
        settings,
        vswitch if settings["AddressType"] == "intranet" else "",
        tags=parameters.tags(),
        created=account.clock(),
    )
    account.world.clbs.put(made)
    return {
        "LoadBalancerId": made.identity,
        "LoadBalancerName": made.name,
        "Address": made.address,
        "AddressIPVersion": settings["AddressIPVersion"],
        "NetworkType": _network_type(made),
        "VpcId": account.vpc.identity if made.vswitch else "",
        "VSwitchId": made.vswitch,
        "ResourceGroupId": settings.get("ResourceGroupId", ""),
    }


def _address(account: Account, wanted: str, settings: Mapping[str, str], vswitch: str) -> str:
    if settings["AddressIPVersion"] == "ipv6":
        used = {item.address for item in account.world.clbs}
        return addressing.free_ipv6(account.public_ipv6, used, 1)[0]
    if settings["AddressType"] == "internet":
        return account.take_public()
    if not wanted:
        return account.take_addresses(vswitch, 1)[0]
    if wanted in account.used_in(vswitch) or not addressing.assignable(account.vswitch(vswitch).block, wanted):
        raise Refusal("IpNotAvailable", f"The specified address {wanted} is not available in {vswitch}.")
    return wanted


def _network_type(item: CLB) -> str:
    return "vpc" if item.vswitch else "classic"


@action("slb", "DeleteLoadBalancer", needed="RegionId LoadBalancerId")
def delete_load_balancer(account: Account, parameters: Parameters) -> Answer:
    """Delete a balancer with its listeners and groups, unless it is protected."""
    found = balancer(account, parameters)
    if found.settings["DeleteProtection"] == "on":
        raise Refusal(
            "OperationDenied.DeleteProtectionIsOn",
            "The loadbalancer can't be deleted due to DeleteProtection is enabled.",
        )
    for group in account.world.clb_groups:
        if group.balancer == found.identity:
            account.world.clb_groups.remove(group.identity)
    account.world.clbs.remove(found.identity)
    return {}


@action(
    "slb",
    "DescribeLoadBalancers",
    needed="RegionId",
    known="Address AddressIPVersion AddressType InternetChargeType LoadBalancerId LoadBalancerName LoadBalancerStatus "
    "MasterZoneId NetworkType PageNumber PageSize PayType ResourceGroupId ServerId ServerIntranetAddress SlaveZoneId "
    "Tag Tags VSwitchId VpcId",
)
def describe_load_balancers(account: Account, parameters: Parameters) -> Answer:
    """The balancers that pass every filter."""
    found = [item for item in account.world.clbs if _passes(account, item, parameters)]
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
    wanted = {**parameters.tags(), **sent_tags(parameters)}
    return (
        (not ids or item.identity in ids)
        and (not names or item.name in names)
        and all(parameters.text(name) in ("", exact.get(name)) for name in _FILTERS)
        and all(key in item.tags and value in ("", item.tags[key]) for key, value in wanted.items())
    )


def sent_tags(parameters: Parameters) -> dict[str, str]:
    """The older spelling: ``Tags`` is a JSON array of TagKey and TagValue."""
    return {tag.needed("TagKey"): tag.text("TagValue") for tag in parameters.json_objects("Tags")}


def _status(item: CLB) -> str:
    return "active" if item.active else "inactive"


def describe(account: Account, item: CLB) -> dict[str, Any]:
    """A balancer as the OpenAPI writes it in a list."""
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


@action("slb", "DescribeLoadBalancerAttribute", needed="LoadBalancerId")
def describe_load_balancer_attribute(account: Account, parameters: Parameters) -> Answer:
    """One balancer with the ports of its listeners."""
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
    name: str, settings: str, *, needed: str = "", ignored: str = ""
) -> Callable[[Account, Parameters], Answer]:
    """An action that changes some settings of a balancer and nothing else."""

    @action("slb", name, needed=f"RegionId LoadBalancerId {needed}", known=f"{settings} {ignored}")
    def change(account: Account, parameters: Parameters) -> Answer:
        found = balancer(account, parameters)
        sent = read_settings(parameters, settings.split(), RULES)
        account.world.clbs.put(replace(found, settings={**found.settings, **sent}))
        return {}

    return change


_setter("SetLoadBalancerDeleteProtection", "DeleteProtection", needed="DeleteProtection")
_setter(
    "SetLoadBalancerModificationProtection",
    "ModificationProtectionStatus ModificationProtectionReason",
    needed="ModificationProtectionStatus",
)
_setter("ModifyLoadBalancerInternetSpec", "InternetChargeType Bandwidth", ignored="AutoPay")
_setter("ModifyLoadBalancerInstanceSpec", "LoadBalancerSpec", needed="LoadBalancerSpec", ignored="AutoPay")
_setter(
    "ModifyLoadBalancerInstanceChargeType",
    "InstanceChargeType LoadBalancerSpec InternetChargeType Bandwidth",
    needed="InstanceChargeType",
)


@action("slb", "SetLoadBalancerName", needed="RegionId LoadBalancerId LoadBalancerName")
def set_load_balancer_name(account: Account, parameters: Parameters) -> Answer:
    """Give a balancer another name."""
    found = balancer(account, parameters)
    account.world.clbs.put(replace(found, name=parameters.needed("LoadBalancerName")))
    return {}


@action("slb", "SetLoadBalancerStatus", needed="RegionId LoadBalancerId LoadBalancerStatus")
def set_load_balancer_status(account: Account, parameters: Parameters) -> Answer:
    """Switch a balancer on or off with all its listeners."""
    found = balancer(account, parameters)
    status = parameters.one_of("LoadBalancerStatus", ("active", "inactive"))
    account.world.clbs.put(replace(found, active=status == "active"))
    return {}


@action("slb", "AddTags", needed="RegionId LoadBalancerId Tags")
def add_tags(account: Account, parameters: Parameters) -> Answer:
    """Add tags to one balancer, in the older spelling."""
    found = balancer(account, parameters)
    tags = {**found.tags, **sent_tags(parameters)}
    check_tags(tags)
    account.world.clbs.put(replace(found, tags=tags))
    return {}


@action("slb", "RemoveTags", needed="RegionId LoadBalancerId Tags")
def remove_tags(account: Account, parameters: Parameters) -> Answer:
    """Take tags off one balancer, in the older spelling."""
    found = balancer(account, parameters)
    gone = sent_tags(parameters)
    account.world.clbs.put(replace(found, tags={key: value for key, value in found.tags.items() if key not in gone}))
    return {}


@action("slb", "DescribeTags", needed="RegionId", known="DistinctKey LoadBalancerId PageNumber PageSize Tags")
def describe_tags_of_balancers(account: Account, parameters: Parameters) -> Answer:
    """The tags of one balancer or of all, each with the number of balancers that have it."""
    only, wanted = parameters.text("LoadBalancerId"), sent_tags(parameters)
    counts: dict[tuple[str, str], int] = {}
    for item in account.world.clbs:
        for tag in item.tags.items() if only in ("", item.identity) else ():
            if not wanted or wanted.get(tag[0]) in ("", tag[1]):
                counts[tag] = counts.get(tag, 0) + 1
    page, numbered = paging.by_number(list(counts.items()), parameters, most=100)
    sets = [{"TagKey": key, "TagValue": value, "InstanceCount": count} for (key, value), count in page]
    return {**numbered, "TagSets": {"TagSet": sets}}

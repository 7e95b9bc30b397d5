"""Actions of ECS 2014-05-26 on network interfaces (ENIs)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spiderpool_lab.alibaba import addressing, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.ecs_addresses import choose_ipv4, choose_ipv6
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, not_found
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.resources import NetworkInterface, Tags

ENI_STATUSES = ("Available", "Attaching", "InUse", "Detaching", "Deleting")
_UNATTACHED_ADDRESSES = 49
"""Secondary IPv4 addresses that an unattached ENI may have."""
_SECURITY_GROUPS_MAX = 16
"""Security groups of an ENI."""
_FILTER_VALUES_MAX = 100
"""Values of one filter."""


def eni(account: Account, identity: str) -> NetworkInterface:
    """An ENI by its ID. Raises Refusal if it does not exist."""
    if (found := account.tables.enis.get(identity)) is None:
        raise not_found("InvalidEniId.NotFound", "network interface", identity)
    return found


def require_status(found: NetworkInterface, *allowed: str) -> None:
    """Raises Refusal if the status of an ENI is not one of ``allowed``."""
    if found.status not in allowed:
        raise Refusal(
            "InvalidOperation.InvalidEniState",
            f"The network interface {found.identity} is {found.status}; it must be {' or '.join(allowed)}.",
            403,
        )


@action(
    "ecs",
    "DescribeNetworkInterfaces",
    required="RegionId",
    optional="InstanceId Ipv6Address MaxResults NetworkInterfaceId NetworkInterfaceName NextToken PageNumber PageSize "
    "PrimaryIpAddress PrivateIpAddress ResourceGroupId SecurityGroupId ServiceManaged Status Tag Type VSwitchId VpcId",
)
def describe_network_interfaces(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 DescribeNetworkInterfaces: lists the ENIs that pass all filters."""
    for name in ("NetworkInterfaceId", "PrivateIpAddress", "Ipv6Address"):
        if len(parameters.texts(name)) > _FILTER_VALUES_MAX:
            raise invalid(name, f"has more than {_FILTER_VALUES_MAX} values")
    parameters.one_of("Type", ("Primary", "Secondary"))
    parameters.one_of("Status", ENI_STATUSES)
    found = [item for item in account.tables.enis if _passes(account, item, parameters)]
    if "PageNumber" in parameters or "PageSize" in parameters:
        page, numbers = paging.by_number(found, parameters, most=500)
        return {**numbers, "NextToken": "", "NetworkInterfaceSets": _sets(account, page)}
    page, token = paging.by_token(found, parameters, default=10, least=10, most=500)
    return {"TotalCount": len(found), "NextToken": token, "NetworkInterfaceSets": _sets(account, page)}


def _passes(account: Account, item: NetworkInterface, parameters: Parameters) -> bool:
    exact = {
        "InstanceId": item.instance or "",
        "VpcId": account.vpc.identity,
        "VSwitchId": item.vswitch,
        "Type": "Primary" if item.primary else "Secondary",
        "Status": item.status,
        "PrimaryIpAddress": item.address,
        "NetworkInterfaceName": item.name,
    }
    sets = {
        "NetworkInterfaceId": {item.identity},
        "PrivateIpAddress": set(item.addresses),
        "Ipv6Address": set(item.ipv6_addresses),
    }
    group = parameters.text("SecurityGroupId")
    return (
        all(parameters.text(name) in ("", value) for name, value in exact.items())
        and all(
            not (values := parameters.texts(name)) or not present.isdisjoint(values) for name, present in sets.items()
        )
        and (not group or (not item.primary and group in item.security_groups))
        and has_tags(item.tags, parameters)
    )


def has_tags(tags: Tags, parameters: Parameters) -> bool:
    """Whether tags pass the filters ``Tag.N.Key`` and ``Tag.N.Value``; without a value, any value passes."""
    filters = parameters.tags()
    return all(key in tags and value in ("", tags[key]) for key, value in filters.items())


def _sets(account: Account, enis: Any) -> dict[str, Any]:
    return {"NetworkInterfaceSet": [describe(account, item) for item in enis]}


def describe(account: Account, item: NetworkInterface) -> dict[str, Any]:
    """An ENI as the answers of the API show it."""
    vswitch = account.tables.vswitches.get(item.vswitch)
    return {
        "NetworkInterfaceId": item.identity,
        "NetworkInterfaceName": item.name,
        "Description": item.description,
        "MacAddress": item.mac,
        "InstanceId": item.instance or "",
        "Status": item.status,
        "Type": "Primary" if item.primary else "Secondary",
        "VpcId": account.vpc.identity,
        "VSwitchId": item.vswitch,
        "ZoneId": vswitch.zone if vswitch else "",
        "OwnerId": account.owner,
        "SecurityGroupIds": {"SecurityGroupId": list(item.security_groups)},
        "SourceDestCheck": item.source_check,
        "DeleteOnRelease": item.delete_on_release,
        "ServiceManaged": False,
        "CreationTime": timestamp(item.created),
        **describe_addresses(item),
        "PrivateIpAddress": item.address,
        "Attachment": {"InstanceId": item.instance} if item.instance else {},
        "Tags": {"Tag": describe_tags(item.tags)},
    }


def describe_addresses(item: NetworkInterface) -> dict[str, Any]:
    """The four address lists of an ENI."""
    private = [{"PrivateIpAddress": address, "Primary": address == item.address} for address in item.addresses]
    return {
        "PrivateIpSets": {"PrivateIpSet": private},
        "Ipv6Sets": {"Ipv6Set": [{"Ipv6Address": address} for address in item.ipv6_addresses]},
        "Ipv4PrefixSets": {"Ipv4PrefixSet": [{"Ipv4Prefix": prefix} for prefix in item.prefixes]},
        "Ipv6PrefixSets": {"Ipv6PrefixSet": []},
    }


def describe_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags in the form of ECS and SLB."""
    return [{"TagKey": key, "TagValue": value} for key, value in tags.items()]


def timestamp(seconds: float) -> str:
    """A Unix time in seconds as ISO 8601 in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@action(
    "ecs",
    "CreateNetworkInterface",
    required="RegionId VSwitchId",
    optional="ClientToken DeleteOnRelease Description InstanceType Ipv6Address Ipv6AddressCount NetworkInterfaceName "
    "PrimaryIpAddress PrivateIpAddress ResourceGroupId SecondaryPrivateIpAddressCount SecurityGroupId SecurityGroupIds "
    "SourceDestCheck Tag",
)
def create_network_interface(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 CreateNetworkInterface: creates an unattached ENI."""
    vswitch = account.vswitch(parameters.required("VSwitchId"))
    primary = _primary_address(account, vswitch.identity, parameters)
    created = NetworkInterface(
        account.new_id("eni-"),
        account.new_mac(),
        vswitch.identity,
        primary,
        security_groups=_security_groups(account, parameters),
        source_check=parameters.flag("SourceDestCheck", True),
        delete_on_release=parameters.flag("DeleteOnRelease", True),
        name=parameters.text("NetworkInterfaceName"),
        description=parameters.text("Description"),
        tags=parameters.tags(),
        created=account.clock(),
    )
    created = replace(
        created,
        secondaries=tuple(choose_ipv4(account, created, parameters, _UNATTACHED_ADDRESSES)),
        ipv6_addresses=tuple(choose_ipv6(account, created, parameters)),
    )
    account.tables.enis.put(created)
    return describe(account, created)


def _primary_address(account: Account, vswitch: str, parameters: Parameters) -> str:
    named = parameters.text("PrimaryIpAddress")
    if not named:
        return account.choose_addresses(vswitch, 1)[0]
    if not addressing.assignable(account.vswitch(vswitch).block, named):
        raise invalid("PrimaryIpAddress", f"{named} is not in the vSwitch")
    if named in account.used_addresses(vswitch):
        raise Refusal("InvalidPrivateIpAddress.Duplicated", f"{named} is in use.", 403)
    return named


def _security_groups(account: Account, parameters: Parameters) -> tuple[str, ...]:
    groups = parameters.texts("SecurityGroupIds") or parameters.texts("SecurityGroupId")
    if not groups:
        raise Refusal("MissingParameter", 'The input parameter "SecurityGroupId" that is mandatory is not supplied.')
    return check_security_groups(account, groups)


def check_security_groups(account: Account, groups: list[str]) -> tuple[str, ...]:
    """Return ``groups``, or raise Refusal if one does not exist or cannot take one more ENI."""
    if len(groups) > _SECURITY_GROUPS_MAX:
        raise Refusal("SecurityGroupLimitExceed", "A network interface has at most 16 security groups.", 403)
    for identity in groups:
        if (group := account.tables.security_groups.get(identity)) is None:
            raise not_found("InvalidSecurityGroupId.NotFound", "security group", identity)
        members = sum(identity in item.security_groups for item in account.tables.enis)
        if members >= group.capacity:
            raise Refusal("SecurityGroupInstanceLimitExceed", f"The security group {identity} is full.", 403)
    return tuple(groups)


@action(
    "ecs",
    "AttachNetworkInterface",
    required="RegionId NetworkInterfaceId InstanceId",
    optional="NetworkCardIndex TrunkNetworkInstanceId WaitForNetworkConfigurationReady",
)
def attach_network_interface(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 AttachNetworkInterface: attaches an ENI to an instance in its zone, in ``delays.eni`` seconds."""
    found = eni(account, parameters.required("NetworkInterfaceId"))
    require_status(found, "Available")
    instance = account.tables.instances.get(parameters.required("InstanceId"))
    if instance is None:
        raise not_found("InvalidEcsId.NotFound", "instance", parameters.required("InstanceId"))
    if account.vswitch(found.vswitch).zone != instance.zone:
        raise Refusal("InvalidInstanceId.ZoneMismatch", "The instance and the network interface differ in zone.", 403)
    if len(account.enis_of(instance.identity)) >= account.type_of(instance.identity).enis:
        raise Refusal("EniPerInstanceLimitExceeded", f"The instance {instance.identity} takes no more ENIs.", 403)
    account.tables.enis.put(replace(found, instance=instance.identity, status="Attaching"))
    account.schedule(account.delays.eni, lambda: _finish(account, found.identity, "Attaching"))
    return {}


@action(
    "ecs",
    "DetachNetworkInterface",
    required="RegionId NetworkInterfaceId InstanceId",
    optional="TrunkNetworkInstanceId",
)
def detach_network_interface(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 DetachNetworkInterface: detaches a secondary ENI, in ``delays.eni`` seconds."""
    found = eni(account, parameters.required("NetworkInterfaceId"))
    require_status(found, "InUse")
    if found.instance != parameters.required("InstanceId"):
        raise not_found("InvalidEcsId.NotFound", "attachment to instance", parameters.required("InstanceId"))
    if found.primary:
        raise Refusal("InvalidOperation.DetachPrimaryEniNotAllowed", "A primary network interface stays attached.", 403)
    account.tables.enis.put(replace(found, status="Detaching"))
    account.schedule(account.delays.eni, lambda: _finish(account, found.identity, "Detaching"))
    return {}


def _finish(account: Account, identity: str, status: str) -> None:
    """Finish attaching or detaching, unless the ENI was deleted or changed in the meantime."""
    found = account.tables.enis.get(identity)
    if found is None or found.status != status:
        return
    done = (
        replace(found, status="InUse") if status == "Attaching" else replace(found, instance=None, status="Available")
    )
    account.tables.enis.put(done)


@action("ecs", "DeleteNetworkInterface", required="RegionId NetworkInterfaceId")
def delete_network_interface(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 DeleteNetworkInterface: deletes an unattached ENI."""
    found = eni(account, parameters.required("NetworkInterfaceId"))
    require_status(found, "Available")
    account.tables.enis.remove(found.identity)
    return {}


@action(
    "ecs",
    "ModifyNetworkInterfaceAttribute",
    required="RegionId NetworkInterfaceId",
    optional="DeleteOnRelease Description NetworkInterfaceName SecurityGroupId SourceDestCheck",
)
def modify_network_interface_attribute(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 ModifyNetworkInterfaceAttribute: changes the attributes that are sent."""
    found = eni(account, parameters.required("NetworkInterfaceId"))
    groups = parameters.texts("SecurityGroupId")
    account.tables.enis.put(
        replace(
            found,
            name=parameters.text("NetworkInterfaceName", found.name),
            description=parameters.text("Description", found.description),
            source_check=parameters.flag("SourceDestCheck", found.source_check),
            delete_on_release=parameters.flag("DeleteOnRelease", found.delete_on_release),
            security_groups=check_security_groups(account, groups) if groups else found.security_groups,
        )
    )
    return {}

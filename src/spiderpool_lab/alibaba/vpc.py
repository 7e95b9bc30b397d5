"""Actions of VPC 2016-04-28 on the VPC, its vSwitches, route table and reserved blocks, and on EIPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Any

from spiderpool_lab.alibaba import addressing, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.ecs_enis import has_tags
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, not_found
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.resources import EIP, Reservation, VSwitchResource


@action(
    "vpc",
    "DescribeVSwitches",
    optional="PageNumber PageSize ResourceGroupId RouteTableId Tag VSwitchId VSwitchName VpcId ZoneId",
)
def describe_vswitches(account: Account, parameters: Parameters) -> Answer:
    """VPC 2016-04-28 DescribeVSwitches: lists the vSwitches that pass all filters, with their free addresses."""
    identities = set(filter(None, parameters.text("VSwitchId").split(",")))
    found = [item for item in account.tables.vswitches if _passes(account, item, identities, parameters)]
    page, numbers = paging.by_number(found, parameters)
    return {**numbers, "VSwitches": {"VSwitch": [_vswitch(account, item) for item in page]}}


def _passes(account: Account, item: VSwitchResource, identities: set[str], parameters: Parameters) -> bool:
    exact = {"VpcId": account.vpc.identity, "ZoneId": item.zone, "VSwitchName": item.name}
    return (
        (not identities or item.identity in identities)
        and all(parameters.text(name) in ("", value) for name, value in exact.items())
        and has_tags(item.tags, parameters)
    )


def _vswitch(account: Account, item: VSwitchResource) -> dict[str, Any]:
    return {
        "VSwitchId": item.identity,
        "VSwitchName": item.name,
        "VpcId": account.vpc.identity,
        "ZoneId": item.zone,
        "CidrBlock": item.block,
        "Ipv6CidrBlock": item.ipv6_block or "",
        "EnabledIpv6": item.ipv6_block is not None,
        "AvailableIpAddressCount": account.free_address_count(item),
        "Status": "Available",
        "IsDefault": False,
        "RouteTable": {"RouteTableId": account.vpc.route_table, "RouteTableType": "System"},
        "Tags": {"Tag": _tags(item.tags)},
    }


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags in the form of VPC."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@action("vpc", "DescribeVpcs", optional="PageNumber PageSize ResourceGroupId VpcId VpcName")
def describe_vpcs(account: Account, parameters: Parameters) -> Answer:
    """VPC 2016-04-28 DescribeVpcs: lists the VPC of the account, unless another one is asked for."""
    identities = set(filter(None, parameters.text("VpcId").split(",")))
    found = [account.vpc] if not identities or account.vpc.identity in identities else []
    page, numbers = paging.by_number(found, parameters)
    return {**numbers, "Vpcs": {"Vpc": [_vpc(account) for _ in page]}}


def _vpc(account: Account) -> dict[str, Any]:
    vpc = account.vpc
    return {
        "VpcId": vpc.identity,
        "RegionId": account.region,
        "CidrBlock": vpc.block,
        "Ipv6CidrBlock": vpc.ipv6_block or "",
        "SecondaryCidrBlocks": {"SecondaryCidrBlock": []},
        "VSwitchIds": {"VSwitchId": [item.identity for item in account.tables.vswitches]},
        "RouterTableIds": {"RouterTableIds": [vpc.route_table]},
        "Status": "Available",
    }


@action(
    "vpc",
    "DescribeRouteTableList",
    optional="PageNumber PageSize ResourceGroupId RouteTableId RouteTableName RouteTableType RouterId RouterType VpcId",
)
def describe_route_table_list(account: Account, parameters: Parameters) -> Answer:
    """VPC 2016-04-28 DescribeRouteTableList: lists the system route table of the VPC."""
    fits = parameters.text("VpcId") in ("", account.vpc.identity)
    fits = fits and parameters.text("RouteTableId") in ("", account.vpc.route_table)
    page, numbers = paging.by_number([account.vpc] if fits else [], parameters)
    tables = [
        {
            "RouteTableId": vpc.route_table,
            "RouteTableType": "System",
            "VpcId": vpc.identity,
            "Status": "Available",
            "VSwitchIds": {"VSwitchId": [item.identity for item in account.tables.vswitches]},
        }
        for vpc in page
    ]
    return {**numbers, "RouterTableList": {"RouterTableListType": tables}}


@action(
    "vpc",
    "CreateVSwitchCidrReservation",
    required="RegionId VSwitchId",
    optional="ClientToken IpVersion VSwitchCidrReservationCidr VSwitchCidrReservationDescription "
    "VSwitchCidrReservationMask VSwitchCidrReservationName VSwitchCidrReservationType Tag",
)
def create_vswitch_cidr_reservation(account: Account, parameters: Parameters) -> Answer:
    """VPC 2016-04-28 CreateVSwitchCidrReservation: reserves a block of a vSwitch for prefixes of ENIs."""
    vswitch = account.vswitch(parameters.required("VSwitchId"))
    block = _block(parameters.required("VSwitchCidrReservationCidr"))
    if not block.subnet_of(IPv4Network(vswitch.block)):
        raise invalid("VSwitchCidrReservationCidr", f"is not inside {vswitch.block}")
    if not account.reserved_addresses(vswitch.identity).isdisjoint(addressing.addresses_in(str(block))):
        raise Refusal("InvalidVSwitchCidrReservationCidr.Conflict", f"{block} overlaps another reservation.")
    created = account.tables.reservations.put(
        Reservation(
            account.new_id("vcr-"),
            vswitch.identity,
            str(block),
            parameters.text("VSwitchCidrReservationName"),
            parameters.tags(),
        )
    )
    return {"VSwitchCidrReservationId": created.identity}


def _block(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise invalid("VSwitchCidrReservationCidr", "is not an IPv4 block") from None


@action(
    "vpc",
    "DescribeEipAddresses",
    optional="AllocationId AssociatedInstanceId AssociatedInstanceType EipAddress PageNumber PageSize Status Tag",
)
def describe_eip_addresses(account: Account, parameters: Parameters) -> Answer:
    """VPC 2016-04-28 DescribeEipAddresses: lists the EIPs that pass all filters."""
    found = [eip for eip in account.tables.eips if _eip_passes(eip, parameters)]
    page, numbers = paging.by_number(found, parameters, most=100)
    return {**numbers, "EipAddresses": {"EipAddress": [_eip(account, eip) for eip in page]}}


def _eip_passes(eip: EIP, parameters: Parameters) -> bool:
    exact = {
        "AllocationId": eip.identity,
        "AssociatedInstanceId": eip.instance,
        "EipAddress": eip.address,
        "Status": "InUse" if eip.instance else "Available",
    }
    return all(parameters.text(name) in ("", value) for name, value in exact.items()) and has_tags(eip.tags, parameters)


def _eip(account: Account, eip: EIP) -> dict[str, Any]:
    return {
        "AllocationId": eip.identity,
        "IpAddress": eip.address,
        "InstanceId": eip.instance,
        "InstanceType": eip.instance_type,
        "PrivateIpAddress": eip.private_address,
        "RegionId": account.region,
        "Status": "InUse" if eip.instance else "Available",
        "Tags": {"Tag": _tags(eip.tags)},
    }


@action(
    "vpc",
    "AllocateEipAddress",
    required="RegionId",
    optional="Bandwidth ClientToken ISP InstanceChargeType InternetChargeType Name ResourceGroupId Tag",
)
def allocate_eip_address(account: Account, parameters: Parameters) -> Answer:
    """VPC 2016-04-28 AllocateEipAddress: allocates an EIP."""
    created = account.tables.eips.put(
        EIP(account.new_id("eip-"), account.choose_public_address(), tags=parameters.tags())
    )
    return {"AllocationId": created.identity, "EipAddress": created.address}


@action(
    "vpc",
    "AssociateEipAddress",
    required="RegionId AllocationId InstanceId",
    optional="ClientToken InstanceType Mode PrivateIpAddress",
)
def associate_eip_address(account: Account, parameters: Parameters) -> Answer:
    """VPC 2016-04-28 AssociateEipAddress: binds an EIP to an instance, an address of an ENI or a load balancer."""
    eip = _eip_by_id(account, parameters.required("AllocationId"))
    if eip.instance:
        raise Refusal("IncorrectEipStatus", f"The address {eip.address} is bound already.")
    kinds = ("EcsInstance", "NetworkInterface", "SlbInstance")
    account.tables.eips.put(
        replace(
            eip,
            instance=parameters.required("InstanceId"),
            instance_type=parameters.one_of("InstanceType", kinds, "EcsInstance"),
            private_address=parameters.text("PrivateIpAddress"),
        )
    )
    return {}


@action(
    "vpc",
    "UnassociateEipAddress",
    required="RegionId AllocationId",
    optional="ClientToken Force InstanceId InstanceType PrivateIpAddress",
)
def unassociate_eip_address(account: Account, parameters: Parameters) -> Answer:
    """VPC 2016-04-28 UnassociateEipAddress: unbinds an EIP."""
    eip = _eip_by_id(account, parameters.required("AllocationId"))
    if not eip.instance:
        raise Refusal("IncorrectEipStatus", f"The address {eip.address} is not bound.")
    account.tables.eips.put(replace(eip, instance="", instance_type="", private_address=""))
    return {}


@action("vpc", "ReleaseEipAddress", required="AllocationId")
def release_eip_address(account: Account, parameters: Parameters) -> Answer:
    """VPC 2016-04-28 ReleaseEipAddress: releases an unbound EIP."""
    eip = _eip_by_id(account, parameters.required("AllocationId"))
    if eip.instance:
        raise Refusal("IncorrectEipStatus", f"The address {eip.address} is still bound.")
    account.tables.eips.remove(eip.identity)
    return {}


def _eip_by_id(account: Account, identity: str) -> EIP:
    if (found := account.tables.eips.get(identity)) is None:
        raise not_found("InvalidAllocationId.NotFound", "elastic IP address", identity)
    return found

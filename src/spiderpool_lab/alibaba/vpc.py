"""VPC: vSwitches, the VPC itself, its route tables, reserved blocks, public addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Any

from spiderpool_lab.alibaba import addressing, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.ecs_enis import tagged
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, absent, invalid
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.resources import EIP, Reservation, VSwitchResource


@action(
    "vpc",
    "DescribeVSwitches",
    known="PageNumber PageSize ResourceGroupId RouteTableId Tag VSwitchId VSwitchName VpcId ZoneId",
)
def describe_vswitches(account: Account, parameters: Parameters) -> Answer:
    """The vSwitches that pass every filter, with the number of addresses that each can still give."""
    wanted = set(filter(None, parameters.text("VSwitchId").split(",")))
    found = [item for item in account.world.vswitches if _passes(account, item, wanted, parameters)]
    page, numbers = paging.by_number(found, parameters)
    return {**numbers, "VSwitches": {"VSwitch": [_vswitch(account, item) for item in page]}}


def _passes(account: Account, item: VSwitchResource, wanted: set[str], parameters: Parameters) -> bool:
    exact = {"VpcId": account.vpc.identity, "ZoneId": item.zone, "VSwitchName": item.name}
    return (
        (not wanted or item.identity in wanted)
        and all(parameters.text(name) in ("", value) for name, value in exact.items())
        and tagged(item.tags, parameters)
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
        "AvailableIpAddressCount": account.free_count(item),
        "Status": "Available",
        "IsDefault": False,
        "RouteTable": {"RouteTableId": account.vpc.route_table, "RouteTableType": "System"},
        "Tags": {"Tag": _tags(item.tags)},
    }


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as VPC and NLB write them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@action("vpc", "DescribeVpcs", known="PageNumber PageSize ResourceGroupId VpcId VpcName")
def describe_vpcs(account: Account, parameters: Parameters) -> Answer:
    """The VPC of the account, unless another is asked for."""
    wanted = set(filter(None, parameters.text("VpcId").split(",")))
    found = [account.vpc] if not wanted or account.vpc.identity in wanted else []
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
        "VSwitchIds": {"VSwitchId": [item.identity for item in account.world.vswitches]},
        "RouterTableIds": {"RouterTableIds": [vpc.route_table]},
        "Status": "Available",
    }


@action(
    "vpc",
    "DescribeRouteTableList",
    known="PageNumber PageSize ResourceGroupId RouteTableId RouteTableName RouteTableType RouterId RouterType VpcId",
)
def describe_route_table_list(account: Account, parameters: Parameters) -> Answer:
    """The one route table of the VPC."""
    fits = parameters.text("VpcId") in ("", account.vpc.identity)
    fits = fits and parameters.text("RouteTableId") in ("", account.vpc.route_table)
    page, numbers = paging.by_number([account.vpc] if fits else [], parameters)
    tables = [
        {
            "RouteTableId": vpc.route_table,
            "RouteTableType": "System",
            "VpcId": vpc.identity,
            "Status": "Available",
            "VSwitchIds": {"VSwitchId": [item.identity for item in account.world.vswitches]},
        }
        for vpc in page
    ]
    return {**numbers, "RouterTableList": {"RouterTableListType": tables}}


@action(
    "vpc",
    "CreateVSwitchCidrReservation",
    needed="RegionId VSwitchId",
    known="ClientToken IpVersion VSwitchCidrReservationCidr VSwitchCidrReservationDescription "
    "VSwitchCidrReservationMask VSwitchCidrReservationName VSwitchCidrReservationType Tag",
)
def create_vswitch_cidr_reservation(account: Account, parameters: Parameters) -> Answer:
    """Keep a block of a vSwitch for the prefixes of ENIs."""
    vswitch = account.vswitch(parameters.needed("VSwitchId"))
    block = _block(parameters.needed("VSwitchCidrReservationCidr"))
    if not block.subnet_of(IPv4Network(vswitch.block)):
        raise invalid("VSwitchCidrReservationCidr", f"is not inside {vswitch.block}")
    if not account.reserved_in(vswitch.identity).isdisjoint(addressing.inside(str(block))):
        raise Refusal("InvalidVSwitchCidrReservationCidr.Conflict", f"{block} overlaps another reservation.")
    made = account.world.reservations.put(
        Reservation(
            account.new_id("vcr-"),
            vswitch.identity,
            str(block),
            parameters.text("VSwitchCidrReservationName"),
            parameters.tags(),
        )
    )
    return {"VSwitchCidrReservationId": made.identity}


def _block(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise invalid("VSwitchCidrReservationCidr", "is not an IPv4 block") from None


@action(
    "vpc",
    "DescribeEipAddresses",
    known="AllocationId AssociatedInstanceId AssociatedInstanceType EipAddress PageNumber PageSize Status Tag",
)
def describe_eip_addresses(account: Account, parameters: Parameters) -> Answer:
    """The public addresses that pass every filter."""
    found = [eip for eip in account.world.eips if _eip_passes(eip, parameters)]
    page, numbers = paging.by_number(found, parameters, most=100)
    return {**numbers, "EipAddresses": {"EipAddress": [_eip(account, eip) for eip in page]}}


def _eip_passes(eip: EIP, parameters: Parameters) -> bool:
    exact = {
        "AllocationId": eip.identity,
        "AssociatedInstanceId": eip.instance,
        "EipAddress": eip.address,
        "Status": "InUse" if eip.instance else "Available",
    }
    return all(parameters.text(name) in ("", value) for name, value in exact.items()) and tagged(eip.tags, parameters)


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
    needed="RegionId",
    known="Bandwidth ClientToken ISP InstanceChargeType InternetChargeType Name ResourceGroupId Tag",
)
def allocate_eip_address(account: Account, parameters: Parameters) -> Answer:
    """A public address of our own."""
    made = account.world.eips.put(EIP(account.new_id("eip-"), account.take_public(), tags=parameters.tags()))
    return {"AllocationId": made.identity, "EipAddress": made.address}


@action(
    "vpc",
    "AssociateEipAddress",
    needed="RegionId AllocationId InstanceId",
    known="ClientToken InstanceType Mode PrivateIpAddress",
)
def associate_eip_address(account: Account, parameters: Parameters) -> Answer:
    """Bind a public address to an instance, an ENI's address or a balancer."""
    eip = _existing(account, parameters.needed("AllocationId"))
    if eip.instance:
        raise Refusal("IncorrectEipStatus", f"The address {eip.address} is bound already.")
    kinds = ("EcsInstance", "NetworkInterface", "SlbInstance")
    account.world.eips.put(
        replace(
            eip,
            instance=parameters.needed("InstanceId"),
            instance_type=parameters.one_of("InstanceType", kinds, "EcsInstance"),
            private_address=parameters.text("PrivateIpAddress"),
        )
    )
    return {}


@action(
    "vpc",
    "UnassociateEipAddress",
    needed="RegionId AllocationId",
    known="ClientToken Force InstanceId InstanceType PrivateIpAddress",
)
def unassociate_eip_address(account: Account, parameters: Parameters) -> Answer:
    """Take a public address off what it is bound to."""
    eip = _existing(account, parameters.needed("AllocationId"))
    if not eip.instance:
        raise Refusal("IncorrectEipStatus", f"The address {eip.address} is not bound.")
    account.world.eips.put(replace(eip, instance="", instance_type="", private_address=""))
    return {}


@action("vpc", "ReleaseEipAddress", needed="AllocationId")
def release_eip_address(account: Account, parameters: Parameters) -> Answer:
    """Give a public address back."""
    eip = _existing(account, parameters.needed("AllocationId"))
    if eip.instance:
        raise Refusal("IncorrectEipStatus", f"The address {eip.address} is still bound.")
    account.world.eips.remove(eip.identity)
    return {}


def _existing(account: Account, identity: str) -> EIP:
    if (found := account.world.eips.get(identity)) is None:
        raise absent("InvalidAllocationId.NotFound", "elastic IP address", identity)
    return found

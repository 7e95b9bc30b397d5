"""ECS: instances, instance types with their quotas, security groups."""

from __future__ import annotations

from typing import Any

from spiderpool_lab.alibaba import paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.ecs_enis import describe_addresses, describe_tags, tagged, timestamp
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, absent, invalid
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.resources import Instance, InstanceType, NetworkInterface, SecurityGroup

INSTANCES_MAX = 100
TYPES_MAX = 10


@action(
    "ecs",
    "DescribeInstances",
    needed="RegionId",
    known="InstanceIds InstanceName InstanceNetworkType InstanceType MaxResults NextToken PageNumber PageSize "
    "PrivateIpAddresses ResourceGroupId SecurityGroupId Status Tag VSwitchId VpcId ZoneId",
)
def describe_instances(account: Account, parameters: Parameters) -> Answer:
    """The instances that pass every filter; one that does not exist is left out without an error."""
    wanted = [str(item) for item in parameters.json_list("InstanceIds")]
    if len(wanted) > INSTANCES_MAX:
        raise Refusal("InvalidInstanceIds.Malformed", f"InstanceIds has more than {INSTANCES_MAX} values.")
    found = [item for item in account.world.instances if _passes(account, item, wanted, parameters)]
    if "MaxResults" in parameters or "NextToken" in parameters:
        page, token = paging.by_token(found, parameters, default=10, most=100)
        return {"TotalCount": len(found), "NextToken": token, "Instances": _instances(account, page)}
    page, numbers = paging.by_number(found, parameters, most=100)
    return {**numbers, "NextToken": "", "Instances": _instances(account, page)}


def _passes(account: Account, item: Instance, wanted: list[str], parameters: Parameters) -> bool:
    enis = account.enis_of(item.identity)
    exact = {
        "InstanceName": item.name,
        "InstanceType": item.instance_type,
        "InstanceNetworkType": "vpc",
        "Status": item.status,
        "VpcId": account.vpc.identity,
        "ZoneId": item.zone,
    }
    vswitch, group = parameters.text("VSwitchId"), parameters.text("SecurityGroupId")
    addresses = {str(address) for address in parameters.json_list("PrivateIpAddresses")}
    return (
        (not wanted or item.identity in wanted)
        and all(parameters.text(name) in ("", value) for name, value in exact.items())
        and (not vswitch or any(eni.vswitch == vswitch for eni in enis))
        and (not group or any(group in eni.security_groups for eni in enis))
        and (not addresses or any(not addresses.isdisjoint(eni.addresses) for eni in enis))
        and tagged(item.tags, parameters)
    )


def _instances(account: Account, found: Any) -> dict[str, Any]:
    return {"Instance": [_instance(account, item) for item in found]}


def _instance(account: Account, item: Instance) -> dict[str, Any]:
    enis = account.enis_of(item.identity)
    first = enis[0] if enis else None
    kind = account.world.instance_types.get(item.instance_type)
    return {
        "InstanceId": item.identity,
        "InstanceName": item.name,
        "HostName": item.name,
        "InstanceType": item.instance_type,
        "InstanceTypeFamily": item.instance_type.rpartition(".")[0],
        "InstanceNetworkType": "vpc",
        "InstanceChargeType": "PostPaid",
        "SpotStrategy": "NoSpot",
        "Cpu": kind.cpus if kind else 0,
        "Memory": int(kind.memory * 1024) if kind else 0,
        "RegionId": account.region,
        "ZoneId": item.zone,
        "Status": item.status,
        "CreationTime": timestamp(item.created),
        "InnerIpAddress": {"IpAddress": []},
        "PublicIpAddress": {"IpAddress": []},
        "EipAddress": _eip(account, item),
        "SecurityGroupIds": {"SecurityGroupId": list(first.security_groups) if first else []},
        "VpcAttributes": {
            "VpcId": account.vpc.identity,
            "VSwitchId": first.vswitch if first else "",
            "PrivateIpAddress": {"IpAddress": [first.address] if first else []},
            "NatIpAddress": "",
        },
        "NetworkInterfaces": {"NetworkInterface": [_eni(eni) for eni in enis]},
        "Tags": {"Tag": describe_tags(item.tags)},
    }


def _eip(account: Account, item: Instance) -> dict[str, Any]:
    bound = next((eip for eip in account.world.eips if eip.instance == item.identity), None)
    return (
        {"IpAddress": bound.address, "AllocationId": bound.identity} if bound else {"IpAddress": "", "AllocationId": ""}
    )


def _eni(eni: NetworkInterface) -> dict[str, Any]:
    return {
        "NetworkInterfaceId": eni.identity,
        "MacAddress": eni.mac,
        "PrimaryIpAddress": eni.address,
        "Type": "Primary" if eni.primary else "Secondary",
        **describe_addresses(eni),
    }


@action("ecs", "DescribeInstanceTypes", known="InstanceTypes InstanceTypeFamily MaxResults NextToken")
def describe_instance_types(account: Account, parameters: Parameters) -> Answer:
    """Instance types and what each may have."""
    wanted = parameters.texts("InstanceTypes")
    if len(wanted) > TYPES_MAX:
        raise invalid("InstanceTypes", f"has more than {TYPES_MAX} values")
    family = parameters.text("InstanceTypeFamily")
    found = [
        kind
        for kind in account.world.instance_types
        if (not wanted or kind.identity in wanted) and family in ("", kind.identity.rpartition(".")[0])
    ]
    page, token = paging.by_token(found, parameters, default=100, most=1600)
    return {"NextToken": token, "InstanceTypes": {"InstanceType": [_type(kind) for kind in page]}}


def _type(kind: InstanceType) -> dict[str, Any]:
    return {
        "InstanceTypeId": kind.identity,
        "InstanceTypeFamily": kind.identity.rpartition(".")[0],
        "CpuCoreCount": kind.cpus,
        "CpuArchitecture": "X86",
        "MemorySize": kind.memory,
        "EniQuantity": kind.enis,
        "EniTotalQuantity": kind.enis,
        "EniPrivateIpAddressQuantity": kind.addresses,
        "EniIpv6AddressQuantity": kind.ipv6_addresses,
        "EniTrunkSupported": False,
        "EriQuantity": 0,
    }


@action(
    "ecs",
    "DescribeSecurityGroups",
    needed="RegionId",
    known="MaxResults NextToken PageNumber PageSize SecurityGroupId SecurityGroupIds Tag VpcId",
)
def describe_security_groups(account: Account, parameters: Parameters) -> Answer:
    """The security groups that pass every filter."""
    wanted = [str(item) for item in parameters.json_list("SecurityGroupIds")]
    if single := parameters.text("SecurityGroupId"):
        wanted.append(single)
    if parameters.text("VpcId") not in ("", account.vpc.identity):
        raise absent("InvalidVpcId.NotFound", "VPC", parameters.text("VpcId"))
    found = [
        group
        for group in account.world.security_groups
        if (not wanted or group.identity in wanted) and tagged(group.tags, parameters)
    ]
    page, token = paging.by_token(found, parameters, default=10, most=100)
    return {
        "RegionId": account.region,
        "TotalCount": len(found),
        "NextToken": token,
        "SecurityGroups": {"SecurityGroup": [_group(account, group) for group in page]},
    }


def _group(account: Account, group: SecurityGroup) -> dict[str, Any]:
    members = sum(group.identity in eni.security_groups for eni in account.world.enis)
    return {
        "SecurityGroupId": group.identity,
        "SecurityGroupName": group.name,
        "SecurityGroupType": "normal",
        "VpcId": account.vpc.identity,
        "AvailableInstanceAmount": max(0, group.capacity - members),
        "Tags": {"Tag": describe_tags(group.tags)},
    }

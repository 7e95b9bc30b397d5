"""Actions of ECS 2014-05-26 that describe instances and instance types with their quotas."""

from __future__ import annotations

from typing import Any

from spiderpool_lab.alibaba import paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.ecs_enis import describe_addresses, describe_tags, has_tags, timestamp
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.resources import Instance, InstanceType, NetworkInterface

INSTANCES_MAX = 100
TYPES_MAX = 10
"""IDs that one call may name."""


@action(
    "ecs",
    "DescribeInstances",
    required="RegionId",
    optional="InstanceIds InstanceName InstanceNetworkType InstanceType MaxResults NextToken PageNumber PageSize "
    "PrivateIpAddresses ResourceGroupId SecurityGroupId Status Tag VSwitchId VpcId ZoneId",
)
def describe_instances(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 DescribeInstances: lists the instances that pass all filters; unknown IDs are left out."""
    identities = [str(item) for item in parameters.json_list("InstanceIds")]
    if len(identities) > INSTANCES_MAX:
        raise Refusal("InvalidInstanceIds.Malformed", f"InstanceIds has more than {INSTANCES_MAX} values.")
    found = [item for item in account.tables.instances if _passes(account, item, identities, parameters)]
    if "MaxResults" in parameters or "NextToken" in parameters:
        page, token = paging.by_token(found, parameters, default=10, most=100)
        return {"TotalCount": len(found), "NextToken": token, "Instances": _instances(account, page)}
    page, numbers = paging.by_number(found, parameters, most=100)
    return {**numbers, "NextToken": "", "Instances": _instances(account, page)}


def _passes(account: Account, item: Instance, identities: list[str], parameters: Parameters) -> bool:
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
        (not identities or item.identity in identities)
        and all(parameters.text(name) in ("", value) for name, value in exact.items())
        and (not vswitch or any(eni.vswitch == vswitch for eni in enis))
        and (not group or any(group in eni.security_groups for eni in enis))
        and (not addresses or any(not addresses.isdisjoint(eni.addresses) for eni in enis))
        and has_tags(item.tags, parameters)
    )


def _instances(account: Account, found: Any) -> dict[str, Any]:
    return {"Instance": [_instance(account, item) for item in found]}


def _instance(account: Account, item: Instance) -> dict[str, Any]:
    enis = account.enis_of(item.identity)
    first = enis[0] if enis else None
    instance_type = account.tables.instance_types.get(item.instance_type)
    return {
        "InstanceId": item.identity,
        "InstanceName": item.name,
        "HostName": item.name,
        "InstanceType": item.instance_type,
        "InstanceTypeFamily": item.instance_type.rpartition(".")[0],
        "InstanceNetworkType": "vpc",
        "InstanceChargeType": "PostPaid",
        "SpotStrategy": "NoSpot",
        "Cpu": instance_type.cpus if instance_type else 0,
        "Memory": int(instance_type.memory * 1024) if instance_type else 0,
        "RegionId": account.region,
        "ZoneId": item.zone,
        "Status": item.status,
        "CreationTime": timestamp(item.created),
        "InnerIpAddress": {"IpAddress": []},
        "PublicIpAddress": {"IpAddress": []},
        "EipAddress": _eip(account, item),
        "SecurityGroupIds": {"SecurityGroupId": list(first.security_groups) if first else []},
        "VpcAttributes": _vpc_attributes(account, first),
        "NetworkInterfaces": {"NetworkInterface": [_eni(eni) for eni in enis]},
        "Tags": {"Tag": describe_tags(item.tags)},
    }


def _vpc_attributes(account: Account, primary: NetworkInterface | None) -> dict[str, Any]:
    return {
        "VpcId": account.vpc.identity,
        "VSwitchId": primary.vswitch if primary else "",
        "PrivateIpAddress": {"IpAddress": [primary.address] if primary else []},
        "NatIpAddress": "",
    }


def _eip(account: Account, item: Instance) -> dict[str, Any]:
    bound = next((eip for eip in account.tables.eips if eip.instance == item.identity), None)
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


@action("ecs", "DescribeInstanceTypes", optional="InstanceTypes InstanceTypeFamily MaxResults NextToken")
def describe_instance_types(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 DescribeInstanceTypes: lists instance types with their quotas."""
    identities = parameters.texts("InstanceTypes")
    if len(identities) > TYPES_MAX:
        raise invalid("InstanceTypes", f"has more than {TYPES_MAX} values")
    family = parameters.text("InstanceTypeFamily")
    found = [
        instance_type
        for instance_type in account.tables.instance_types
        if (not identities or instance_type.identity in identities)
        and family in ("", instance_type.identity.rpartition(".")[0])
    ]
    page, token = paging.by_token(found, parameters, default=100, most=1600)
    return {"NextToken": token, "InstanceTypes": {"InstanceType": [_type(instance_type) for instance_type in page]}}


def _type(instance_type: InstanceType) -> dict[str, Any]:
    return {
        "InstanceTypeId": instance_type.identity,
        "InstanceTypeFamily": instance_type.identity.rpartition(".")[0],
        "CpuCoreCount": instance_type.cpus,
        "CpuArchitecture": "X86",
        "MemorySize": instance_type.memory,
        "EniQuantity": instance_type.enis,
        "EniTotalQuantity": instance_type.enis,
        "EniPrivateIpAddressQuantity": instance_type.addresses,
        "EniIpv6AddressQuantity": instance_type.ipv6_addresses,
        "EniTrunkSupported": False,
        "EriQuantity": 0,
    }

# mypy: disable-error-code="import-untyped"
"""ECS and VPC as the vendor's own clients see them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException

from spiderpool_lab.alibaba.account import Account, Delays
from spiderpool_lab.alibaba.tables import TableChange
from tests.lab.alibaba.conftest import Clients, Clock

pytestmark = pytest.mark.unit


async def refused(clients: Clients, product: str, action: str, **parameters: Any) -> str:
    with pytest.raises(AlibabaCloudException) as caught:
        await clients.call(product, action, **parameters)
    code: str = caught.value.code
    return code


def private(eni: dict[str, Any]) -> list[str]:
    return [item["PrivateIpAddress"] for item in eni["PrivateIpSets"]["PrivateIpSet"]]


async def enis(clients: Clients, **filters: Any) -> list[dict[str, Any]]:
    answer = await clients.call("ecs", "DescribeNetworkInterfaces", **filters)
    found: list[dict[str, Any]] = answer["NetworkInterfaceSets"]["NetworkInterfaceSet"]
    return found


async def test_enis_are_described_with_their_addresses(clients: Clients) -> None:
    first, second = await enis(clients, InstanceId="i-master")
    assert (first["NetworkInterfaceId"], first["Type"], first["Status"]) == ("eni-master-0", "Primary", "InUse")
    assert (second["NetworkInterfaceId"], second["Type"]) == ("eni-master-1", "Secondary")
    assert first["PrivateIpSets"]["PrivateIpSet"] == [{"PrivateIpAddress": "172.31.199.183", "Primary": True}]
    assert (first["VSwitchId"], first["ZoneId"], first["VpcId"]) == ("vsw-0", "cn-hangzhou-i", "vpc-bp100000000000001")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"Type": "Primary"}, ["eni-master-0", "eni-worker-0"]),
        ({"VSwitchId": "vsw-1"}, ["eni-master-1", "eni-worker-1"]),
        ({"PrivateIpAddress": ["192.168.0.155", "172.31.199.183"]}, ["eni-master-0", "eni-worker-1"]),
        ({"NetworkInterfaceId": ["eni-worker-0", "eni-none"]}, ["eni-worker-0"]),
        ({"SecurityGroupId": "sg-1"}, ["eni-master-1", "eni-worker-1"]),
        ({"Status": "Available"}, []),
        ({"InstanceId": "i-none"}, []),
    ],
)
async def test_enis_are_filtered(clients: Clients, filters: dict[str, Any], found: list[str]) -> None:
    assert [eni["NetworkInterfaceId"] for eni in await enis(clients, **filters)] == found


async def test_long_lists_come_in_pages_of_at_least_ten(account: Account, clients: Clients) -> None:
    for _ in range(20):
        account.add_eni("vsw-0")
    first = await clients.call("ecs", "DescribeNetworkInterfaces", MaxResults=2)
    assert len(first["NetworkInterfaceSets"]["NetworkInterfaceSet"]) == 10
    second = await clients.call("ecs", "DescribeNetworkInterfaces", MaxResults=500, NextToken=first["NextToken"])
    assert len(second["NetworkInterfaceSets"]["NetworkInterfaceSet"]) == 14
    assert second["NextToken"] == ""


async def test_addresses_are_assigned_by_count_within_the_quota(clients: Clients) -> None:
    request = {"NetworkInterfaceId": "eni-master-0", "SecondaryPrivateIpAddressCount": 5}
    answer = await clients.call("ecs", "AssignPrivateIpAddresses", **request)
    given = answer["AssignedPrivateIpAddressesSet"]["PrivateIpSet"]["PrivateIpAddress"]
    assert given == [f"172.31.192.{number}" for number in range(1, 6)]
    assert private((await enis(clients, InstanceId="i-master"))[0]) == ["172.31.199.183", *given]
    request["SecondaryPrivateIpAddressCount"] = 1
    assert await refused(clients, "ecs", "AssignPrivateIpAddresses", **request) == "InvalidOperation.Ipv4CountExceeded"


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("172.31.207.253", "InvalidPrivateIpAddress.Malformed"),
        ("172.31.192.0", "InvalidPrivateIpAddress.Malformed"),
        ("10.0.0.1", "InvalidPrivateIpAddress.Malformed"),
        ("172.31.199.184", "InvalidPrivateIpAddress.Duplicated"),
    ],
)
async def test_addresses_that_cannot_be_assigned(clients: Clients, address: str, code: str) -> None:
    request = {"NetworkInterfaceId": "eni-master-0", "PrivateIpAddress": [address]}
    assert await refused(clients, "ecs", "AssignPrivateIpAddresses", **request) == code


async def test_addresses_are_given_back_once_and_the_primary_never(account: Account, clients: Clients) -> None:
    request = {"NetworkInterfaceId": "eni-master-0", "PrivateIpAddress": ["172.31.199.185", "172.31.199.186"]}
    await clients.call("ecs", "AssignPrivateIpAddresses", **request)
    await clients.call("ecs", "UnassignPrivateIpAddresses", **request)
    assert account.eni_with_address("172.31.199.185") is None
    assert await refused(clients, "ecs", "UnassignPrivateIpAddresses", **request) == "InvalidIp.IpUnassigned"
    request["PrivateIpAddress"] = ["172.31.199.183"]
    assert await refused(clients, "ecs", "UnassignPrivateIpAddresses", **request) == "InvalidIp.IpUnassigned"


async def test_prefixes_are_blocks_of_sixteen(clients: Clients) -> None:
    request = {"NetworkInterfaceId": "eni-master-0", "Ipv4PrefixCount": 2}
    answer = await clients.call("ecs", "AssignPrivateIpAddresses", **request)
    prefixes = answer["AssignedPrivateIpAddressesSet"]["Ipv4PrefixSet"]["Ipv4Prefixes"]
    assert prefixes == ["172.31.192.16/28", "172.31.192.32/28"]
    await clients.call("ecs", "UnassignPrivateIpAddresses", NetworkInterfaceId="eni-master-0", Ipv4Prefix=prefixes)


async def test_ipv6_addresses_have_a_quota_of_their_own(account: Account, clients: Clients) -> None:
    answer = await clients.call("ecs", "AssignIpv6Addresses", NetworkInterfaceId="eni-master-0", Ipv6AddressCount=6)
    given = answer["Ipv6Sets"]["Ipv6Address"]
    assert given[0] == "2408:4005:3c0:1::100"
    more = {"NetworkInterfaceId": "eni-master-0", "Ipv6AddressCount": 1}
    assert await refused(clients, "ecs", "AssignIpv6Addresses", **more) == "InvalidOperation.Ipv6CountExceeded"
    other = {"NetworkInterfaceId": "eni-master-1", "Ipv6AddressCount": 1}
    assert await refused(clients, "ecs", "AssignIpv6Addresses", **other) == "InvalidVSwitchId.Ipv6NotEnabled"
    await clients.call("ecs", "UnassignIpv6Addresses", NetworkInterfaceId="eni-master-0", Ipv6Address=given[:2])
    assert account.eni_with_address(given[0]) is None


async def test_a_full_vswitch_gives_nothing(account: Account, clients: Clients) -> None:
    account.set_full("vsw-0")
    request = {"NetworkInterfaceId": "eni-master-0", "SecondaryPrivateIpAddressCount": 1}
    assert await refused(clients, "ecs", "AssignPrivateIpAddresses", **request) == "InvalidVSwitchId.IpNotEnough"
    answer = await clients.call("vpc", "DescribeVSwitches", VSwitchId="vsw-0")
    assert answer["VSwitches"]["VSwitch"][0]["AvailableIpAddressCount"] == 0
    account.set_full("vsw-0", full=False)
    await clients.call("ecs", "AssignPrivateIpAddresses", **request)


async def test_free_addresses_are_counted_down_to_none(account: Account, clients: Clients) -> None:
    account.add_vswitch("192.168.9.0/29", identity="vsw-small")

    async def free() -> int:
        answer = await clients.call("vpc", "DescribeVSwitches", VSwitchId="vsw-small")
        count: int = answer["VSwitches"]["VSwitch"][0]["AvailableIpAddressCount"]
        return count

    assert await free() == 4
    request = {"VSwitchId": "vsw-small", "SecurityGroupId": "sg-1", "SecondaryPrivateIpAddressCount": 3}
    made = await clients.call("ecs", "CreateNetworkInterface", **request)
    assert private(made) == [f"192.168.9.{number}" for number in range(1, 5)]
    assert await free() == 0
    assert await refused(clients, "ecs", "CreateNetworkInterface", **request) == "InvalidVSwitchId.IpNotEnough"


async def test_a_eni_is_created_attached_detached_and_deleted(account: Account, clients: Clients) -> None:
    clock = Clock()
    account.clock = clock
    account.identities.clear()
    clients.identity = account.add_identity()
    clock.now = time.time()
    account.delays = Delays(eni=10)
    tags = [{"Key": "owner", "Value": "us"}]
    made = await clients.call("ecs", "CreateNetworkInterface", VSwitchId="vsw-1", SecurityGroupId="sg-1", Tag=tags)
    assert made["Tags"]["Tag"] == [{"TagKey": "owner", "TagValue": "us"}]
    eni = made["NetworkInterfaceId"]
    pair = {"NetworkInterfaceId": eni, "InstanceId": "i-master"}

    async def status() -> str:
        text: str = (await enis(clients, NetworkInterfaceId=[eni]))[0]["Status"]
        return text

    await clients.call("ecs", "AttachNetworkInterface", **pair)
    assert await status() == "Attaching"
    assert await refused(clients, "ecs", "DetachNetworkInterface", **pair) == "InvalidOperation.InvalidEniState"
    clock.now += 11
    assert await status() == "InUse"
    assert await refused(clients, "ecs", "DeleteNetworkInterface", NetworkInterfaceId=eni) == (
        "InvalidOperation.InvalidEniState"
    )
    await clients.call("ecs", "DetachNetworkInterface", **pair)
    clock.now += 11
    await clients.call("ecs", "DeleteNetworkInterface", NetworkInterfaceId=eni)
    assert await refused(clients, "ecs", "DeleteNetworkInterface", NetworkInterfaceId=eni) == "InvalidEniId.NotFound"


async def test_an_instance_takes_as_many_enis_as_its_type_says(account: Account, clients: Clients) -> None:
    spare = [account.add_eni("vsw-1").identity for _ in range(2)]
    await clients.call("ecs", "AttachNetworkInterface", NetworkInterfaceId=spare[0], InstanceId="i-master")
    request = {"NetworkInterfaceId": spare[1], "InstanceId": "i-master"}
    assert await refused(clients, "ecs", "AttachNetworkInterface", **request) == "EniPerInstanceLimitExceeded"
    request["InstanceId"] = "i-none"
    assert await refused(clients, "ecs", "AttachNetworkInterface", **request) == "InvalidEcsId.NotFound"


async def test_the_source_check_is_switched_off(account: Account, clients: Clients) -> None:
    request = {"NetworkInterfaceId": "eni-master-0", "SourceDestCheck": False, "Description": "routes"}
    await clients.call("ecs", "ModifyNetworkInterfaceAttribute", **request)
    eni = (await enis(clients, InstanceId="i-master"))[0]
    assert (eni["SourceDestCheck"], eni["Description"]) == (False, "routes")


async def test_instances_are_described_and_a_lost_one_is_left_out(account: Account, clients: Clients) -> None:
    ids = json.dumps(["i-master", "i-worker"])
    answer = await clients.call("ecs", "DescribeInstances", InstanceIds=ids)
    found = {item["InstanceId"]: item for item in answer["Instances"]["Instance"]}
    assert found["i-master"]["VpcAttributes"]["PrivateIpAddress"]["IpAddress"] == ["172.31.199.183"]
    assert (found["i-master"]["Status"], found["i-master"]["ZoneId"]) == ("Running", "cn-hangzhou-i")
    account.delete_instance("i-worker")
    answer = await clients.call("ecs", "DescribeInstances", InstanceIds=ids)
    assert [item["InstanceId"] for item in answer["Instances"]["Instance"]] == ["i-master"]
    assert await enis(clients, InstanceId="i-worker") == []


async def test_quotas_come_with_the_instance_types(clients: Clients) -> None:
    answer = await clients.call("ecs", "DescribeInstanceTypes", InstanceTypes=["ecs.g7.large"])
    kind = answer["InstanceTypes"]["InstanceType"][0]
    assert (kind["EniQuantity"], kind["EniPrivateIpAddressQuantity"], kind["EniIpv6AddressQuantity"]) == (3, 6, 6)


async def test_security_groups(clients: Clients) -> None:
    answer = await clients.call("ecs", "DescribeSecurityGroups", SecurityGroupIds='["sg-1"]')
    assert answer["SecurityGroups"]["SecurityGroup"][0]["AvailableInstanceAmount"] == 1996


async def test_tags(clients: Clients) -> None:
    what = {"ResourceType": "eni", "ResourceId": ["eni-master-0"]}
    await clients.call("ecs", "TagResources", **what, Tag=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    await clients.call("ecs", "UntagResources", **what, TagKey=["a"])
    answer = await clients.call("ecs", "ListTagResources", **what)
    assert [(row["TagKey"], row["TagValue"]) for row in answer["TagResources"]["TagResource"]] == [("b", "2")]
    found = await enis(clients, Tag=[{"Key": "b", "Value": "2"}])
    assert [eni["NetworkInterfaceId"] for eni in found] == ["eni-master-0"]


async def test_vpc_and_route_table(clients: Clients) -> None:
    answer = await clients.call("vpc", "DescribeVpcs")
    assert answer["Vpcs"]["Vpc"][0]["VSwitchIds"]["VSwitchId"] == ["vsw-0", "vsw-1"]
    answer = await clients.call("vpc", "DescribeRouteTableList", VpcId="vpc-bp100000000000001")
    assert len(answer["RouterTableList"]["RouterTableListType"]) == 1
    answer = await clients.call("vpc", "DescribeVSwitches", ZoneId="cn-hangzhou-i", PageSize=1)
    assert (answer["TotalCount"], len(answer["VSwitches"]["VSwitch"])) == (2, 1)


async def test_a_reserved_block_is_not_given_out_singly(clients: Clients) -> None:
    block = {"VSwitchId": "vsw-0", "VSwitchCidrReservationCidr": "172.31.192.0/28"}
    await clients.call("vpc", "CreateVSwitchCidrReservation", **block)
    request = {"NetworkInterfaceId": "eni-master-0", "SecondaryPrivateIpAddressCount": 1}
    answer = await clients.call("ecs", "AssignPrivateIpAddresses", **request)
    assert answer["AssignedPrivateIpAddressesSet"]["PrivateIpSet"]["PrivateIpAddress"] == ["172.31.192.16"]


async def test_public_addresses(clients: Clients) -> None:
    made = await clients.call("vpc", "AllocateEipAddress")
    assert made["EipAddress"] == "198.51.100.65"
    which = {"AllocationId": made["AllocationId"]}
    await clients.call("vpc", "AssociateEipAddress", **which, InstanceId="i-master", InstanceType="EcsInstance")
    answer = await clients.call("vpc", "DescribeEipAddresses", AssociatedInstanceId="i-master")
    assert answer["EipAddresses"]["EipAddress"][0]["Status"] == "InUse"
    assert await refused(clients, "vpc", "ReleaseEipAddress", **which) == "IncorrectEipStatus"
    await clients.call("vpc", "UnassociateEipAddress", **which, InstanceId="i-master")
    await clients.call("vpc", "ReleaseEipAddress", **which)


async def test_changes_are_told_as_they_happen(account: Account, clients: Clients) -> None:
    told: list[TableChange] = []
    unsubscribe = account.subscribe(told.append)
    request = {"NetworkInterfaceId": "eni-master-0", "PrivateIpAddress": ["172.31.199.185"]}
    await clients.call("ecs", "AssignPrivateIpAddresses", **request)
    unsubscribe()
    await clients.call("ecs", "UnassignPrivateIpAddresses", **request)
    assert [(change.table, change.identity) for change in told] == [("enis", "eni-master-0")]
    assert (told[0].before.secondaries, told[0].after.secondaries) == ((), ("172.31.199.185",))

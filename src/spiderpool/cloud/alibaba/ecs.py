"""Instances, ENIs and their addresses by ECS 2014-05-26, and vSwitches by VPC 2016-04-28.

The cloud writes IPv6 addresses in more than one way, so all that it names are made canonical.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from spiderpool.cloud.alibaba.answers import (
    PAGE,
    Json,
    address,
    all_objects,
    number,
    objects,
    optional,
    part,
    parts,
    required,
    texts,
)
from spiderpool.cloud.alibaba.client import OpenAPIClient, Product
from spiderpool.cloud.provider import CloudNotFound, CloudServer, CloudUnavailable, Quota, RegisteredENI
from spiderpool.core.cloud.alibaba.provider_ids import parse_provider_id

ECS, VPC = Product("ecs", "2014-05-26"), Product("vpc", "2016-04-28")
ENI_LIST = ("NetworkInterfaceSets", "NetworkInterfaceSet")
"""Path of the ENIs in the answer to DescribeNetworkInterfaces."""
UNASSIGN_LIMIT = {4: 32, 6: 10}
"""Addresses that one call may take from an ENI."""


class ECSCloud:
    """Implements `CloudProvider` with the OpenAPI."""

    def __init__(self, client: OpenAPIClient) -> None:
        self._client = client

    def parse_provider_id(self, text: str) -> tuple[str, str] | None:
        """Returns region and instance of a Node's provider ID; None for a text of another form."""
        return parse_provider_id(text)

    async def instances(self, region: str, identities: Collection[str]) -> Mapping[str, CloudServer]:
        """Returns those of the named instances that exist. Raises CloudUnavailable for an incomplete answer."""
        found: list[Json] = []
        for names in _parts(identities, PAGE):
            sent = {"RegionId": region, "InstanceIds": json.dumps(names)}
            found += await all_objects(self._ecs, "DescribeInstances", sent, "Instances", "Instance")
        return {required(each, "InstanceId"): _server(each) for each in found}

    async def enis(self, region: str, identities: Collection[str]) -> Mapping[str, RegisteredENI]:
        """Returns those of the named ENIs that exist."""
        found: list[Json] = []
        for names in _parts(identities, PAGE):
            sent = {"RegionId": region, "NetworkInterfaceId": names}
            found += await all_objects(self._ecs, "DescribeNetworkInterfaces", sent, *ENI_LIST)
        return {required(each, "NetworkInterfaceId"): _eni(each) for each in found}

    async def quota(self, region: str, instance_type: str) -> Quota:
        """Returns the limits of the ENIs of an instance type. Raises CloudNotFound."""
        answer = await self._ecs("DescribeInstanceTypes", {"InstanceTypes": [instance_type]}, region=region)
        for each in objects(answer, "DescribeInstanceTypes", "InstanceTypes", "InstanceType"):
            if each.get("InstanceTypeId") == instance_type:
                # the cloud counts the primary address of an ENI among its IPv4 addresses
                secondary = max(number(each, "EniPrivateIpAddressQuantity") - 1, 0)
                return Quota(secondary, number(each, "EniIpv6AddressQuantity", 0))
        raise CloudNotFound(f"instance type {instance_type} is not known in region {region}")

    async def free_addresses(self, region: str, vswitch: str) -> int:
        """Returns the number of unused addresses of a vSwitch. Raises CloudNotFound."""
        sent = {"RegionId": region, "VSwitchId": vswitch}
        answer = await self._client.call(VPC, "DescribeVSwitches", sent)
        for each in objects(answer, "DescribeVSwitches", "VSwitches", "VSwitch"):
            if each.get("VSwitchId") == vswitch:
                return number(each, "AvailableIpAddressCount")
        raise CloudNotFound(f"vSwitch {vswitch} is not known in region {region}")

    async def assign(self, region: str, eni: str, version: int, count: int) -> Sequence[str]:
        """Registers ``count`` further addresses on an ENI, chosen by the cloud, and returns them."""
        sent: Json = {"RegionId": region, "NetworkInterfaceId": eni}
        if version == 4:
            sent["SecondaryPrivateIpAddressCount"] = count
            answer = await self._ecs("AssignPrivateIpAddresses", sent, token=True)
            given = part(answer, "AssignedPrivateIpAddressesSet", "PrivateIpSet")
            return _addresses(texts(given, "PrivateIpAddress"), "AssignPrivateIpAddresses")
        sent["Ipv6AddressCount"] = count
        answer = await self._ecs("AssignIpv6Addresses", sent, token=True)
        return _addresses(texts(part(answer, "Ipv6Sets"), "Ipv6Address"), "AssignIpv6Addresses")

    async def unassign(self, region: str, eni: str, version: int, addresses: Collection[str]) -> None:
        """Removes secondary addresses from an ENI. Addresses that are gone already count as removed."""
        for names in _parts(addresses, UNASSIGN_LIMIT[version]):
            try:
                await self._unassign(region, eni, version, names)
            except CloudNotFound:  # one address is gone already, so the call removed none: try each by itself
                for name in names if len(names) > 1 else ():
                    with suppress(CloudNotFound):
                        await self._unassign(region, eni, version, [name])

    async def _unassign(self, region: str, eni: str, version: int, addresses: list[str]) -> None:
        action, parameter = (
            ("UnassignPrivateIpAddresses", "PrivateIpAddress")
            if version == 4
            else ("UnassignIpv6Addresses", "Ipv6Address")
        )
        await self._ecs(action, {"RegionId": region, "NetworkInterfaceId": eni, parameter: addresses})

    async def _ecs(self, action: str, parameters: Json, *, region: str | None = None, token: bool = False) -> Json:
        return await self._client.call(ECS, action, parameters, region=region, token=token)


def _parts(names: Collection[str], size: int) -> Iterator[list[str]]:
    """Yields the names in order, at most ``size`` at a time."""
    ordered = sorted(names)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _addresses(found: Sequence[str], action: str) -> Sequence[str]:
    """Returns the addresses that an answer names. Raises CloudUnavailable for none: the outcome is unknown."""
    if not found:
        raise CloudUnavailable(f"the answer to {action} names no address")
    return list(map(address, found))


def _server(each: Json) -> CloudServer:
    status = optional(each, "Status")
    return CloudServer(
        required(each, "InstanceId"),
        optional(each, "InstanceType"),
        optional(each, "ZoneId"),
        status,
        stopped=status == "Stopped",
        addresses=frozenset(_addresses_of(each)),
    )


def _addresses_of(server: Json) -> Iterator[str]:
    yield from map(address, texts(part(server, "VpcAttributes", "PrivateIpAddress"), "IpAddress"))
    for eni in parts(server, "NetworkInterfaces", "NetworkInterface"):
        for each in parts(eni, "PrivateIpSets", "PrivateIpSet"):
            yield address(required(each, "PrivateIpAddress"))
        for each in parts(eni, "Ipv6Sets", "Ipv6Set"):
            yield address(required(each, "Ipv6Address"))


def _eni(each: Json) -> RegisteredENI:
    sets = parts(each, "PrivateIpSets", "PrivateIpSet")
    secondary = {address(required(one, "PrivateIpAddress")) for one in sets if not one.get("Primary")}
    primary = optional(each, "PrivateIpAddress")
    return RegisteredENI(
        required(each, "NetworkInterfaceId"),
        optional(each, "InstanceId"),
        optional(each, "VSwitchId"),
        optional(each, "Status"),
        primary,
        frozenset(secondary - {primary}),
        frozenset(address(required(one, "Ipv6Address")) for one in parts(each, "Ipv6Sets", "Ipv6Set")),
    )

"""Instances, ENIs and their addresses by ECS 2014-05-26, and vSwitches by VPC 2016-04-28."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.provider import CloudNotFound, CloudServer, CloudUnavailable, Quota, RegisteredENI

ECS, ECS_VERSION = "ecs", "2014-05-26"
VPC, VPC_VERSION = "vpc", "2016-04-28"
PAGE = 100
"""Identities that one call may name, and objects that one answer may hold."""
MAX_PAGES = 50
UNASSIGN_LIMIT = {4: 32, 6: 10}
"""Addresses that one call may take from an ENI."""

Json = dict[str, Any]


class ECSCloud:
    """The protocol ``Cloud`` of Alibaba Cloud."""

    def __init__(self, caller: OpenAPIClient) -> None:
        self._caller = caller

    async def instances(self, region: str, identities: Collection[str]) -> Mapping[str, CloudServer]:
        """Those of the named instances that exist; raises Unavailable for an answer that is not complete."""
        found: list[Json] = []
        for names in _parts(identities, PAGE):
            sent = {"RegionId": region, "InstanceIds": json.dumps(names)}
            found += await self._pages("DescribeInstances", sent, "Instances", "Instance")
        return {each["InstanceId"]: _server(each) for each in found}

    async def enis(self, region: str, identities: Collection[str]) -> Mapping[str, RegisteredENI]:
        """Those of the named ENIs that exist."""
        found: list[Json] = []
        for names in _parts(identities, PAGE):
            sent = {"RegionId": region, "NetworkInterfaceId": names}
            found += await self._pages("DescribeNetworkInterfaces", sent, "NetworkInterfaceSets", "NetworkInterfaceSet")
        return {each["NetworkInterfaceId"]: _eni(each) for each in found}

    async def quota(self, region: str, instance_type: str) -> Quota:
        """Limits of the ENIs of an instance type. Raises NotFound."""
        answer = await self._ecs("DescribeInstanceTypes", {"InstanceTypes": [instance_type]}, region=region)
        for each in _list(answer, "InstanceTypes", "InstanceType"):
            if each.get("InstanceTypeId") == instance_type:
                # the cloud counts the primary address of an ENI among its IPv4 addresses
                secondary = max(int(each["EniPrivateIpAddressQuantity"]) - 1, 0)
                return Quota(secondary, int(each.get("EniIpv6AddressQuantity", 0)))
        raise CloudNotFound(f"instance type {instance_type} is not known in region {region}")

    async def free_addresses(self, region: str, switch: str) -> int:
        """Addresses of a vSwitch that nobody uses. Raises NotFound."""
        sent = {"RegionId": region, "VSwitchId": switch}
        answer = await self._caller.call(VPC, VPC_VERSION, "DescribeVSwitches", sent)
        for each in _list(answer, "VSwitches", "VSwitch"):
            if each.get("VSwitchId") == switch:
                return int(each["AvailableIpAddressCount"])
        raise CloudNotFound(f"vSwitch {switch} is not known in region {region}")

    async def assign(self, region: str, eni: str, version: int, count: int) -> Sequence[str]:
        """Register ``count`` further addresses on an ENI, chosen by the cloud; which ones."""
        sent: Json = {"RegionId": region, "NetworkInterfaceId": eni}
        if version == 4:
            sent["SecondaryPrivateIpAddressCount"] = count
            answer = await self._ecs("AssignPrivateIpAddresses", sent, token=True)
            given = (answer.get("AssignedPrivateIpAddressesSet") or {}).get("PrivateIpSet") or {}
            return _texts(given.get("PrivateIpAddress"), "AssignPrivateIpAddresses")
        sent["Ipv6AddressCount"] = count
        answer = await self._ecs("AssignIpv6Addresses", sent, token=True)
        return _texts((answer.get("Ipv6Sets") or {}).get("Ipv6Address"), "AssignIpv6Addresses")

    async def unassign(self, region: str, eni: str, version: int, addresses: Collection[str]) -> None:
        """Take secondary addresses from an ENI. Ones that are gone already are success."""
        for names in _parts(addresses, UNASSIGN_LIMIT[version]):
            try:
                await self._unassign(region, eni, version, names)
            except CloudNotFound:  # of one of them: the others were not taken
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
        return await self._caller.call(ECS, ECS_VERSION, action, parameters, region=region, token=token)

    async def _pages(self, action: str, parameters: Json, outer: str, inner: str) -> list[Json]:
        """All pages of an answer. Raises Unavailable when one is missing."""
        found: list[Json] = []
        sent = {**parameters, "MaxResults": PAGE}
        for _ in range(MAX_PAGES):
            answer = await self._ecs(action, sent)
            found += _list(answer, outer, inner)
            if not answer.get("NextToken"):
                return found
            sent["NextToken"] = answer["NextToken"]
        raise CloudUnavailable(f"{action} did not come to an end after {MAX_PAGES} pages")


def _parts(names: Collection[str], size: int) -> Iterator[list[str]]:
    """The names in order, at most ``size`` at a time."""
    ordered = sorted(names)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _list(answer: Json, outer: str, inner: str) -> list[Json]:
    """A list of objects of an answer. One that lacks it altogether is not an empty list."""
    try:
        found = answer[outer][inner]
    except (KeyError, TypeError):
        raise CloudUnavailable(f"the answer lacks {outer}.{inner}") from None
    return list(found)


def _texts(found: object, action: str) -> Sequence[str]:
    """The addresses that an answer names; none at all means that we do not know what was done."""
    if not isinstance(found, list) or not found:
        raise CloudUnavailable(f"the answer to {action} names no address")
    return [_canonical(each) for each in found]


def _canonical(text: str) -> str:
    """An address as everything else here spells it: the cloud writes IPv6 in more than one way."""
    return str(ip_address(text))


def _server(each: Json) -> CloudServer:
    return CloudServer(each["InstanceId"], each.get("InstanceType", ""), each.get("ZoneId", ""), each.get("Status", ""))


def _eni(each: Json) -> RegisteredENI:
    sets = (each.get("PrivateIpSets") or {}).get("PrivateIpSet") or []
    secondary = {_canonical(one["PrivateIpAddress"]) for one in sets if not one.get("Primary")}
    primary = each.get("PrivateIpAddress", "")
    return RegisteredENI(
        each["NetworkInterfaceId"],
        each.get("InstanceId", ""),
        each.get("VSwitchId", ""),
        each.get("Status", ""),
        primary,
        frozenset(secondary - {primary}),
        frozenset(_canonical(one["Ipv6Address"]) for one in (each.get("Ipv6Sets") or {}).get("Ipv6Set") or []),
    )

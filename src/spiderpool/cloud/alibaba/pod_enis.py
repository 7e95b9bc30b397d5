"""Finds the ENI on which a pod's address is registered, by ECS 2014-05-26."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from spiderpool.cloud.alibaba.answers import PAGE, Json, all_objects, parts, required
from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.ecs import ECS, ENI_LIST


class PodENIs:
    """Implements `ENIFinder` for one VPC."""

    def __init__(self, client: OpenAPIClient, region: str, vpc: str) -> None:
        self._client = client
        self._region = region
        self._vpc = vpc

    async def holders(self, addresses: Collection[str]) -> Mapping[str, str]:
        """Returns the ENI of every address that an ENI in use has; may leave out one that was registered just now."""
        found: dict[str, str] = {}
        if not self._vpc:  # without it, ENIs with the same addresses in another VPC of the account would be found
            return found
        for version in (4, 6):
            family = sorted(address for address in addresses if (":" in address) == (version == 6))
            for start in range(0, len(family), PAGE):
                found |= await self._find(version, family[start : start + PAGE])
        return found

    async def _find(self, version: int, addresses: list[str]) -> Mapping[str, str]:
        name = "PrivateIpAddress" if version == 4 else "Ipv6Address"
        sent: dict[str, Any] = {"RegionId": self._region, "VpcId": self._vpc, "Status": "InUse", name: addresses}
        found: dict[str, str] = {}
        for eni in await all_objects(self._call, "DescribeNetworkInterfaces", sent, *ENI_LIST):
            found |= dict.fromkeys(_addresses(eni), required(eni, "NetworkInterfaceId"))
        return {address: found[address] for address in addresses if address in found}

    async def _call(self, action: str, parameters: Json) -> Json:
        return await self._client.call(ECS, action, parameters)


def _addresses(eni: Json) -> list[str]:
    ipv4, ipv6 = parts(eni, "PrivateIpSets", "PrivateIpSet"), parts(eni, "Ipv6Sets", "Ipv6Set")
    return [required(each, "PrivateIpAddress") for each in ipv4] + [required(each, "Ipv6Address") for each in ipv6]

"""On which ENI an address of a pod is registered, by ECS 2014-05-26."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.provider import CloudUnavailable

PAGE = 100
"""Addresses that one call may name."""


class PodENIs:
    """The protocol ``CardFinder`` for one VPC."""

    def __init__(self, caller: OpenAPIClient, region: str, vpc: str) -> None:
        self._caller = caller
        self._region = region
        self._vpc = vpc

    async def holders(self, addresses: Collection[str]) -> Mapping[str, str]:
        """The ENI of every address that one in use has. An address that was registered just now may be missing."""
        found: dict[str, str] = {}
        if not self._vpc:  # another VPC of the account may have the same addresses
            return found
        for version in (4, 6):
            family = sorted(address for address in addresses if (":" in address) == (version == 6))
            for start in range(0, len(family), PAGE):
                found |= await self._ask(version, family[start : start + PAGE])
        return found

    async def _ask(self, version: int, addresses: list[str]) -> Mapping[str, str]:
        name = "PrivateIpAddress" if version == 4 else "Ipv6Address"
        sent: dict[str, Any] = {"RegionId": self._region, "VpcId": self._vpc, "Status": "InUse", name: addresses}
        found: dict[str, str] = {}
        while True:
            answer = await self._caller.call(
                "ecs", "2014-05-26", "DescribeNetworkInterfaces", {**sent, "MaxResults": PAGE}
            )
            try:
                enis = answer["NetworkInterfaceSets"]["NetworkInterfaceSet"]
            except (KeyError, TypeError):
                raise CloudUnavailable("the answer to DescribeNetworkInterfaces lacks its list") from None
            for eni in enis:
                found |= dict.fromkeys(_addresses(eni), eni["NetworkInterfaceId"])
            if not answer.get("NextToken"):
                return {address: found[address] for address in addresses if address in found}
            sent["NextToken"] = answer["NextToken"]


def _addresses(eni: Mapping[str, Any]) -> list[str]:
    four = (eni.get("PrivateIpSets") or {}).get("PrivateIpSet") or []
    six = (eni.get("Ipv6Sets") or {}).get("Ipv6Set") or []
    return [each["PrivateIpAddress"] for each in four] + [each["Ipv6Address"] for each in six]

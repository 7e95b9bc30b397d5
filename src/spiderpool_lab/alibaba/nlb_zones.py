"""The zones of network load balancers, in each of which one has a vSwitch and addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spiderpool_lab.alibaba import addressing
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import ZoneMapping
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, missing, not_found


def requested(account: Account, parameters: Parameters, settings: Mapping[str, str]) -> tuple[ZoneMapping, ...]:
    """The zone mappings of a call, with addresses. Raises Refusal without one, or if a zone is named twice."""
    zones: list[ZoneMapping] = []
    for sent in parameters.objects("ZoneMappings"):
        zones.append(_zone(account, sent, settings, zones))
    if len({zone.zone for zone in zones}) < len(zones):
        raise invalid("ZoneMappings", "names a zone twice")
    if not zones:
        raise missing("ZoneMappings")
    return tuple(zones)


def _zone(account: Account, sent: Parameters, settings: Mapping[str, str], earlier: list[ZoneMapping]) -> ZoneMapping:
    vswitch = account.vswitch(sent.required("VSwitchId"))
    if vswitch.zone != sent.required("ZoneId"):
        raise Refusal("Mismatch.VSwitchIdAndZone", f"The vSwitch {vswitch.identity} is not in {sent.text('ZoneId')}.")
    taken = [zone.private_address for zone in earlier]
    private = sent.text("PrivateIPv4Address") or account.choose_addresses(vswitch.identity, 1, excluded=taken)[0]
    return ZoneMapping(
        vswitch.zone,
        vswitch.identity,
        private,
        _public(account, sent, earlier) if settings["AddressType"] == "Internet" else "",
        _ipv6(account, vswitch.ipv6_block, earlier) if settings["AddressIpVersion"] == "DualStack" else "",
        sent.text("AllocationId"),
    )


def _public(account: Account, sent: Parameters, earlier: list[ZoneMapping]) -> str:
    if not (allocation := sent.text("AllocationId")):
        return account.choose_public_address(excluded=[zone.public_address for zone in earlier])
    eip = account.tables.eips.get(allocation)
    if eip is None:
        raise not_found("ResourceNotFound.eip", "resource eip", allocation)
    return eip.address


def _ipv6(account: Account, block: str | None, earlier: list[ZoneMapping]) -> str:
    if block is None:
        raise Refusal(
            "OperationDenied.VSwitchNotSupportIpv6", "The operation is not allowed because of VSwitchNotSupportIpv6."
        )
    used = {address for eni in account.tables.enis for address in eni.ipv6_addresses}
    used.update(zone.ipv6_address for nlb in account.tables.nlbs for zone in nlb.zones)
    return addressing.free_ipv6(block, used | {zone.ipv6_address for zone in earlier}, 1)[0]


def describe(zone: ZoneMapping) -> dict[str, Any]:
    """A zone mapping as the answers have it."""
    addresses = {
        "PrivateIPv4Address": zone.private_address,
        "PublicIPv4Address": zone.public_address,
        "Ipv6Address": zone.ipv6_address,
        "AllocationId": zone.allocation,
    }
    return {"ZoneId": zone.zone, "VSwitchId": zone.vswitch, "Status": "Active", "LoadBalancerAddresses": [addresses]}


def private(zone: ZoneMapping) -> ZoneMapping:
    """The zone without a public address."""
    return replace(zone, public_address="", allocation="")


def readdressed(
    account: Account, zone: ZoneMapping, sent: Parameters | None, earlier: list[ZoneMapping]
) -> ZoneMapping:
    """The zone with the public address that a call names, else with the one that it has, else with a new one."""
    allocation = sent.text("AllocationId") if sent else ""
    if sent is None or not allocation:
        public = zone.public_address or account.choose_public_address(
            excluded=[each.public_address for each in earlier]
        )
        return replace(zone, public_address=public)
    return replace(zone, public_address=_public(account, sent, earlier), allocation=allocation)

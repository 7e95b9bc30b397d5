"""Settings of a network balancer with actions of their own: addresses, zones, bandwidth, certificates, groups."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from spiderpool.cloud.alibaba.answers import Call, Json, all_objects, optional, part, parts, required
from spiderpool.cloud.alibaba.common import text
from spiderpool.cloud.provider import QuotaExceeded
from spiderpool.core.cloud.alibaba.nlb import PROXY_V2, REQUESTED_ZONES, zone_text, zones
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.steps import ParameterChange, SetBalancer
from spiderpool.core.cloud.loadbalancer.values import PART, Settings

Change = Callable[[str, Mapping[str, Any]], Awaitable[Json]]
"""Calls an action that changes something, and waits for its job. Raises CloudError."""


CERTIFICATES_PAGE = 50
"""Certificates that one call may list."""
CERTIFICATES_BATCH = 15
"""Certificates that one call may add or remove."""


async def change(call: Change, identity: str, step: SetBalancer, by_identity: Callable[[str], str]) -> None:
    """Changes one aspect of a balancer; ``by_identity`` spells names of security groups. Raises CloudError."""
    named: Json = {"LoadBalancerId": identity}
    match step.aspect:
        case "address type":
            await call("UpdateLoadBalancerAddressTypeConfig", named | _address_type(step.model))
        case "IPv6 address type":
            is_public = step.model.settings["Ipv6AddressType"] == "Internet"
            await call("EnableLoadBalancerIpv6Internet" if is_public else "DisableLoadBalancerIpv6Internet", named)
        case "zones":
            await call("UpdateLoadBalancerZones", named | {"ZoneMappings": zone_mappings(step.model)})
        case "bandwidth package":
            await _change_package(call, named, step.changes)
        case "security groups":
            (only,) = step.changes
            await _change_security_groups(call, named, by_identity(only.old), by_identity(only.new))
        case aspect:
            raise ValueError(f"a network balancer has no aspect {aspect}")


def zone_mappings(model: LoadBalancerModel) -> list[Json]:
    """Returns the zones that a Service asks for, with their addresses; private balancers have no public ones."""
    names = ["ZoneId", "VSwitchId", "PrivateIPv4Address"]
    names += ["AllocationId"] if _address_type_of(model) == "Internet" else []
    wanted = zones(model.creation[REQUESTED_ZONES])
    return [{name: value for name, value in zip(names, zone, strict=False) if value} for zone in wanted]


def of_zones(described: Json) -> Settings:
    """Returns the zones of a described balancer, and the addresses of each."""
    listed = {required(each, "ZoneId"): each for each in parts(described, "ZoneMappings")}
    addresses = {
        f"{name}{PART}{zone}": found
        for zone, each in listed.items()
        for address in parts(each, "LoadBalancerAddresses")
        for name in ("AllocationId", "PrivateIPv4Address")
        if (found := optional(address, name))
    }
    vswitches = {zone: required(each, "VSwitchId") for zone, each in listed.items()}
    return {"ZoneMappings": zone_text(vswitches), **addresses}


async def additional_certificates(call: Call, listener: str) -> str:
    """Returns the certificates of a TCPSSL listener beside its own one, as text with commas. Raises CloudError."""
    action, sent = "ListListenerCertificates", {"ListenerId": listener, "MaxResults": CERTIFICATES_PAGE}
    found = await all_objects(call, action, sent, "Certificates")
    further = (each for each in found if each.get("IsDefault") is False and each.get("CertificateType") == "Server")
    return ",".join(sorted(required(each, "CertificateId") for each in further))


async def change_certificates(call: Change, listener: str, old: str, new: str) -> None:
    """Changes a listener's certificates beside its own one; both are texts with commas. Raises CloudError."""
    former, wanted = ({each for each in side.split(",") if each} for side in (old, new))
    for action, certificates in (
        ("AssociateAdditionalCertificatesWithListener", sorted(wanted - former)),
        ("DisassociateAdditionalCertificatesWithListener", sorted(former - wanted)),
    ):
        for start in range(0, len(certificates), CERTIFICATES_BATCH):
            batch = certificates[start : start + CERTIFICATES_BATCH]
            await call(action, {"ListenerId": listener, "AdditionalCertificateIds": batch})


def proxy_v2(described: Json) -> Settings:
    """Returns what a described listener tells servers by PROXY v2 beside the client's address."""
    config = part(described, "ProxyProtocolV2Config")
    names = (parameter.partition(".") for parameter in PROXY_V2.values())
    return {f"{prefix}.{name}": text(config.get(name) or False) for prefix, _, name in names}


def _address_type(model: LoadBalancerModel) -> Json:
    """Returns the type, and the zones with the public addresses that they are to have."""
    kind = _address_type_of(model)
    if kind != "Internet":
        return {"AddressType": kind}
    names = ("ZoneId", "VSwitchId", "AllocationId")  # the action takes these of a zone's parameters
    listed = [{name: zone[name] for name in names if name in zone} for zone in zone_mappings(model)]
    return {"AddressType": kind, "ZoneMappings": listed}


def _address_type_of(model: LoadBalancerModel) -> str:
    return {**model.creation, **model.settings}["AddressType"]


async def _change_package(call: Change, named: Json, changes: tuple[ParameterChange, ...]) -> None:
    """Detaches the former package first: a balancer has one at most."""
    (change,) = changes
    if change.old:
        await call("DetachCommonBandwidthPackageFromLoadBalancer", named | {"BandwidthPackageId": change.old})
    if change.new:
        await call("AttachCommonBandwidthPackageToLoadBalancer", named | {"BandwidthPackageId": change.new})


async def _change_security_groups(call: Change, named: Json, old: str, new: str) -> None:
    """Joins groups, then leaves others; at a quota those first, but for one: without any, all may come in."""

    async def send(action: str, groups: list[str]) -> None:
        if groups:
            await call(action, named | {"SecurityGroupIds": groups})

    former, wanted = ({each for each in side.split(",") if each} for side in (old, new))
    joined, left = sorted(wanted - former), sorted(former - wanted)
    room = left if former & wanted else left[1:]
    try:
        await send("LoadBalancerJoinSecurityGroup", joined)
    except QuotaExceeded:
        if not room:
            raise
        await send("LoadBalancerLeaveSecurityGroup", room)
        await send("LoadBalancerJoinSecurityGroup", joined[: len(room)])
        left, joined = left[: len(left) - len(room)], joined[len(room) :]
        await send("LoadBalancerLeaveSecurityGroup", left)
        await send("LoadBalancerJoinSecurityGroup", joined)
    else:
        await send("LoadBalancerLeaveSecurityGroup", left)

"""What the answers about network load balancers say: balancers, listeners, groups and servers, as values of ours."""

from __future__ import annotations

from collections.abc import Mapping

from spiderpool.cloud.alibaba import nlb_settings
from spiderpool.cloud.alibaba.answers import Json, number, optional, part, parts, required, texts
from spiderpool.cloud.alibaba.common import DEFAULT_WEIGHT, identity_of, text
from spiderpool.core.cloud.alibaba.nlb import LISTS
from spiderpool.core.cloud.loadbalancer.values import BackendServer, Listener, ServerType, Settings

RANGE = ("StartPort", "EndPort")
"""Parameters of a listener with a range of ports, whose own port is 0."""
SERVER_TYPES: Mapping[ServerType, str] = {"instance": "Ecs", "eni": "Eni", "address": "Ip"}
"""Our type of a server → the API's."""
SCHEDULERS = {name.lower(): name for name in ("Wrr", "Wlc", "rr", "sch", "tch", "qch")}
"""Scheduler in lower case → as we write it; the cloud may answer in another case."""


def tags_of(described: Json) -> Settings:
    """Returns the tags of a balancer, which the cloud spells in two ways."""
    return {
        optional(tag, "TagKey") or optional(tag, "Key"): optional(tag, "TagValue") or optional(tag, "Value")
        for tag in parts(described, "Tags")
    }


def fits(described: Json, request: Json) -> bool:
    """Whether a balancer matches the request: if the cloud ignored a filter, we could take over another owner's."""
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tag", ())}
    identity = identity_of(described)
    named = identity in request.get("LoadBalancerIds", [identity])
    called = described.get("LoadBalancerName") in request.get("LoadBalancerNames", [described.get("LoadBalancerName")])
    return named and called and tags.items() <= tags_of(described).items()


def settings_of(described: Json) -> Settings:
    """Returns the parameters of a balancer that can be set, without those that the answer leaves empty."""
    parameters = (
        "LoadBalancerName AddressType AddressIpVersion Ipv6AddressType ResourceGroupId CrossZoneEnabled "
        "BandwidthPackageId"
    )
    found = {name: text(described.get(name)) for name in parameters.split() if text(described.get(name))}
    deletion, modification = (part(described, f"{which}ProtectionConfig") for which in ("Deletion", "Modification"))
    return found | {
        "DeletionProtectionEnabled": text(deletion.get("Enabled", False)),
        "ModificationProtectionStatus": optional(modification, "Status") or "NonProtection",
        "SecurityGroupIds": ",".join(sorted(texts(described, "SecurityGroupIds"))),
        **nlb_settings.of_zones(described),
    }


def listener_of(described: Json, groups: Mapping[str, str]) -> Listener:
    """Returns a listener; ``groups``: identity of a server group → its name."""
    group = optional(described, "ServerGroupId")
    settings = {**_flat(described), **nlb_settings.proxy_v2(described)}
    port = number(described, "ListenerPort")
    if port:
        settings = {key: value for key, value in settings.items() if key not in RANGE}
    return Listener(
        port=port or number(described, "StartPort"),
        protocol=required(described, "ListenerProtocol").lower(),
        description=optional(described, "ListenerDescription"),
        group=groups.get(group, group),
        settings=settings,
        running=described.get("ListenerStatus") not in ("Stopped", "Stopping"),
        identity=required(described, "ListenerId"),
        last_port=0 if port else number(described, "EndPort"),
    )


def group_settings_of(described: Json) -> Settings:
    """Returns the parameters of a server group that can be set."""
    health = {f"HealthCheckConfig.{key}": value for key, value in part(described, "HealthCheck").items()}
    scheduler = {"Scheduler": SCHEDULERS.get(text(described.get("Scheduler")).lower(), "")}
    return _flat({"IpVersionAffinityMode": "NonAffinity", **described, **health, **scheduler})


def _flat(described: Json) -> Settings:
    """Returns the plain values of an object, lists as texts with commas."""
    found: dict[str, str] = {}
    for key, value in described.items():
        if isinstance(value, list) and key in LISTS:
            found[key] = ",".join(texts(described, key))
        elif not isinstance(value, list | dict):
            found[key] = text(value)
    return found


def server_of(described: Json) -> BackendServer:
    """Returns a server of a group."""
    types: dict[str, ServerType] = {name: kind for kind, name in SERVER_TYPES.items()}
    kind = types.get(optional(described, "ServerType"), "instance")
    address = text(described.get("ServerIp")) if kind != "instance" else ""
    weight, port = number(described, "Weight", DEFAULT_WEIGHT), number(described, "Port")
    return BackendServer(
        required(described, "ServerId"), kind, port, weight, address, optional(described, "Description")
    )

"""What the answers about classic load balancers say: balancers, listeners and servers, as values of ours."""

from __future__ import annotations

from collections.abc import Mapping

from spiderpool.cloud.alibaba.answers import Json, number, optional, part, parts, required, texts
from spiderpool.cloud.alibaba.common import DEFAULT_WEIGHT, text
from spiderpool.core.cloud.alibaba.clb import DEFAULTS
from spiderpool.core.cloud.loadbalancer.values import BackendServer, Listener, ServerType, Settings

SERVER_TYPES: Mapping[ServerType, str] = {"instance": "ecs", "eni": "eni"}
"""Our type of a server → the API's; this kind of balancer has no servers by address alone."""


def tags_of(described: Json) -> Settings:
    """Returns the tags of a balancer."""
    return {required(tag, "TagKey"): optional(tag, "TagValue") for tag in parts(described, "Tags", "Tag")}


def fits(described: Json, request: Json) -> bool:
    """Whether a balancer matches the request: if the cloud ignored a filter, we could take over another owner's."""
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tag", ())}
    same = all(described.get(key) == request[key] for key in ("LoadBalancerId", "LoadBalancerName") if key in request)
    return same and tags.items() <= tags_of(described).items()


def settings_of(described: Json) -> Settings:
    """Returns the parameters of a balancer that can be set, without those that the answer leaves empty."""
    names = (
        "LoadBalancerName Address AddressType AddressIPVersion VSwitchId MasterZoneId SlaveZoneId ResourceGroupId "
        "DeleteProtection ModificationProtectionStatus InstanceChargeType LoadBalancerSpec Bandwidth"
    )
    found = {name: text(described.get(name)) for name in names.split() if text(described.get(name))}
    codes = {"3": "paybybandwidth", "4": "paybytraffic"}  # an answer has the code or the name
    charge = text(described.get("InternetChargeTypeAlias") or described.get("InternetChargeType"))
    return found | {"InternetChargeType": codes.get(charge, charge)}


def listener_of(described: Json, names: Mapping[str, str]) -> Listener:
    """Returns a listener; ``names``: identity of a server group → its name."""
    protocol = required(described, "ListenerProtocol").lower()
    group = optional(described, "VServerGroupId")
    return Listener(
        port=number(described, "ListenerPort"),
        protocol=protocol,
        description=optional(described, "Description"),
        group=names.get(group, group),
        settings={**DEFAULTS.get(protocol, {}), **_listener_settings(described, protocol)},
        running=described.get("Status") != "stopped",
    )


def _listener_settings(described: Json, protocol: str) -> dict[str, str]:
    config = part(described, f"{protocol.upper()}ListenerConfig")
    found = {key: text(value) for key, value in config.items()}
    if protocol in ("tcp", "udp") and "HealthCheck" in found:
        found["HealthCheckSwitch"] = found.pop("HealthCheck")
    found |= {key: text(described.get(key)) for key in ("Bandwidth", "Scheduler", "AclStatus", "AclType")}
    found["AclId"] = ",".join(sorted(_access_lists(described)))
    if found.get("HealthCheckConnectPort") == "0":
        del found["HealthCheckConnectPort"]
    return {key: value for key, value in found.items() if value}


def _access_lists(described: Json) -> list[str]:
    nested = isinstance(described.get("AclIds"), dict)
    listed = texts(part(described, "AclIds"), "AclId") if nested else texts(described, "AclIds")
    return listed or [each for each in text(described.get("AclId")).split(",") if each]


def server_of(described: Json) -> BackendServer:
    """Returns a server of a group."""
    kind: ServerType = "eni" if described.get("Type") == SERVER_TYPES["eni"] else "instance"
    address = text(described.get("ServerIp")) if kind == "eni" else ""
    weight, port = number(described, "Weight", DEFAULT_WEIGHT), number(described, "Port")
    return BackendServer(
        required(described, "ServerId"), kind, port, weight, address, optional(described, "Description")
    )

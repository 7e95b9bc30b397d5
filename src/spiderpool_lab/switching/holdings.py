"""What Services have in the cloud, for a comparison before and after a switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from spiderpool_lab.switching.other_writer import NAME_TAG
from spiderpool_lab.switching.services import Json


@dataclass(frozen=True, slots=True)
class BalancerHolding:
    """A balancer with its parts. Names stand for what has no identity of its own, such as a classic listener."""

    identity: str
    addresses: tuple[str, ...]
    settings: Mapping[str, Any]
    tags: Mapping[str, str]
    listeners: Mapping[str, str]
    """Protocol and port → identity of the listener, or of its group where it has none."""
    listener_settings: Mapping[str, Any]
    groups: Mapping[str, str]
    """Name → identity."""
    group_settings: Mapping[str, Any]
    servers: Mapping[str, frozenset[tuple[str, str, int, int, str]]]
    """Name of a group → server, address, port, weight and description."""

    def changes(self, later: BalancerHolding) -> list[str]:
        """What is different later, in sentences."""
        return [
            f"{self.identity}: {each.name}: {getattr(self, each.name)} became {getattr(later, each.name)}"
            for each in fields(self)
            if getattr(self, each.name) != getattr(later, each.name)
        ]


def holding(state: Mapping[str, list[Json]], identity: str) -> BalancerHolding:
    """What the balancer of an identity has in an account. Raises KeyError if it is gone."""
    if classic := [each for each in state["clbs"] if each["identity"] == identity]:
        return _classic(state, classic[0])
    found = {each["identity"]: each for each in state["nlbs"]}[identity]
    return _network(state, found)


def _classic(state: Mapping[str, list[Json]], found: Json) -> BalancerHolding:
    groups = [each for each in state["clb_groups"] if each["balancer"] == found["identity"]]
    listeners = {f"{each['protocol']}/{each['port']}": each for each in found["listeners"]}
    return BalancerHolding(
        identity=found["identity"],
        addresses=(found["address"],),
        settings={**found["settings"], "name": found["name"], "active": found["active"]},
        tags=found["tags"],
        listeners={key: each["settings"].get("VServerGroupId", "") for key, each in listeners.items()},
        listener_settings={key: (each["settings"], each["running"], each["tags"]) for key, each in listeners.items()},
        groups={each["name"]: each["identity"] for each in groups},
        group_settings={each["name"]: each["tags"] for each in groups},
        servers={each["name"]: _servers(each) for each in groups},
    )


def _network(state: Mapping[str, list[Json]], found: Json) -> BalancerHolding:
    listeners = {
        f"{each['protocol']}/{each['port']}": each
        for each in state["nlb_listeners"]
        if each["balancer"] == found["identity"]
    }
    name = found["tags"][NAME_TAG]
    groups = [each for each in state["nlb_groups"] if each["tags"].get(NAME_TAG) == name]
    return BalancerHolding(
        identity=found["identity"],
        addresses=tuple(
            zone[key] for zone in found["zones"] for key in ("private_address", "public_address") if zone[key]
        ),
        settings={**found["settings"], "name": found["name"], "zones": found["zones"]},
        tags=found["tags"],
        listeners={key: each["identity"] for key, each in listeners.items()},
        listener_settings={key: (each["settings"], each["tags"]) for key, each in listeners.items()},
        groups={each["name"]: each["identity"] for each in groups},
        group_settings={each["name"]: (each["settings"], each["health"], each["tags"]) for each in groups},
        servers={each["name"]: _servers(each) for each in groups},
    )


def _servers(group: Json) -> frozenset[tuple[str, str, int, int, str]]:
    return frozenset(
        (each["server"], each["address"], each["port"], each["weight"], each["description"])
        for each in group["backends"]
    )

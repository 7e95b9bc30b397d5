"""The provider ID and labels that a Node gets from its server, and whether the server of a Node is stopped or gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.api.core_v1 import Node, Taint
from spiderpool.api.spiderserver import Instance
from spiderpool.core.cloud.instances import ProviderIDParser
from spiderpool.core.ipam.evidence import SHUTDOWN
from spiderpool.core.ipam.new_nodes import UNINITIALIZED

MAX_SUSPECTS, MAX_WITNESSES = 90, 10
"""Instances of one query; together as many as one call to the cloud may name."""
STRANGE_AFTER = 3
"""Answers with other witnesses that lack one which was never there, until it counts as none."""


def mismatch(node: Node, instance: Instance, parse: ProviderIDParser) -> str | None:
    """Returns why a report cannot be about this Node: its provider ID, which is immutable, names another server."""
    provider_id = node.spec.providerID
    if not provider_id or parse(provider_id) == (instance.region, instance.identity):
        return None
    return f"spec.providerID is {provider_id}, but the node runs on {instance.provider_id}"


def foreign_address(node: Node, addresses: Collection[str]) -> str | None:
    """Returns the internal address of a Node where its server has none of that family that the Node has.

    None: they agree, or one of them has no address.
    """
    for is_ipv6 in (False, True):
        own = [each for each in node.internal_addresses if (":" in each) == is_ipv6]
        known = {each for each in addresses if (":" in each) == is_ipv6}
        if own and known and known.isdisjoint(own):
            return own[0]
    return None


def identity_patch(node: Node, instance: Instance) -> dict[str, Any] | None:
    """Returns a merge patch that sets provider ID and labels and removes the taint; None when nothing is to be changed.

    A merge patch replaces the whole list of taints, so it names the resourceVersion that it was made from.
    """
    spec: dict[str, Any] = {} if node.spec.providerID else {"providerID": instance.provider_id}
    taints = node.spec.taints or []
    if others := [taint for taint in taints if taint.key != UNINITIALIZED] if _is_uninitialized(node) else []:
        spec["taints"] = msgspec.to_builtins(others)
    elif _is_uninitialized(node):
        spec["taints"] = None
    present = node.metadata.labels or {}
    labels = {key: value for key, value in labels_of(instance).items() if present.get(key) != value}
    if not spec and not labels:
        return None
    metadata: dict[str, Any] = {"resourceVersion": node.metadata.resourceVersion}
    return {"metadata": metadata | ({"labels": labels} if labels else {})} | ({"spec": spec} if spec else {})


def _is_uninitialized(node: Node) -> bool:
    return any(taint.key == UNINITIALIZED for taint in node.spec.taints or [])


def shutdown_patch(node: Node, *, stopped: bool) -> dict[str, Any] | None:
    """Returns a merge patch by which a Node says whether its server is stopped; None when it says so.

    The taint is the one that cloud controllers of Kubernetes set. Like `identity_patch` it names the resourceVersion.
    """
    taints = node.spec.taints or []
    if stopped == any(taint.key == SHUTDOWN for taint in taints):
        return None
    others = [taint for taint in taints if taint.key != SHUTDOWN]
    wanted = [*others, Taint(SHUTDOWN, effect="NoSchedule")] if stopped else others
    metadata = {"resourceVersion": node.metadata.resourceVersion}
    return {"metadata": metadata, "spec": {"taints": msgspec.to_builtins(wanted) or None}}


def labels_of(instance: Instance) -> dict[str, str]:
    """Returns the well-known labels of a server's Node, with their deprecated names."""
    return {
        "topology.kubernetes.io/region": instance.region,
        "topology.kubernetes.io/zone": instance.zone,
        "node.kubernetes.io/instance-type": instance.instance_type,
        "failure-domain.beta.kubernetes.io/region": instance.region,
        "failure-domain.beta.kubernetes.io/zone": instance.zone,
        "beta.kubernetes.io/instance-type": instance.instance_type,
    }


@dataclass(frozen=True, slots=True)
class ServerQuery:
    """Instances of one region to ask the cloud about."""

    region: str
    suspects: Mapping[str, str]
    """Node UID → instance, of Nodes whose kubelet has stopped reporting."""
    witnesses: frozenset[str]
    """Instances that certainly exist, since their Nodes are ready: an answer that lacks one is wrong."""


class Strangers:
    """The instances of ready Nodes that the cloud has never known: they are no witnesses, whatever their Nodes say."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._lacking: dict[str, int] = {}  # instance → answers that lacked it and had another witness

    def __contains__(self, instance: object) -> bool:
        return isinstance(instance, str) and self._lacking.get(instance, 0) >= STRANGE_AFTER

    def note(self, query: ServerQuery, found: Collection[str]) -> None:
        """Takes an answer into account; one that has no witness at all says nothing."""
        known = query.witnesses.intersection(found)
        self._seen |= known
        for each in known:
            self._lacking.pop(each, None)
        for each in query.witnesses - self._seen if known else ():
            self._lacking[each] = self._lacking.get(each, 0) + 1

    def retain(self, instances: Collection[str]) -> None:
        """Forgets all other instances."""
        self._seen &= set(instances)
        self._lacking = {each: count for each, count in self._lacking.items() if each in instances}


def queries(
    nodes: Iterable[Node],
    parse: ProviderIDParser,
    server_of: Callable[[Node], Instance | None],
    strangers: Container[str] = (),
) -> list[ServerQuery]:
    """Returns what to ask the cloud to find lost servers; ``server_of`` is what a node reports.

    A region in which no Node is ready has no query: without witnesses an answer cannot be trusted.
    """
    silent: dict[str, dict[str, str]] = {}  # region → Node UID → instance
    alive: dict[str, list[str]] = {}  # region → instances
    for node in nodes:
        named = parse(node.spec.providerID or "")
        reported = server_of(node)
        if named is None or (reported is not None and mismatch(node, reported, parse)):
            continue
        region, identity = named
        match node.ready_status:
            case "Unknown":
                silent.setdefault(region, {})[node.metadata.uid or ""] = identity
            case "True" if identity not in strangers:
                alive.setdefault(region, []).append(identity)
            case _:
                pass
    return [
        ServerQuery(region, part, frozenset(sorted(alive[region])[:MAX_WITNESSES]))
        for region, suspects in sorted(silent.items())
        if region in alive
        for part in _parts(suspects, MAX_SUSPECTS)
    ]


def _parts(suspects: dict[str, str], size: int) -> list[dict[str, str]]:
    items = sorted(suspects.items())
    return [dict(items[start : start + size]) for start in range(0, len(items), size)]


def judge(
    missing: Mapping[str, float], query: ServerQuery, found: Collection[str], now: float, min_interval: float
) -> tuple[dict[str, float], list[str]]:
    """Returns the Nodes whose server is missing, and the UIDs of those whose server is thereby proven to be gone.

    A server is gone when two answers, at least ``min_interval`` seconds apart, lack it. An answer that lacks a witness
    changes nothing. ``missing`` is the former result, Node UID → time at which an answer first lacked the server.
    """
    if not query.witnesses or not query.witnesses.issubset(found):
        return dict(missing), []
    others = {uid: since for uid, since in missing.items() if uid not in query.suspects}
    lacking = {uid: missing.get(uid, now) for uid, identity in query.suspects.items() if identity not in found}
    gone = [uid for uid, since in lacking.items() if uid in missing and now - since >= min_interval]
    return others | lacking, gone

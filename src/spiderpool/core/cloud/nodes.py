"""What a Node object should say of its server, and when the server of a Node is proven gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.core.cloud.instances import INSTANCE_ANNOTATION, Instance, read_instance
from spiderpool.errors import Undecodable

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
"""Taint of a node whose kubelet waits for a cloud controller."""
SCHEME = "alicloud://"
"""May stand before a provider ID."""


def instance_of(node: Node) -> Instance | None:
    """The server that the node's agent reported; None when there is no report that can be read."""
    text = (node.metadata.annotations or {}).get(INSTANCE_ANNOTATION)
    try:
        return read_instance(text) if text else None
    except Undecodable:
        return None


def provider_id(node: Node) -> tuple[str, str] | None:
    """Region and instance of ``spec.providerID``; None when it is empty or of another form."""
    region, dot, identity = (node.spec.providerID or "").removeprefix(SCHEME).partition(".")
    return (region, identity) if dot and region and identity and "." not in identity and ":" not in region else None


def contradiction(node: Node, instance: Instance) -> str | None:
    """Why a report cannot be of this Node: its provider ID, which cannot be changed, names another server."""
    if not node.spec.providerID or provider_id(node) == (instance.region, instance.identity):
        return None
    return f"spec.providerID is {node.spec.providerID}, but the node runs on {instance.provider_id}"


def identity_patch(node: Node, instance: Instance) -> dict[str, Any] | None:
    """A merge patch that gives the Node its provider ID and labels and takes its taint; None when all is so.

    The list of taints is replaced whole, so the patch names the version that it was made from.
    """
    spec: dict[str, Any] = {} if node.spec.providerID else {"providerID": instance.provider_id}
    taints = node.spec.taints or []
    if rest := [taint for taint in taints if taint.key != UNINITIALIZED] if _waits(node) else []:
        spec["taints"] = msgspec.to_builtins(rest)
    elif _waits(node):
        spec["taints"] = None
    present = node.metadata.labels or {}
    labels = {key: value for key, value in labels_of(instance).items() if present.get(key) != value}
    if not spec and not labels:
        return None
    metadata: dict[str, Any] = {"resourceVersion": node.metadata.resourceVersion}
    return {"metadata": metadata | ({"labels": labels} if labels else {})} | ({"spec": spec} if spec else {})


def _waits(node: Node) -> bool:
    return any(taint.key == UNINITIALIZED for taint in node.spec.taints or [])


def labels_of(instance: Instance) -> dict[str, str]:
    """The well-known labels of a server, and their older names."""
    return {
        "topology.kubernetes.io/region": instance.region,
        "topology.kubernetes.io/zone": instance.zone,
        "node.kubernetes.io/instance-type": instance.instance_type,
        "failure-domain.beta.kubernetes.io/region": instance.region,
        "failure-domain.beta.kubernetes.io/zone": instance.zone,
        "beta.kubernetes.io/instance-type": instance.instance_type,
    }


def readiness(node: Node) -> str:
    """Status of the condition Ready: True, False, or Unknown when nothing is heard of the node."""
    conditions = node.status.conditions or []
    return next((each.status for each in conditions if each.type == "Ready"), "False")


@dataclass(frozen=True, slots=True)
class ServerQuery:
    """What to ask the cloud about one region."""

    region: str
    suspects: Mapping[str, str]
    """Instance of each node that nothing is heard of, by the Node's UID."""
    witnesses: frozenset[str]
    """Instances that certainly exist, since their nodes are ready: an answer without them is not to be believed."""


def inquiries(nodes: Iterable[Node], *, suspects: int = 90, witnesses: int = 10) -> list[ServerQuery]:
    """What to ask. Nothing where all nodes are heard of, or where none is: then nobody can bear witness."""
    silent: dict[str, dict[str, str]] = {}
    alive: dict[str, list[str]] = {}
    for node in nodes:
        if (named := provider_id(node)) is None or contradicts(node):
            continue
        match readiness(node):
            case "Unknown":
                silent.setdefault(named[0], {})[node.metadata.uid or ""] = named[1]
            case "True":
                alive.setdefault(named[0], []).append(named[1])
            case _:
                pass
    return [
        ServerQuery(region, part, frozenset(sorted(alive[region])[:witnesses]))
        for region, found in sorted(silent.items())
        if region in alive
        for part in _parts(found, suspects)
    ]


def contradicts(node: Node) -> bool:
    """Whether the node's agent reports another server than the Node names."""
    instance = instance_of(node)
    return instance is not None and contradiction(node, instance) is not None


def _parts(found: dict[str, str], size: int) -> list[dict[str, str]]:
    items = sorted(found.items())
    return [dict(items[start : start + size]) for start in range(0, len(items), size)]


def judge(
    missing: Mapping[str, float], inquiry: ServerQuery, found: Collection[str], now: float, apart: float
) -> tuple[dict[str, float], list[str]]:
    """Nodes whose server is missing, with the time since when, and those that are thereby proven gone.

    Gone is what two answers, at least ``apart`` seconds from one another, lacked. An answer that lacks a witness
    changes nothing. ``missing`` is the former result; nodes of other inquiries are passed through.
    """
    if not inquiry.witnesses or not inquiry.witnesses.issubset(found):
        return dict(missing), []
    others = {uid: since for uid, since in missing.items() if uid not in inquiry.suspects}
    lacking = {uid: missing.get(uid, now) for uid, identity in inquiry.suspects.items() if identity not in found}
    return others | lacking, [uid for uid, since in lacking.items() if uid in missing and now - since >= apart]

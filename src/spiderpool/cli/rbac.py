"""The roles of spiderpool-cloud in the cluster, by feature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

NAME = "spiderpool-cloud"
LEASE = "spiderpool-cloud-leases"
RBAC = "rbac.authorization.k8s.io"
READ = ["list", "watch"]


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


EVENTS = _rule("", ["events"], ["create", "patch"])
SERVERS = _rule("spiderpool.spidernet.io", ["spiderservers"], READ)
RULES: dict[str, list[dict[str, Any]]] = {
    "nodes": [_rule("", ["nodes"], ["get", *READ, "patch", "delete"]), SERVERS, EVENTS],
    "addresses": [
        _rule("", ["nodes"], [*READ, "patch"]),
        SERVERS,
        EVENTS,
        _rule("spiderpool.spidernet.io", ["spiderippools"], [*READ, "patch"]),
        _rule("spiderpool.spidernet.io", ["spiderips"], ["get", *READ]),
        _rule("spiderpool.spidernet.io", ["spidernodes"], ["get"]),
    ],
    "balancers": [
        _rule("", ["nodes"], READ),
        SERVERS,
        EVENTS,
        _rule("", ["services"], ["get", *READ, "patch"]),
        _rule("", ["services/status"], ["patch"]),
        _rule("discovery.k8s.io", ["endpointslices"], READ),
        _rule("spiderpool.spidernet.io", ["spiderloadbalancergrants"], READ),
        _rule("spiderpool.spidernet.io", ["spiderloadbalancergrants/status"], ["patch"]),
    ],
}
"""Feature → its rules, for all namespaces."""


def documents(features: Iterable[str], namespace: str) -> list[dict[str, Any]]:
    """Returns ServiceAccount, roles and bindings for features; ``namespace`` has the Lease of the leader election."""
    leases = [
        _rule("coordination.k8s.io", ["leases"], ["get", "update"]) | {"resourceNames": [LEASE]},
        _rule("coordination.k8s.io", ["leases"], ["create"]),
    ]
    metadata = {"name": NAME, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        _role("ClusterRole", {"name": NAME}, _merged(features)),
        _binding("ClusterRole", {"name": NAME}, namespace),
        _role("Role", metadata, leases),
        _binding("Role", metadata, namespace),
    ]


def _merged(features: Iterable[str]) -> list[dict[str, Any]]:
    """Returns the rules of all features, merged into one for each group and resource."""
    verbs: dict[tuple[str, str], dict[str, None]] = {}
    for rule in (rule for feature in features for rule in RULES[feature]):
        for resource in rule["resources"]:
            verbs.setdefault((rule["apiGroups"][0], resource), {}).update(dict.fromkeys(rule["verbs"]))
    return [_rule(group, [resource], list(found)) for (group, resource), found in verbs.items()]


def _role(kind: str, metadata: dict[str, str], rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules}


def _binding(kind: str, metadata: dict[str, str], namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
    }

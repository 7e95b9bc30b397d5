"""What the ServiceAccounts of our daemons may do in the cluster: the rules that this version needs.

Those of the agent and of the controller are in the chart as well, which a test compares.
"""

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
        _rule("spiderpool.spidernet.io", ["spiderips"], ["get"]),
        _rule("", ["services"], ["get", *READ, "patch"]),
        _rule("", ["services/status"], ["patch"]),
        _rule("discovery.k8s.io", ["endpointslices"], READ),
        _rule("", ["pods"], ["get"]),
        _rule("", ["pods/status"], ["patch"]),
        _rule("spiderpool.spidernet.io", ["spiderloadbalancergrants"], READ),
        _rule("spiderpool.spidernet.io", ["spiderloadbalancergrants/status"], ["patch"]),
    ],
}
"""Feature → its rules, for all namespaces."""
OTHER_LEASE = _rule("coordination.k8s.io", ["leases"], ["get"]) | {"resourceNames": ["ccm"]}
"""For load balancers: whether Alibaba Cloud's own controller runs, in whichever Namespace."""

OURS, CORE_READ = "spiderpool.spidernet.io", ["get", *READ]
AGENT_RULES: list[dict[str, Any]] = [
    _rule(OURS, ["spiderips"], [*CORE_READ, "create", "update", "delete"]),
    _rule(OURS, ["spiderippools"], CORE_READ),
    _rule(OURS, ["spiderreservedips", "spideripquotas", "spidercoordinators"], READ),
    _rule(OURS, ["spidernodes"], [*CORE_READ, "create", "patch"]),
    _rule(OURS, ["spidernodes/status"], ["patch"]),
    _rule(OURS, ["spiderservers"], [*READ, "create", "patch"]),
    _rule("apps", ["replicasets", "statefulsets"], ["get"]),
    _rule("batch", ["jobs"], ["get"]),
    _rule("kubevirt.io", ["virtualmachineinstances", "virtualmachines"], ["get"]),
    _rule("k8s.cni.cncf.io", ["network-attachment-definitions"], READ),
    _rule("", ["pods", "nodes", "namespaces"], CORE_READ),
    EVENTS,
]
"""All rules of spiderpool-agent, for all Namespaces."""
STATUSES = [
    f"{kind}/status"
    for kind in (
        *("spiderippools", "spidercoordinators", "spidersubnets"),
        *("spidermultusconfigs", "spiderreservedips", "spideripquotas"),
    )
]
CONTROLLER_RULES: list[dict[str, Any]] = [
    _rule(OURS, ["spiderippools"], [*CORE_READ, "create", "patch", "delete"]),
    _rule(OURS, STATUSES, ["patch"]),
    _rule(OURS, ["spiderips"], [*CORE_READ, "update", "delete"]),
    _rule(OURS, ["spideriphistories"], ["get", "list", "create", "update", "delete"]),
    _rule(OURS, ["spidernodes"], [*CORE_READ, "patch"]),
    _rule(OURS, ["spiderservers"], CORE_READ),
    _rule(OURS, ["spidermultusconfigs"], [*READ, "create"]),
    _rule(OURS, ["spiderreservedips"], READ),
    _rule(OURS, ["spideripquotas"], [*READ, "patch"]),
    _rule(OURS, ["spidersubnets"], [*READ, "patch"]),
    _rule(OURS, ["spidermultusconfigs/finalizers", "spidersubnets/finalizers"], ["update"]),
    _rule(OURS, ["spiderendpoints"], [*READ, "create", "update", "patch", "delete"]),
    _rule(OURS, ["spidercoordinators"], [*READ, "create", "patch"]),
    _rule("k8s.cni.cncf.io", ["network-attachment-definitions"], [*CORE_READ, "create", "patch", "delete"]),
    _rule("", ["pods"], ["patch"]),
    _rule("", ["pods", "nodes"], CORE_READ),
    _rule("", ["services"], READ),
    _rule("apps", ["deployments", "replicasets", "statefulsets", "daemonsets"], CORE_READ),
    _rule("batch", ["jobs", "cronjobs"], CORE_READ),
    _rule("kubevirt.io", ["virtualmachines", "virtualmachineinstances"], ["get"]),
    _rule("apps.kruise.io", ["clonesets", "statefulsets"], ["get"]),
    _rule("", ["namespaces"], ["get"]),
    EVENTS,
    _rule(
        "admissionregistration.k8s.io",
        ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
        [*READ, "patch"],
    )
    | {"resourceNames": ["spiderpool-controller"]},
    _rule("crd.projectcalico.org", ["ippools"], ["list"]),
    _rule("cilium.io", ["ciliumpodippools"], ["list"]),
    _rule("networking.k8s.io", ["servicecidrs", "networkpolicies"], READ),
]
"""Rules of spiderpool-controller, for all Namespaces, whatever features are on."""


def leases(name: str) -> list[dict[str, Any]]:
    """The rules of a daemon that elects a leader, in its own Namespace."""
    return [
        _rule("coordination.k8s.io", ["leases"], ["get", "update"]) | {"resourceNames": [name]},
        _rule("coordination.k8s.io", ["leases"], ["create"]),
    ]


def documents(features: Iterable[str], namespace: str) -> list[dict[str, Any]]:
    """Returns ServiceAccount, roles and bindings for features; ``namespace`` has the Lease of the leader election."""
    features = tuple(features)
    metadata = {"name": NAME, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        _role("ClusterRole", {"name": NAME}, [*_merged(features), *([OTHER_LEASE] if "balancers" in features else [])]),
        _binding("ClusterRole", {"name": NAME}, namespace),
        _role("Role", metadata, leases(LEASE)),
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

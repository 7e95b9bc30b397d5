"""The audit log of an API server tells what our accounts did."""

from __future__ import annotations

import json

from spiderpool_lab.audit import Call, Right, calls

AGENT = "system:serviceaccount:kube-system:spiderpool-agent"


def event(user: str, verb: str, decision: str = "allow", **reference: str) -> str:
    annotations = {"authorization.k8s.io/decision": decision}
    return json.dumps({"user": {"username": user}, "verb": verb, "objectRef": reference, "annotations": annotations})


def test_calls_of_our_accounts_are_read() -> None:
    group = "spiderpool.spidernet.io"
    lines = [
        event(AGENT, "patch", apiGroup=group, resource="spidernodes", subresource="status", name="n1"),
        event(AGENT, "delete", "forbid", resource="nodes", name="n1"),
        event("system:serviceaccount:kube-system:coredns", "list", resource="pods"),
        event("spiderpool-agent", "list", resource="pods"),
        json.dumps({"user": {"username": AGENT}, "verb": "get", "requestURI": "/version"}),
        event(AGENT, "list", resource="pods")[:-5],
    ]
    assert [*calls(lines)] == [
        Call(Right("spiderpool-agent", f"spidernodes/status.{group}", "patch"), allowed=True),
        Call(Right("spiderpool-agent", "nodes", "delete"), allowed=False),
    ]

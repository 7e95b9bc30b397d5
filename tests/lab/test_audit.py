"""The audit log of an API server tells what our accounts did, and the page of rights what each right is for."""

from __future__ import annotations

import json
import re

import pytest
from scripts.rights import PAGE, allowed

from spiderpool_lab.audit import Call, Right, calls

AGENT = "system:serviceaccount:kube-system:spiderpool-agent"


def event(user: str, verb: str, decision: str = "allow", code: int = 200, **reference: str) -> str:
    annotations = {"authorization.k8s.io/decision": decision}
    answer = {"objectRef": reference, "annotations": annotations, "responseStatus": {"code": code}}
    return json.dumps({"user": {"username": user}, "verb": verb, **answer})


@pytest.mark.unit
def test_calls_of_our_accounts_are_read() -> None:
    group = "spiderpool.spidernet.io"
    lines = [
        event(AGENT, "patch", apiGroup=group, resource="spidernodes", subresource="status", name="n1"),
        event(AGENT, "delete", "forbid", 403, resource="nodes", name="n1"),
        event(AGENT, "create", code=403, apiGroup=group, resource="spiderips"),
        event("system:serviceaccount:kube-system:coredns", "list", resource="pods"),
        event("spiderpool-agent", "list", resource="pods"),
        json.dumps({"user": {"username": AGENT}, "verb": "get", "requestURI": "/version"}),
        event(AGENT, "list", resource="pods")[:-5],
    ]
    assert [*calls(lines)] == [
        Call(Right("spiderpool-agent", f"spidernodes/status.{group}", "patch"), allowed=True),
        Call(Right("spiderpool-agent", "nodes", "delete"), allowed=False, refused=True),
        Call(Right("spiderpool-agent", "spiderips.spiderpool.spidernet.io", "create"), allowed=True, refused=True),
    ]


@pytest.mark.unit
def test_the_page_tells_what_each_right_is_for() -> None:
    section, rows = "", {}
    for line in PAGE.read_text().splitlines():
        section = line.removeprefix("## ") if line.startswith("## ") else section
        if found := re.fullmatch(r"\| `(.+)` \| (.+) \| (.+) \|", line):
            rows[f"{section} {found[2]} {found[1]}"] = found[3]
    assert sorted(rows) == sorted(map(str, allowed())), "see the page for how it is made"
    assert "nothing" not in rows.values()

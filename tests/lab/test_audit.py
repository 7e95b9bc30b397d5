"""The audit log of an API server tells what our accounts did, and the page of rights what each right is for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scripts.rights import PAGE, REASONS, allowed

import spiderpool
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


def page() -> dict[str, str]:
    """Each right of the page, and what uses it."""
    section, rows = "", {}
    for line in PAGE.read_text().splitlines():
        section = line.removeprefix("## ") if line.startswith("## ") else section
        if found := re.fullmatch(r"\| `(.+)` \| (.+) \| (.+) \|", line):
            rows[f"{section} {found[2]} {found[1]}"] = found[3]
    return rows


@pytest.mark.unit
def test_the_page_has_every_right_and_no_other() -> None:
    assert sorted(page()) == sorted(map(str, allowed())), "see the page for how it is made"


@pytest.mark.unit
def test_each_right_was_seen_in_use_or_has_a_reason() -> None:
    reasoned = {right: text for right, text in page().items() if not {*text.split(", ")} <= {"walkthrough", "tests"}}
    assert reasoned == REASONS


@pytest.mark.unit
def test_the_code_that_a_reason_names_is_there() -> None:
    product = Path(spiderpool.__file__).parent
    for reason in REASONS.values():
        (file,) = re.findall(r"`(\S+\.py)`", reason)
        assert (product / file).is_file(), reason

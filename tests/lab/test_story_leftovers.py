"""A story that leaves a node unlike it was is found."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool_lab.stories.leftovers import NodeCondition, changes, parse, unready

pytestmark = pytest.mark.unit

LOOK = """clock 1000
daemon agent State: S (sleeping)
daemon kubelet State: T (stopped)
daemon kube-proxy State: gone
aa11  /run/cni/net.d/00-spiderpool.conflist
"""
SOUND = NodeCondition(0.0, frozenset(), {"/list": "aa11", "/executable": "bb22"})
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def node(name: str, **spec: object) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec, "status": READY}


def test_a_look_is_read() -> None:
    files = {"/run/cni/net.d/00-spiderpool.conflist": "aa11"}
    assert parse(LOOK.splitlines(), now=940.0) == NodeCondition(60.0, frozenset({"kubelet", "kube-proxy"}), files)


def test_nothing_is_left_behind() -> None:
    assert [*changes(SOUND, SOUND)] == []
    assert [*unready(["master"], [node("master")])] == []


def test_each_leftover_is_named() -> None:
    files = {"/list": "cc33", "/ipvlan": "dd44"}
    assert [*changes(SOUND, NodeCondition(-3600.0, frozenset({"agent"}), files))] == [
        "its clock is -3600 s ahead",
        "agent does not run",
        "/executable is gone",
        "/ipvlan is new",
        "/list is another",
    ]


def test_nodes_that_take_no_pods_are_named() -> None:
    nodes = [node("master", unschedulable=True), {"metadata": {"name": "worker"}, "spec": {}, "status": {}}]
    assert [*unready(["master", "worker", "third"], nodes)] == [
        "node master is cordoned",
        "node worker is not Ready",
        "node third is not Ready",
    ]

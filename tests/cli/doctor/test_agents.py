"""`spiderpoolctl doctor`: which nodes are to have an agent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from spiderpool.api.core_v1 import Node, NodeSpec, Taint
from spiderpool.api.daemon_pods import DaemonPod
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.scheduling import ScheduledDaemonSet, SchedulingSpec
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.attention import silent_nodes
from spiderpool.cli.installation import Installation
from spiderpool.cli.status import status_of
from tests.cli.doctor.snapshots import HOME, NOW, snapshot

pytestmark = pytest.mark.unit


class TestAgents:
    """Which nodes are to have an agent."""

    def installed(self, *nodes: Node, **spec: Any) -> Installation:
        agents = ScheduledDaemonSet(metadata=ObjectMeta(name="spiderpool-agent", namespace=HOME))
        agents.spec.template.spec = SchedulingSpec(**spec)
        return replace(snapshot().installation, nodes=nodes, accounts=(), workloads=(agents,))

    def test_a_node_that_they_do_not_select_is_not_silent(self) -> None:
        inside = Node(metadata=ObjectMeta(name="inside", labels={"spiderpool.spidernet.io/migration": "new"}))
        outside = Node(metadata=ObjectMeta(name="outside"))
        found = self.installed(inside, outside, nodeSelector={"spiderpool.spidernet.io/migration": "new"})
        assert [each.node for each in silent_nodes(found)] == ["inside"]
        assert status_of(found, NOW).nodes == 1, "of one the account is missing"
        assert status_of(found, NOW).answered == 0
        silent = replace(found, accounts=(SpiderNode(metadata=ObjectMeta(name="outside")),))
        assert [each.node for each in silent_nodes(silent)] == ["inside", "outside"], "an agent has begun there"

    def test_a_taint_that_they_do_not_tolerate_counts(self) -> None:
        tainted = Node(metadata=ObjectMeta(name="gpu"), spec=NodeSpec(taints=[Taint("gpu", effect="NoSchedule")]))
        assert not list(silent_nodes(self.installed(tainted)))

    def test_a_node_with_a_pod_of_theirs_counts(self) -> None:
        found = self.installed(Node(metadata=ObjectMeta(name="n1")), nodeSelector={"a": "b"})
        metadata = ObjectMeta(name="a", namespace=HOME, labels={"app.kubernetes.io/component": "spiderpool-agent"})
        there = msgspec.convert({"metadata": msgspec.to_builtins(metadata), "spec": {"nodeName": "n1"}}, DaemonPod)
        assert [each.node for each in silent_nodes(found, [there])] == ["n1"]

    def test_without_a_readable_daemon_set_all_nodes_count(self) -> None:
        found = replace(self.installed(Node(metadata=ObjectMeta(name="n1"))), workloads=None)
        assert [each.node for each in silent_nodes(found)] == ["n1"]

"""STATUS fails while no pod of the node can be attached, and for nothing less: it makes the Node not ready."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spiderpool.errors import NotReady
from spiderpool_lab.control_plane import ControlPlane
from tests.agent.attaching_node import ATTACH, NEWEST, PATIENCE, AttachingNode, attaching_node
from tests.agent.runtime import Refusal
from tests.support.eventually import wait_until
from tests.support.local_agent import AgentOptions, LocalAgent, node_objects

pytestmark = [pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttachingNode]:
    with attaching_node(control_plane, tmp_path_factory.mktemp("node")) as node:
        yield node


def test_a_full_pool_leaves_the_node_ready(node: AttachingNode) -> None:
    holder, hungry = node.pod("holder"), node.pod("hungry")
    result = node.runtime.add(ATTACH, holder)
    with pytest.raises(Refusal, match="1 of 1 addresses in use"):
        node.runtime.add(ATTACH, hungry)
    node.runtime.status(NEWEST)
    node.runtime.delete(ATTACH, hungry, {})
    node.runtime.delete(ATTACH, holder, result)


def test_a_network_that_cannot_be_made_leaves_the_node_ready(node: AttachingNode) -> None:
    pod = node.pod("wrong", first="default/absent")
    with pytest.raises(Refusal, match="absent"):
        node.runtime.add(ATTACH, pod)
    node.runtime.status(NEWEST)
    node.runtime.delete(ATTACH, pod, {})


def test_the_api_server_counts_until_the_caches_are_filled_and_no_longer(node: AttachingNode) -> None:
    node.disconnect()
    try:
        for _ in range(3):
            node.runtime.status(NEWEST)
        node.agent.kill()
        with pytest.raises(NotReady, match="does not serve"):
            node.agent.start(timeout=5)
        with pytest.raises(Refusal, match="has not read the cluster's pods") as caught:
            node.runtime.status(NEWEST)
        assert caught.value.code == 50
    finally:
        node.connect()
    wait_until(lambda: _is_ready(node), "STATUS", timeout=PATIENCE)


def test_an_agent_that_may_not_make_interfaces(
    control_plane: ControlPlane, node: AttachingNode, tmp_path: Path
) -> None:
    confined = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]
    with node_objects(control_plane, "confined"):
        agent = LocalAgent(control_plane, node.processes, tmp_path, "confined", AgentOptions(prefix=confined))
        agent.start()
        try:
            runtime = replace(node.runtime, socket=agent.socket)
            with pytest.raises(Refusal, match=r"may not make interfaces .*NET_ADMIN and SYS_ADMIN") as caught:
                runtime.status(NEWEST)
            assert caught.value.code == 50
            assert agent.pid is not None
        finally:
            agent.stop()


def _is_ready(node: AttachingNode) -> bool:
    try:
        node.runtime.status(NEWEST)
    except Refusal:
        return False
    return True

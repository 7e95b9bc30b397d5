"""`migrate --apply`: addresses are taken over, node by node."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.api.applications import Deployment
from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.kubevirt import VirtualMachine
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.cli.migration.report import report_of
from spiderpool.cli.migration.steps import take_over
from spiderpool.core.ipam.migration_groups import LABEL, Side
from spiderpool.errors import NotReady, Refused
from spiderpool.kube.client import Client
from tests.cli.migration.other_release import (
    PLACES,
    REMOVED,
    agents,
    go_cluster,
    node,
    old_agent,
    put,
    removed,
    side,
    state,
)
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually
from tests.support.go_cluster import MACHINE, pod

pytestmark = pytest.mark.unit


class TestTakingOver:
    async def test_a_group_moves_and_the_other_does_not(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        assert await take_over(client, PLACES, ["n1"], 5.0) == [
            "nodes n1 have moved: 1 addresses taken over, 0 held back"
        ]
        assert {*server.stored(SpiderIP)} == {"10.6.0.1"}
        assert (side(server, "n1"), side(server, "n2")) == (Side.NEW, Side.OLD)

    async def test_agents_that_do_not_end(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        old = pod("agent-x", {})
        old.metadata.namespace, old.metadata.labels = "kube-system", {"app": "agent"}
        server.put(old)
        with pytest.raises(NotReady, match="still has agents on nodes n1"):
            await take_over(client, PLACES, ["n1"], 0.2)
        assert side(server, "n1") == Side.MOVING
        assert not server.stored(SpiderIP)
        server.remove(old)
        await take_over(client, PLACES, [], 5.0)
        assert {*server.stored(SpiderIP)} == {"10.6.0.1", "10.7.0.1"}

    async def test_a_daemonset_that_nobody_has_seen_since(self, server: ApiServer, client: Client) -> None:
        old = agents()
        old.status.observedGeneration = 0
        server.put(old)
        with pytest.raises(NotReady):
            await take_over(client, PLACES, ["n1"], 0.2)

    async def test_a_node_that_is_not_ready_or_does_not_exist(self, server: ApiServer, client: Client) -> None:
        server.put(node("n2", "Unknown"))
        with pytest.raises(Refused, match="Node n2 is not ready"):
            await take_over(client, PLACES, [], 5.0)
        with pytest.raises(Refused, match="there is no Node n9"):
            await take_over(client, PLACES, ["n9"], 5.0)
        assert side(server, "n2") is None

    async def test_a_node_that_joins_has_no_agent_until_it_is_moved(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        server.put(node("n3"))
        report = report_of(await state(client))
        assert [(group.nodes, group.side) for group in report.groups][-1] == (("n3",), "none")
        await take_over(client, PLACES, ["n3"], 5.0)
        assert side(server, "n3") == Side.NEW

    async def test_a_node_that_joins_a_group_that_has_moved(self, server: ApiServer, client: Client) -> None:
        """The other nodes keep their agents, and what these have given is not judged by records of the past."""
        made = go_cluster()
        made.pools["one"].spec.nodeName = None
        put(server, made)
        await take_over(client, PLACES, [], 5.0)
        started = pod("web-3", {"eth0": {"one": "10.6.0.5"}})
        server.put(started, node("n3"))
        before = server.stored(Node)
        report = report_of(await state(client))
        assert [(group.nodes, group.side) for group in report.groups] == [(("n1", "n2", "n3"), "incomplete")]
        assert await take_over(client, PLACES, [], 5.0) == ["nodes n3 have moved: 0 addresses taken over, 0 held back"]
        after = server.stored(Node)
        assert [after[name] == before[name] for name in ("n1", "n2", "n3")] == [True, True, False]
        assert not server.stored(SpiderReservedIP)

    async def test_a_daemonset_that_changes_meanwhile(self, server: ApiServer, client: Client) -> None:
        server.inject(Fault("patch", times=2, plural="daemonsets", status=409))
        await take_over(client, PLACES, [], 5.0)
        server.inject(Fault("patch", times=20, plural="daemonsets", status=409))
        server.put(agents())
        with pytest.raises(Refused, match="changes all the time"):
            await take_over(client, PLACES, [], 5.0)

    async def test_a_daemonset_that_somebody_has_upgraded(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        server.put(agents())
        (problem,) = report_of(await state(client)).problems
        assert "is no longer limited to nodes that have not moved" in problem
        await take_over(client, PLACES, ["n1"], 5.0)
        assert report_of(await state(client)).problems == ()

    async def test_who_began_was_interrupted_before_all_nodes_had_the_label(
        self, server: ApiServer, client: Client
    ) -> None:
        """The others would lose their agents when the DaemonSet is limited."""
        put(server, go_cluster())
        server.put(node("n1", **{LABEL: "old"}))
        await take_over(client, PLACES, ["n1"], 5.0)
        assert (side(server, "n1"), side(server, "n2")) == (Side.NEW, Side.OLD)

    async def test_agents_outlive_a_daemonset_that_is_removed_meanwhile(
        self, server: ApiServer, client: Client
    ) -> None:
        put(server, go_cluster())
        server.put(old_agent())
        moving = asyncio.create_task(take_over(client, PLACES, ["n1"], 0.5))
        await eventually(lambda: side(server, "n1") == Side.MOVING)
        server.remove(agents())
        with pytest.raises(NotReady, match="still has agents on nodes n1"):
            await moving
        assert not server.stored(SpiderIP)

    async def test_a_release_that_is_removed_meanwhile_is_so_by_the_word_of_a_person(
        self, server: ApiServer, client: Client
    ) -> None:
        put(server, go_cluster())
        agent = old_agent()
        server.put(agent)
        moving = asyncio.create_task(take_over(client, PLACES, ["n1"], 5.0))
        await eventually(lambda: side(server, "n1") == Side.MOVING)
        server.remove(agents())
        server.remove(agent)
        with pytest.raises(Refused, match="there is no DaemonSet"):
            await moving
        assert side(server, "n1") == Side.MOVING

    async def test_agents_of_a_removed_release_that_still_run(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        server.remove(agents())
        removed(server)
        server.put(old_agent())
        with pytest.raises(NotReady, match="still has agents on nodes n1"):
            await take_over(client, REMOVED, ["n1"], 0.2)

    async def test_a_removed_release_whose_place_ours_has_taken(self, server: ApiServer, client: Client) -> None:
        """Agents that give addresses already do so without records of what is in use."""
        put(server, go_cluster())
        server.remove(agents())
        removed(server)
        server.put(agents("spiderpool"))
        server.put(Deployment(metadata=ObjectMeta(name="spiderpool-controller", namespace="spiderpool")))
        with pytest.raises(Refused, match=r"our agents are not limited .*; our controller is installed"):
            await take_over(client, REMOVED, [], 5.0)

    async def test_the_other_release_is_upgraded_while_records_are_written(
        self, server: ApiServer, client: Client
    ) -> None:
        put(server, go_cluster())
        server.inject(Fault("create", plural="spiderips", delay=0.3))
        moving = asyncio.create_task(take_over(client, PLACES, ["n1"], 5.0))
        await eventually(lambda: server.requests["create"])
        server.put(agents())
        with pytest.raises(NotReady, match="has begun again meanwhile"):
            await moving
        assert side(server, "n1") == Side.MOVING
        await take_over(client, PLACES, ["n1"], 5.0)
        assert side(server, "n1") == Side.NEW

    async def test_a_node_fails_while_agents_end(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        agent = old_agent()
        server.put(agent)
        moving = asyncio.create_task(take_over(client, PLACES, ["n1"], 5.0))
        await eventually(lambda: side(server, "n1") == Side.MOVING)
        server.put(node("n1", "Unknown", **{LABEL: "moving"}))
        server.remove(agent)
        with pytest.raises(Refused, match="Node n1 is not ready"):
            await moving
        assert side(server, "n1") == Side.MOVING

    async def test_somebody_gives_nodes_back_while_they_move(self, server: ApiServer, client: Client) -> None:
        """Our agents would begin some day on a node that the other release's agents have again."""
        put(server, go_cluster())
        server.inject(Fault("create", plural="spiderips", delay=0.5))
        moving = asyncio.create_task(take_over(client, PLACES, ["n1"], 5.0))
        await eventually(lambda: server.requests["create"])
        server.put(node("n1"))
        with pytest.raises(Refused, match=r"somebody else has changed the label .* of Node n1 to none"):
            await moving
        assert side(server, "n1") is None

    async def test_a_node_that_changes_while_it_moves(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        server.inject(Fault("create", plural="spiderips", delay=0.3))
        moving = asyncio.create_task(take_over(client, PLACES, ["n1"], 5.0))
        await eventually(lambda: server.requests["create"])
        server.inject(Fault("patch", times=2, plural="nodes", status=409))
        await moving
        assert side(server, "n1") == Side.NEW
        server.put(node("n1", **{LABEL: "moving"}))
        server.inject(Fault("create", plural="spiderips", delay=0.3))
        server.remove(server.stored(SpiderIP)["10.6.0.1"])
        moving = asyncio.create_task(take_over(client, PLACES, ["n1"], 5.0))
        created = server.requests["create"]
        await eventually(lambda: server.requests["create"] > created)
        server.inject(Fault("patch", times=20, plural="nodes", status=409))
        with pytest.raises(Refused, match="Node n1 changes all the time"):
            await moving

    async def test_what_is_held_back_is_added_to_what_was(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        for name, pool, address in (("a", "one", "10.6.0.2"), ("b", "two", "10.7.0.2")):
            made.record(made.pod(name, {}), {"eth0": {pool: address}})
        put(server, made)
        await take_over(client, PLACES, ["n1"], 5.0)
        await take_over(client, PLACES, ["n2"], 5.0)
        (reserved,) = server.stored(SpiderReservedIP).values()
        assert reserved.spec.ips == ["10.6.0.2", "10.7.0.2"]
        problems = report_of(await state(client)).problems
        assert problems == (
            "SpiderReservedIP held-by-migration-v4 holds back 10.6.0.2, 10.7.0.2: see who has them, and delete it, or "
            "what you have seen to in it",
        )

    async def test_a_machine_without_a_pod_keeps_its_address(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        made.pod("virt-launcher-vm-x", {"eth0": {"one": "10.6.0.3"}}, MACHINE)
        made.pods.pop()
        put(server, made)
        server.put(VirtualMachine(metadata=ObjectMeta(name="vm", namespace="shop")))
        await take_over(client, PLACES, ["n1"], 5.0)
        owner = server.stored(SpiderIP)["10.6.0.3"].spec.owner
        assert owner is not None
        assert owner.name == "vm"

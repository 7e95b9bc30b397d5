"""`migrate`: what stands in the way."""

from __future__ import annotations

import json
import shlex

import pytest

from spiderpool.api.applications import Deployment
from spiderpool.api.ip import SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.migration.back import give_back
from spiderpool.cli.migration.look import Places, read_state
from spiderpool.cli.migration.obstacles import obstacles
from spiderpool.cli.migration.report import report_of
from spiderpool.cli.migration.steps import take_over
from spiderpool.core.ipam.migration_groups import LABEL
from spiderpool.errors import Refused
from spiderpool.kube.client import Client
from tests.cli.migration.other_release import PLACES, agents, config, go_cluster, node, ours, put, side, state
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit


class TestObstacles:
    async def test_there_are_none(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        assert [*obstacles(await state(client))] == []

    async def test_a_network_without_a_namespace(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        made.pools["one"].spec.multusName = ["shop/b", "a"]
        put(server, made)
        (found,) = obstacles(await state(client))
        assert "pool one names network a without its Namespace" in found
        words = shlex.split(found.partition(": ")[2])
        assert json.loads(words[-1]) == {"spec": {"multusName": ["shop/b", "kube-system/a"]}}

    async def test_both_in_one_namespace(self, client: Client) -> None:
        places = Places("kube-system", PLACES.former, PLACES.config)
        assert "both releases would be in Namespace kube-system" in next(obstacles(await read_state(client, places)))

    async def test_a_server_that_keeps_addresses(self, server: ApiServer, client: Client) -> None:
        server.put(config({"iaasNetworkProvider": {"serverUrl": "https://x"}}))
        assert "that server keeps addresses as well" in "".join(obstacles(await state(client)))

    async def test_no_settings(self, server: ApiServer, client: Client) -> None:
        server.remove(config())
        assert "there is no ConfigMap spiderpool-conf" in "".join(obstacles(await state(client)))

    async def test_the_other_release_is_not_found(self, server: ApiServer, client: Client) -> None:
        """A wrong name must not let our agents begin beside those that are not found."""
        put(server, go_cluster())
        places = Places("spiderpool", ("kube-system", "other"), "spiderpool-conf")
        with pytest.raises(Refused, match="there is no DaemonSet kube-system/other"):
            await take_over(client, places, [], 5.0)
        assert side(server, "n1") is None

    async def test_the_other_release_is_removed_by_the_word_of_a_person(
        self, server: ApiServer, client: Client
    ) -> None:
        put(server, go_cluster())
        places = Places("spiderpool", PLACES.former, PLACES.config, removed=True)
        with pytest.raises(Refused, match="--removed says that the other release is removed, and DaemonSet"):
            await take_over(client, places, [], 5.0)
        server.remove(agents())
        server.remove(config())
        ours = config()
        ours.metadata.namespace = "spiderpool"
        server.put(ours)
        await take_over(client, places, [], 5.0)
        assert {*server.stored(SpiderIP)} == {"10.6.0.1", "10.7.0.1"}

    async def test_a_daemonset_of_something_else(self, server: ApiServer, client: Client) -> None:
        """The agents, which have another name, would go on beside ours."""
        put(server, go_cluster())
        for volumes in ([], [{"name": "tmp", "emptyDir": {}}], [{"configMap": {"name": "kube-proxy"}}]):
            server.put(agents(volumes=volumes))
            with pytest.raises(Refused, match="DaemonSet kube-system/spiderpool-agent does not mount ConfigMap spid"):
                await take_over(client, PLACES, [], 5.0)
            assert side(server, "n1") is None
            server.remove(ours())
            with pytest.raises(Refused, match="name that of the agents by --from"):
                await give_back(client, PLACES)
            server.put(ours())

    async def test_nothing_is_left_to_do(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        await take_over(client, PLACES, [], 5.0)
        server.remove(agents())
        server.remove(config())
        server.put(Deployment(metadata=ObjectMeta(name="spiderpool-controller", namespace="spiderpool")))
        server.put(node("n1"), node("n2"), agents("spiderpool"))
        report = report_of(await state(client))
        assert (report.problems, report.steps, report.addresses) == ((), (), ())
        assert {group.side for group in report.groups} == {"new"}

    @pytest.mark.parametrize(("text", "fault"), [("{", "is no YAML"), ("[]", "holds no keys")])
    async def test_settings_that_cannot_be_read(self, server: ApiServer, client: Client, text: str, fault: str) -> None:
        server.put(config(text))
        with pytest.raises(Refused, match=fault):
            await state(client)

    async def test_agents_for_all_nodes_and_a_controller(self, server: ApiServer, client: Client) -> None:
        server.put(agents("spiderpool"))
        server.put(Deployment(metadata=ObjectMeta(name="spiderpool-controller", namespace="spiderpool")))
        first, second = obstacles(await state(client))
        assert "our agents are not limited to nodes that have moved" in first
        assert "our controller is installed" in second

    async def test_a_group_that_was_split(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        made.pools["one"].spec.nodeName = None
        put(server, made)
        server.put(node("n1", **{LABEL: "new"}), node("n2", **{LABEL: "old"}))
        assert "nodes n1, n2 are served by common pools (one, two)" in "".join(obstacles(await state(client)))
        assert {group.side for group in report_of(await state(client)).groups} == {"both"}

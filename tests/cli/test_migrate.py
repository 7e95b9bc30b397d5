"""`migrate`: what it says of settings and values, what stands in the way, and its commands for our chart."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from msgspec.structs import replace

from spiderpool.api.applications import Deployment, ReplicaSet, StatefulSet, WorkloadSpec
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Node, NodeCondition, NodeStatus, Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.multusconfig import MultusConfigSpec, SpiderMultusConfig, VlanConfig
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.files import values_at
from spiderpool.cli.installation import AGENT, COMPONENT_LABEL
from spiderpool.cli.main import cli
from spiderpool.cli.migration import steps as migration_steps
from spiderpool.cli.migration.back import give_back, preview
from spiderpool.cli.migration.look import AgentDaemonSet, MigrationState, Places, read_state
from spiderpool.cli.migration.obstacles import obstacles
from spiderpool.cli.migration.report import MigrationReport, report_of
from spiderpool.cli.migration.steps import is_limited, limited, merge_patch, take_over
from spiderpool.cli.migration.values import REFUSED, SERVED, UNKNOWN, WITHOUT_EFFECT, flags, setting_rows, value_rows
from spiderpool.cli.printing import View, printed
from spiderpool.core.ipam.migration_groups import LABEL, Side
from spiderpool.errors import BadConfig, NotReady, Refused, SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool_lab import chart
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually
from tests.support.go_cluster import MACHINE, STATEFUL_SET, GoCluster, pod

pytestmark = pytest.mark.unit

KINDS = (
    *(
        AgentDaemonSet,
        Deployment,
        StatefulSet,
        ReplicaSet,
        ConfigMap,
        Node,
        Pod,
        SpiderIP,
        SpiderIPPool,
        SpiderEndpoint,
    ),
    *(SpiderReservedIP, SpiderSubnet, SpiderMultusConfig, SpiderCoordinator, VirtualMachine, VirtualMachineInstance),
)
PLACES = Places("spiderpool", ("kube-system", "spiderpool-agent"), "spiderpool-conf")
REMOVED = Places("spiderpool", PLACES.former, PLACES.config, removed=True)
THEIR_VALUES = Path(__file__).parents[1] / "chart" / "spiderpool_values.yaml"
SETTINGS = {"enableIPv4": True, "enableIPv6": False, "enableStatefulSet": True, "enableKubevirtStaticIP": True}


def agents(namespace: str = "kube-system", **spec: Any) -> AgentDaemonSet:
    spec = {"volumes": [{"name": "config-path", "configMap": {"name": "spiderpool-conf"}}], **spec}
    body = {
        "metadata": {"name": "spiderpool-agent", "namespace": namespace, "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": {"spec": spec}},
        "status": {"observedGeneration": 99},
    }
    return msgspec.convert(body, AgentDaemonSet)


def ours() -> AgentDaemonSet:
    return agents("spiderpool", nodeSelector={LABEL: "new"})


def node(name: str, ready: str = "True", **labels: str) -> Node:
    status = NodeStatus(conditions=[NodeCondition("Ready", ready)])
    return Node(metadata=ObjectMeta(name=name, labels=labels or None), status=status)


def config(conf: Any = SETTINGS, **data: str) -> ConfigMap:
    text = conf if isinstance(conf, str) else json.dumps(conf)
    return ConfigMap(
        metadata=ObjectMeta(name="spiderpool-conf", namespace="kube-system"), data={"conf.yml": text, **data}
    )


def go_cluster() -> GoCluster:
    """Pods of Namespace shop on n1 and n2, each with a pool of its own."""
    made = GoCluster()
    made.pool("one", "10.6.0.0/24", "10.6.0.1-10.6.0.9", nodeName=["n1"])
    made.pool("two", "10.7.0.0/24", "10.7.0.1-10.7.0.9", nodeName=["n2"])
    made.pod("web-1", {"eth0": {"one": "10.6.0.1"}})
    made.pod("web-2", {"eth0": {"two": "10.7.0.1"}}, node="n2")
    return made


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(*(kind.KIND for kind in KINDS)) as made:
        made.put(agents(), ours(), config(), node("n1"), node("n2"))
        yield made


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with server.client() as made:
        yield made


def put(server: ApiServer, made: GoCluster) -> None:
    """Store a cluster, with the UIDs that the server gives to pods."""
    server.put(*made.pods)
    stored = server.stored(Pod)
    uids = {each.metadata.uid: stored[each.key].metadata.uid for each in made.pods}
    for records in made.records.values():
        for record in records.values():
            record["podUid"] = uids.get(record["podUid"], record["podUid"])
    for endpoint in made.endpoints:
        assert endpoint.status is not None
        endpoint.status.current.uid = uids.get(endpoint.status.current.uid) or endpoint.status.current.uid
    made.write()
    server.put(*made.pools.values(), *made.endpoints)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration_steps, "POLL", 0.01)


def old_agent() -> Pod:
    """An agent of the other release on n1."""
    made = pod("agent-x", {}, OwnerReference("apps/v1", "DaemonSet", "spiderpool-agent", "ds-1", True, True))
    made.metadata.namespace, made.metadata.labels = "kube-system", {"app": "agent"}
    return made


def removed(server: ApiServer) -> None:
    """Our own settings, which count where the other release is removed."""
    settings = config()
    settings.metadata.namespace = "spiderpool"
    server.put(settings)


def side(server: ApiServer, name: str) -> str | None:
    return (server.stored(Node)[name].metadata.labels or {}).get(LABEL)


class TestValues:
    def test_every_value_of_the_other_chart_is_known(self) -> None:
        rows = value_rows(yaml.safe_load(THEIR_VALUES.read_text()), chart.CHART)
        assert {row.outcome for row in rows} == {SERVED, WITHOUT_EFFECT, REFUSED}
        images = {
            f"spiderpool{each}.image.{name}"
            for each in ("Agent", "Controller", "Init")
            for name in ("registry", "repository")
        }
        assert {row.name for row in rows if row.outcome == REFUSED} == images
        assert len(rows) > 200

    def test_it_says_what_the_chart_says(self) -> None:
        given = {
            "coordinator": {"enabled": False, "detectGateway": True},
            "sriov": {"install": True, "image": {"a": 1}},
        }
        rows = {row.name: row for row in value_rows(given, chart.CHART)}
        refused = {name: row.remedy for name, row in rows.items() if row.outcome == REFUSED}
        with pytest.raises(BadConfig) as error:
            chart.templates("coordinator.enabled=false,coordinator.detectGateway=true,sriov.install=true")
        assert {*refused} == {"coordinator.enabled", "coordinator.detectGateway", "sriov.install"}
        assert all(
            f"{name} is" in error.value.message and text in error.value.message for name, text in refused.items()
        )
        assert rows["sriov.image"].outcome == SERVED

    @pytest.mark.parametrize(
        ("given", "path", "outcome"),
        [
            ({"ipam": {"enableIpv4": True}}, "ipam.enableIpv4", UNKNOWN),
            ({"global": {"imageRegistryOverride": "ghcr.m.daocloud.io"}}, "global.imageRegistryOverride", REFUSED),
            ({"spiderpoolAgent": {"image": {"pullPolicy": "Always"}}}, "spiderpoolAgent.image.pullPolicy", SERVED),
            ({"some": {"thing": 1}}, "some.thing", UNKNOWN),
            ({"global": {"commonLabels": {"a.b": "c"}}}, "global.commonLabels", SERVED),
            ({"multus": {"multusCNI": {"log": {"logLevel": "x"}}}}, "multus.multusCNI.log", WITHOUT_EFFECT),
            ({"spiderpoolAgent": {"affinity": {"nodeAffinity": {}}}}, "spiderpoolAgent.affinity", SERVED),
            ({"multus": {"enableMultusConfig": 1}}, "multus.enableMultusConfig", REFUSED),
        ],
    )
    def test_one_value(self, given: dict[str, Any], path: str, outcome: str) -> None:
        (row,) = value_rows(given, chart.CHART)
        assert (row.name, row.outcome) == (path, outcome)

    def test_a_folder_that_is_no_chart(self, tmp_path: Path) -> None:
        with pytest.raises(BadConfig, match="name its folder by --chart"):
            value_rows({}, tmp_path)

    @pytest.mark.parametrize("text", ["", "refused: 5", "refused: [{}]\nunused: []", "[", "[" * 5000])
    def test_a_table_that_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "compatibility.yaml").write_text(text)
        (tmp_path / "values.schema.json").write_text("{}")
        with pytest.raises(BadConfig, match="name its folder by --chart"):
            value_rows({}, tmp_path)

    async def test_what_yaml_takes_for_a_date_is_a_text_as_for_helm(
        self, server: ApiServer, client: Client, tmp_path: Path
    ) -> None:
        file = tmp_path / "values.yaml"
        file.write_text("global: {commonLabels: {since: 2026-01-02}}\n2026-01-02: 1")
        rows = {row.name: row.value for row in value_rows(values_at(file), chart.CHART)}
        assert rows == {"global.commonLabels": '{"since": "2026-01-02"}', "2026-01-02": "1"}
        server.put(config("a: 2026-01-02"))
        assert (await state(client)).settings == {"a": "2026-01-02"}

    def test_settings(self) -> None:
        conf = {
            **SETTINGS,
            "podResourceInject": {"enabled": True, "namespacesExclude": ["a b"]},
            "agent": {"networkResourcePlugin": {"enabled": False}},
            "iaasNetworkProvider": {"serverUrl": ""},
            "newer": 1,
        }
        rows = {row.name: (row.outcome, row.remedy) for row in setting_rows(conf)}
        assert rows["enableIPv6"] == (SERVED, "ipam.enableIPv6")
        assert rows["podResourceInject.enabled"] == (SERVED, "spiderpoolController.podResourceInject.enabled")
        assert rows["agent.networkResourcePlugin"][0] == WITHOUT_EFFECT
        assert rows["iaasNetworkProvider.serverUrl"][0] == WITHOUT_EFFECT
        assert rows["newer"] == (UNKNOWN, "")
        assert "--set-json ipam.enableIPv6=false" in flags(conf)
        assert """--set-json 'spiderpoolController.podResourceInject.namespacesExclude=["a b"]'""" in flags(conf)


class TestAffinity:
    def test_every_term_wants_the_label(self) -> None:
        wanted = {"key": LABEL, "operator": "In", "values": ["old"]}
        other = {"key": "a", "operator": "Exists"}
        required = {"nodeSelectorTerms": [{"matchExpressions": [other]}, {"matchFields": [other]}]}
        before = {"podAffinity": {"x": 1}, "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
        after = limited(before)
        assert after["podAffinity"] == {"x": 1}
        assert after["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [
            {"matchExpressions": [other, wanted]},
            {"matchFields": [other], "matchExpressions": [wanted]},
        ]
        terms = limited(None)["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert terms == [{"matchExpressions": [wanted]}]
        assert [is_limited(each) for each in (after, limited(None), before, None)] == [True, True, False, False]

    def test_a_patch_and_its_reverse(self) -> None:
        before = {"nodeAffinity": {"preferred": [1]}, "same": 1}
        after = limited(before)
        assert set(merge_patch(before, after)) == {"nodeAffinity"}
        assert merge_patch(after, before) == {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": None}}
        assert merge_patch(None, after) == after
        assert merge_patch(after, None) is None


async def state(client: Client) -> MigrationState:
    return await read_state(client, PLACES)


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


class TestGivingBack:
    async def test_the_other_release_is_removed(self, server: ApiServer, client: Client) -> None:
        server.remove(agents())
        server.remove(ours())
        with pytest.raises(Refused, match="the other release has been removed"):
            await give_back(client, PLACES)

    async def test_pods_that_started_meanwhile_are_told_to_it(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        put(server, made)
        await take_over(client, PLACES, ["n1"], 5.0)
        old = server.stored(SpiderIP)["10.6.0.1"]
        new = pod("web-3", {"eth0": {"one": "10.6.0.5"}})
        server.put(new)
        uids = {each.name: each.metadata.uid for each in server.stored(Pod).values()}
        meta = ObjectMeta(name="10.6.0.5", labels=old.metadata.labels)
        spec = {"address": "10.6.0.5/24", "pod": "web-3", "podUID": uids["web-3"]}
        server.put(SpiderIP(metadata=meta, spec=replace(old.spec, **spec)))
        assert "it cannot be undone now: our agents run" in (await preview(client, PLACES))[0]
        server.remove(ours())
        assert len(await preview(client, PLACES)) == 1
        done = await give_back(client, PLACES)
        assert "1 SpiderEndpoints written for pods that started meanwhile" in done
        assert not server.stored(SpiderIP)
        status = server.stored(SpiderIPPool)["one"].status
        assert status is not None
        assert json.loads(status.allocatedIPs or "") == {
            "10.6.0.1": {"pod": "shop/web-1", "podUid": uids["web-1"]},
            "10.6.0.5": {"pod": "shop/web-3", "podUid": uids["web-3"]},
        }
        assert status.allocatedIPCount == 2
        endpoint = server.stored(SpiderEndpoint)["shop/web-3"]
        assert endpoint.metadata.finalizers == ["spiderpool.spidernet.io"]
        assert (side(server, "n1"), side(server, "n2")) == (None, None)
        assert server.stored(AgentDaemonSet)["kube-system/spiderpool-agent"].affinity is None
        assert not server.stored(AgentDaemonSet)["kube-system/spiderpool-agent"].metadata.annotations

    @pytest.mark.parametrize("needed", [True, False])
    async def test_a_fixed_address_whose_pod_has_ended(self, server: ApiServer, client: Client, needed: bool) -> None:
        """Without a SpiderEndpoint the other release would give it to another pod."""
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        labels = server.stored(SpiderIP)["10.6.0.1"].metadata.labels
        held = (
            ("db-0", "10.6.0.5", "eth0", IPOwner("StatefulSet", "shop", "db")),
            ("db-0", "10.6.0.6", "net1", IPOwner("StatefulSet", "shop", "db")),
            ("virt-launcher-vm-x", "10.6.0.7", "eth0", IPOwner("VirtualMachineInstance", "shop", "vm")),
        )
        for name, address, interface, owner in held:
            spec = IPSpec(f"{address}/24", "one", "n1", "shop", name, f"uid-of-{name}", interface, owner)
            server.put(SpiderIP(metadata=ObjectMeta(name=address, labels=labels), spec=spec))
        if needed:
            server.put(StatefulSet(metadata=ObjectMeta(name="db", namespace="shop"), spec=WorkloadSpec(replicas=1)))
            server.put(VirtualMachine(metadata=ObjectMeta(name="vm", namespace="shop")))
        server.remove(ours())
        done = await give_back(client, PLACES)
        found = {key: each for key, each in server.stored(SpiderEndpoint).items() if key in ("shop/db-0", "shop/vm")}
        sentence = "2 SpiderEndpoints written for fixed addresses whose pods have ended meanwhile"
        assert (sentence in done, bool(found)) == (needed, needed)
        if needed:
            assert {each.metadata.ownerReferences for each in found.values()} == {None}, "it outlives its pod"
            status = found["shop/db-0"].status
            assert status is not None
            assert (status.ownerControllerType, status.current.uid) == ("StatefulSet", "uid-of-db-0")
            assert [(each.interface, each.ipv4) for each in status.current.ips] == [
                ("eth0", "10.6.0.5/24"),
                ("net1", "10.6.0.6/24"),
            ]

    async def test_a_pod_that_has_begun_keeps_its_endpoint_from_what_its_forerunner_left(
        self, server: ApiServer, client: Client
    ) -> None:
        made = go_cluster()
        made.pod("db-0", {"eth0": {"one": "10.6.0.5"}}, STATEFUL_SET)
        put(server, made)
        server.put(StatefulSet(metadata=ObjectMeta(name="db", namespace="shop"), spec=WorkloadSpec(replicas=1)))
        await take_over(client, PLACES, ["n1"], 5.0)
        left = replace(server.stored(SpiderIP)["10.6.0.5"], metadata=ObjectMeta(name="10.6.0.6"))
        left.spec = replace(left.spec, address="10.6.0.6/24", podUID="uid-of-former", interface="net1")
        server.put(left)
        server.remove(ours())
        await give_back(client, PLACES)
        status = server.stored(SpiderEndpoint)["shop/db-0"].status
        assert status is not None
        assert [each.ipv4 for each in status.current.ips] == ["10.6.0.5/24"]

    async def test_nothing_begins_on_nodes_whose_spiderips_are_deleted_in_part(
        self, server: ApiServer, client: Client
    ) -> None:
        """Who changes their mind then, and installs our agents again, would have them give addresses in use."""
        put(server, go_cluster())
        await take_over(client, PLACES, [], 5.0)
        server.remove(ours())
        server.inject(Fault("delete", times=99, plural="spiderreservedips", status=500))
        with pytest.raises(SpiderpoolError):
            await give_back(client, PLACES)
        assert not server.stored(SpiderIP)
        assert (side(server, "n1"), side(server, "n2")) == (Side.MOVING, Side.MOVING)
        server.clear_faults()
        server.put(ours())
        await take_over(client, PLACES, [], 5.0)
        assert {*server.stored(SpiderIP)} == {"10.6.0.1", "10.7.0.1"}

    async def test_records_are_written_after_the_endpoints_that_name_them(
        self, server: ApiServer, client: Client
    ) -> None:
        """The other controller frees the address of a living pod whose SpiderEndpoint has another UID or address."""
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        again = pod("web-1", {"eth0": {"one": "10.6.0.5"}}, uid="uid-of-next")
        server.remove(server.stored(Pod)["shop/web-1"])
        server.put(again)
        old = server.stored(SpiderIP)["10.6.0.1"]
        uid = server.stored(Pod)["shop/web-1"].metadata.uid or ""
        spec = replace(old.spec, address="10.6.0.5/24", podUID=uid)
        server.remove(old)
        server.put(SpiderIP(metadata=ObjectMeta(name="10.6.0.5", labels=old.metadata.labels), spec=spec))
        server.remove(ours())
        server.inject(Fault("patch", times=99, plural="spiderippools", status=500))
        with pytest.raises(SpiderpoolError):
            await give_back(client, PLACES)
        status = server.stored(SpiderEndpoint)["shop/web-1"].status
        assert status is not None
        assert status.current.uid == uid
        server.clear_faults()
        server.put(ours())
        await take_over(client, PLACES, ["n1"], 5.0)
        assert not server.stored(SpiderReservedIP), "whose address it is is known"

    async def test_an_address_that_an_agent_gives_while_it_ends(self, server: ApiServer, client: Client) -> None:
        """Agents may end only after records were read, and give an address between."""
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        record = server.stored(SpiderIP)["10.6.0.1"]
        agent = pod("ours-x", {})
        agent.metadata.namespace, agent.metadata.labels = "spiderpool", {COMPONENT_LABEL: AGENT}
        server.remove(ours())
        server.put(agent)
        server.inject(Fault("list", plural="statefulsets", delay=0.5))
        server.list_queries.clear()
        giving_back = asyncio.create_task(give_back(client, PLACES))
        await eventually(lambda: "pods" in [plural for plural, _ in server.list_queries])
        late = replace(record.spec, address="10.6.0.7/24", pod="late", podUID="uid-late")
        server.put(SpiderIP(metadata=ObjectMeta(name="10.6.0.7", labels=record.metadata.labels), spec=late))
        server.remove(agent)
        await giving_back
        status = server.stored(SpiderIPPool)["one"].status
        assert status is not None
        assert "10.6.0.7" in json.loads(status.allocatedIPs or "")
        assert not server.stored(SpiderIP)

    async def test_our_agents_are_in_another_namespace(self, server: ApiServer, client: Client) -> None:
        """Who forgets --namespace must not have SpiderIPs deleted under agents that run."""
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        server.remove(ours())
        agent = pod("ours-x", {})
        agent.metadata.namespace, agent.metadata.labels = "elsewhere", {COMPONENT_LABEL: AGENT}
        theirs = pod("theirs-x", {})
        theirs.metadata.namespace, theirs.metadata.labels = "kube-system", {COMPONENT_LABEL: AGENT}
        server.put(agent, theirs)
        with pytest.raises(Refused, match=r"our agents run: .* --namespace elsewhere"):
            await give_back(client, PLACES)
        assert server.stored(SpiderIP)
        server.remove(agent)
        await give_back(client, PLACES)

    async def test_our_controller_runs(self, server: ApiServer, client: Client) -> None:
        server.remove(ours())
        server.put(Deployment(metadata=ObjectMeta(name="spiderpool-controller", namespace="spiderpool")))
        with pytest.raises(Refused, match="our controller runs"):
            await give_back(client, PLACES)

    async def test_a_pod_whose_owner_is_being_deleted(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        put(server, made)
        await take_over(client, PLACES, ["n1"], 5.0)
        server.remove(made.endpoints[0])
        server.remove(ours())
        await give_back(client, PLACES)
        status = server.stored(SpiderEndpoint)["shop/web-1"].status
        assert status is not None
        assert status.ownerControllerType == "Pod"

    async def test_a_pool_that_cannot_be_read(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        pool = server.stored(SpiderIPPool)["one"]
        assert pool.status is not None
        pool.status.allocatedIPs = "{"
        server.put(pool)
        server.remove(ours())
        with pytest.raises(Refused, match=r"pool one: status\.allocatedIPs is no JSON"):
            await give_back(client, PLACES)
        assert server.stored(SpiderIP)


def commands(report: MigrationReport) -> list[list[str]]:
    return [shlex.split(each.replace("\\\n", "")) for each in report.steps if each.startswith(" ")]


class TestReport:
    async def test_the_command_of_the_installation_is_one_of_our_chart(self, server: ApiServer, client: Client) -> None:
        server.remove(ours())
        server.put(
            config({**SETTINGS, "podResourceInject": {"namespacesInclude": ["a"]}}, clusterNetwork="ipvlan-eth0")
        )
        server.put(SpiderCoordinator(metadata=ObjectMeta(name="mine")))
        report = report_of(await state(client))
        ((*words,),) = commands(report)
        assert words[:6] == ["helm", "install", "spiderpool", "charts/spiderpool", "--namespace", "spiderpool"]
        rest = [word for word in words[6:] if word != "--create-namespace"]
        made = chart.helm("template", "spiderpool", chart.CHART, "--namespace", "spiderpool", *rest)
        (found,) = [
            each
            for each in chart.documents(made)
            if each["metadata"]["name"] == "spiderpool-agent" and "template" in each.get("spec", {})
        ]
        (container,) = found["spec"]["template"]["spec"]["containers"]
        env = {each["name"]: each.get("value") for each in container["env"]}
        assert env["MULTUS_CLUSTER_NETWORK"] == "kube-system/ipvlan-eth0"
        assert env["SPIDERPOOL_REPLACED_NETWORK_LISTS"] == "00-multus.conf"
        assert "enableIPv6: false" in made

    async def test_the_command_with_values_of_the_other_release(self, server: ApiServer, client: Client) -> None:
        server.remove(ours())
        server.put(config(clusterNetwork="shop/ipvlan"))
        ((*words,),) = commands(report_of(await state(client), file=str(THEIR_VALUES)))
        rest = [word for word in words[6:] if word != "--create-namespace"]
        made = chart.helm("template", "spiderpool", chart.CHART, "--namespace", "spiderpool", *rest)
        assert "value: shop/ipvlan" in made

    async def test_a_variable_of_the_values_is_kept(self, server: ApiServer, client: Client, tmp_path: Path) -> None:
        server.remove(ours())
        server.put(config(clusterNetwork="shop/ipvlan"))
        given = {"spiderpoolAgent": {"extraEnv": [{"name": "SPIDERPOOL_LOG_LEVEL", "value": "debug"}]}}
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(given))
        report = report_of(await state(client), values=value_rows(given, chart.CHART), file=str(file))
        ((*words,),) = commands(report)
        rest = [word for word in words[6:] if word != "--create-namespace"]
        made = chart.helm("template", "spiderpool", chart.CHART, "--namespace", "spiderpool", *rest)
        assert "value: shop/ipvlan" in made
        assert "SPIDERPOOL_LOG_LEVEL" in made

    async def test_the_commands_say_again_that_the_other_release_is_removed(
        self, server: ApiServer, client: Client
    ) -> None:
        put(server, go_cluster())
        server.remove(agents())
        removed(server)
        assert all("--removed" in words for words in commands(report_of(await read_state(client, REMOVED))))

    async def test_the_last_commands(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        report = report_of(await state(client))
        assert [words[-1] for words in commands(report)] == ["n1", "n2"]
        await take_over(client, PLACES, [], 5.0)
        texts = [" ".join(words) for words in commands(report_of(await state(client)))]
        assert texts == [
            "helm uninstall spiderpool --namespace kube-system --no-hooks",
            "helm upgrade spiderpool charts/spiderpool --namespace spiderpool --reset-then-reuse-values "
            "--set migration.agentsOnly=false",
            "kubectl --namespace spiderpool rollout status daemonset/spiderpool-agent",
            f"kubectl label nodes --all {LABEL}-",
        ]
        server.remove(ours())
        elsewhere = Places("spiderpool", PLACES.former, "spiderpool-conf")
        removed = commands(report_of(await read_state(client, elsewhere)))
        assert removed[0] == ["spiderpoolctl", "migrate", "--undo", "--apply"]
        server.put(ours())
        server.remove(agents())
        server.put(Deployment(metadata=ObjectMeta(name="spiderpool-controller", namespace="spiderpool")))
        assert len(commands(report_of(await state(client)))) == 1

    async def test_a_command_holds_what_the_cluster_says_in_quotes(self, server: ApiServer, client: Client) -> None:
        named = agents()
        named.metadata.annotations = {"meta.helm.sh/release-name": "x; rm -rf \x1b[1m"}
        server.put(named)
        put(server, go_cluster())
        await take_over(client, PLACES, [], 5.0)
        report = report_of(await state(client))
        assert commands(report)[0][:3] == ["helm", "uninstall", "x; rm -rf \x1b[1m"]
        assert all(line.isprintable() for line in printed(report, "table", View()).split("\n"))

    async def test_a_long_command_is_printed_in_lines(self, server: ApiServer, client: Client) -> None:
        server.remove(ours())
        report = report_of(await state(client))
        (command,) = (each for each in report.steps if each.startswith(" "))
        assert "\n" in command
        assert command in printed(report, "table", View())

    async def test_it_is_printed_in_sections(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        made.pools["two"].spec.ips = ["10.7.0.1-10.7.0.99"]
        for number in range(30):
            made.record(pod(f"gone-{number}", {}), {"eth0": {"two": f"10.7.0.{10 + number}"}})
        put(server, made)
        vlan = MultusConfigSpec(vlan=VlanConfig(master=["eth0"], vlanMode="auto"))
        server.put(SpiderMultusConfig(metadata=ObjectMeta(name="v", namespace="shop"), spec=vlan))
        rows = value_rows({"sriov": {"install": True}}, chart.CHART)
        report = report_of(await state(client), values=rows, done=["done"])
        text = "\n".join(report.lines(View(width=200)))
        for part in ("done", "SIDE  NODES  POOLS", "2 are taken over", "and 10 more free (-o wide)", "sriov.install"):
            assert part in text
        assert "shop/v: vlanMode auto has no counterpart" in text
        assert "! sriov.install is true: install the operator" in text
        assert "10.7.0.39 free" in "\n".join(report.lines(View(wide=True, width=200)))
        assert json.loads(json.dumps(report.document()))["findings"][0]["addresses"] == ["10.7.0.10"]
        assert [*report.names()] == [
            "spiderip.spiderpool.spidernet.io/10.6.0.1",
            "spiderip.spiderpool.spidernet.io/10.7.0.1",
        ]

    def test_options_that_are_wrong(self, tmp_path: Path) -> None:
        access = tmp_path / "kubeconfig"
        access.write_text(
            "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]\n"
            "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        )
        result = CliRunner().invoke(cli, ["migrate", "--from", "x", "--kubeconfig", str(access)])
        assert result.exit_code == 1
        assert "write Namespace and name of the DaemonSet" in result.output

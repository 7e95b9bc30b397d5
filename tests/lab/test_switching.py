"""Services of all kinds that another controller has served: ours changes nothing, and that one finds all again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec
import pytest

from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.loadbalancer import checking
from spiderpool.core.cloud.loadbalancer.adoption import adapted
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import options_of
from spiderpool.core.cloud.loadbalancer.model import build_model
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool_lab.admin_client import AdminClient
from spiderpool_lab.alibaba.account import ENIAddresses
from spiderpool_lab.alibaba.admin import Admin
from spiderpool_lab.switching.endpoints import ServedService
from spiderpool_lab.switching.services import SERVICES, VSWITCH, ZONE_MAPS, Json, SwitchedService
from spiderpool_lab.switching.stage import SwitchStage
from tests.cloud.alibaba import simulation
from tests.cloud.alibaba.balancers import api_of
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit

PODS = {"everywhere": (("172.31.192.10", "a"), ("172.31.192.20", "b")), "somewhere": (("172.31.192.11", "a"),)}
NAMED = {"http": 80}
"""Name of a container's port → its number."""
VALUES = {ZONE_MAPS: "cn-hangzhou-i:vsw-1,cn-hangzhou-h:vsw-2", VSWITCH: "vsw-1"}


def endpoints(service: SwitchedService) -> Json:
    """The EndpointSlice of a Service."""
    return {
        "metadata": {"name": service.name, "labels": {"kubernetes.io/service-name": service.name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "nodeName": node} for address, node in PODS[service.app]],
        "ports": [
            {
                "name": each.get("name", ""),
                "port": NAMED.get(each["targetPort"], each["targetPort"]),
                "protocol": each["protocol"],
            }
            for each in service.ports
        ],
    }


def merged(present: Json, part: Json) -> Json:
    """An object with a merge patch; None takes a key away (RFC 7386)."""
    result = {**present, **part}
    for key, value in part.items():
        if isinstance(value, dict):
            result[key] = merged(present.get(key, {}), value)
    return {key: value for key, value in result.items() if value is not None}


class PretendServices:
    """Objects of a cluster, as an API server keeps them."""

    def __init__(self, services: Iterable[SwitchedService]) -> None:
        condition = {"type": "Ready", "status": "True"}
        nodes = [
            {
                "metadata": {"name": name},
                "spec": {"providerID": f"cn-hangzhou.i-{name}"},
                "status": {"conditions": [condition]},
            }
            for name in "ab"
        ]
        self.objects: dict[str, list[Json]] = {
            "nodes": nodes,
            "endpointslices": [endpoints(each) for each in services],
            "services": [],
        }

    def create(self, manifests: Iterable[Json]) -> None:
        """Give each Service a UID and node ports."""
        for number, manifest in enumerate(manifests):
            manifest["metadata"]["uid"] = f"{number:08}-4e5f-6071-8293-a4b5c6d7e8f9"
            for place, port in enumerate(manifest["spec"]["ports"]):
                port["nodePort"] = 30_000 + 10 * number + place
            self.objects["services"].append({**manifest, "status": {}})

    def listed(self, kind: str) -> list[Json]:
        """The objects of a kind."""
        return self.objects[kind]

    def patch(self, name: str, body: Json, *, status: bool = False) -> None:
        """Merge."""
        (found,) = [each for each in self.objects["services"] if each["metadata"]["name"] == name]
        for key, part in body.items():
            found[key] = merged(found[key], part)


@pytest.fixture
async def simulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[SimulatedCloud]:
    """An account with two servers that have pods' addresses, and a second zone."""
    simulation.without_proxy(monkeypatch)
    account = simulation.new_account()
    account.add_vswitch("172.31.208.0/20", zone="cn-hangzhou-h", identity="vsw-2")
    for name, number in (("a", 10), ("b", 20)):
        server = account.add_instance(name, identity=f"i-{name}").identity
        pods = tuple(f"172.31.192.{number + place}" for place in range(3))
        account.add_eni("vsw-1", instance=server, identity=f"eni-{name}", addresses=ENIAddresses(secondaries=pods))
    async with simulation.served(account, tmp_path) as simulated:
        yield simulated


@pytest.fixture
def services() -> PretendServices:
    """A cluster without Services."""
    return PretendServices(SERVICES)


@pytest.fixture
async def stage(simulated: SimulatedCloud, services: PretendServices) -> AsyncIterator[SwitchStage]:
    """Services that the other controller has served, with settings made at the console."""
    vpc = simulated.account.vpc.identity
    async with Admin(simulated.account).serve() as endpoint:
        admin = AdminClient(int(endpoint.url.rpartition(":")[2]))
        stage = SwitchStage(services, admin, cluster_id="c1", vpc=vpc)
        await asyncio.to_thread(stage.create, VALUES)
        await asyncio.to_thread(stage.serve_by_other)
        await asyncio.to_thread(stage.set_at_console)
        yield stage


async def rule(simulated: SimulatedCloud, served: ServedService) -> list[str]:
    """Do what our controller does to the balancer of a Service; returns the steps."""
    configuration = BalancerConfiguration(cluster="c1", vpc=simulated.account.vpc.identity, vswitch="vsw-1")
    service = msgspec.convert(served.service, Service)
    options = options_of(service, kinds.kind_of(service) or kinds.CLB)
    assert checking.faults(service, options, configuration) == ()
    nodes = [msgspec.convert(each, Node) for each in served.cluster.nodes]
    slices = [
        msgspec.convert(each, EndpointSlice)
        for each in served.cluster.slices
        if each["metadata"]["labels"]["kubernetes.io/service-name"] == served.name
    ]
    model = build_model(service, options, BackendSnapshot(nodes, slices, served.cluster.enis), configuration)
    api = api_of(simulated, options.kind)
    observed = await api.find(model.owner, model.reuse, model.lent_groups)
    assert observed is not None
    planned = plan(adapted(model, observed), observed)
    await api.carry_out(planned, observed)
    return [f"{served.name}: {step}" for step in planned]


async def rule_all(simulated: SimulatedCloud, stage: SwitchStage) -> list[str]:
    """Do what our controller does to all balancers; returns the steps."""
    return [step for each in await asyncio.to_thread(stage.served) for step in await rule(simulated, each)]


async def test_ours_only_records_tags_and_the_other_one_finds_all_as_it_left_it(
    simulated: SimulatedCloud, stage: SwitchStage
) -> None:
    before = await asyncio.to_thread(stage.holdings)
    (record,) = await rule_all(simulated, stage)
    assert record.startswith("clb-named: tag the balancer: spiderpool.tags."), record
    assert await rule_all(simulated, stage) == []
    later = await asyncio.to_thread(stage.holdings)
    changed = [text for name, held in before.items() for text in held.changes(later[name])]
    assert [text.split(": ")[:2] for text in changed] == [[before["clb-named"].identity, "tags"]]
    stage.forget_hashes()
    assert await asyncio.to_thread(stage.serve_by_other) == []


async def test_the_other_one_goes_on_with_what_ours_has_added_meanwhile(
    simulated: SimulatedCloud, stage: SwitchStage, services: PretendServices
) -> None:
    await rule_all(simulated, stage)
    for each in services.objects["endpointslices"]:
        each["endpoints"].append({"addresses": ["172.31.192.21"], "nodeName": "b"})
    grown = ("clb-tcp", "clb-pods", "nlb-tcp", "nlb-pods", "clb-lent")
    for each in services.objects["services"]:
        if each["metadata"]["name"] in grown:
            (port,) = each["spec"]["ports"]
            port["name"] = "first"
            more = {"name": "more", "port": 9000, "targetPort": 9000, "protocol": "TCP", "nodePort": 31_000}
            each["spec"]["ports"].append(more | {"nodePort": port["nodePort"] + 5})
    for each in services.objects["endpointslices"]:
        if each["metadata"]["name"] in grown:
            each["ports"][0]["name"] = "first"
            each["ports"].append({"name": "more", "port": 9000, "protocol": "TCP"})
    done = await rule_all(simulated, stage)
    assert {each.partition(":")[0] for each in done} >= {*grown, "clb-pods-both", "clb-sticky", "nlb-addresses"}
    await rule_all(simulated, stage)
    assert await asyncio.to_thread(stage.serve_by_other) == []


async def test_the_other_one_changes_servers_and_no_more_when_pods_come_and_go(
    stage: SwitchStage, services: PretendServices
) -> None:
    for each in services.objects["endpointslices"]:
        each["endpoints"][:] = [{"addresses": [f"172.31.192.{last}"], "nodeName": "b"} for last in (21, 22)]
    changes = await asyncio.to_thread(stage.serve_by_other)
    assert {each.partition(": ")[2] for each in changes} == {
        "AddVServerGroupBackendServers",
        "SetVServerGroupAttribute",
        "RemoveVServerGroupBackendServers",
        "AddServersToServerGroup",
        "UpdateServerGroupServersAttribute",
        "RemoveServersFromServerGroup",
    }
    assert await asyncio.to_thread(stage.serve_by_other) == []
    assert await asyncio.to_thread(stage.unmarked) == []

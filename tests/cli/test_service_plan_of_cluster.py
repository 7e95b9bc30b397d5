"""What `service plan` says of Services of a cluster, against the balancers that they have in a simulated account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from spiderpool.api.core_v1 import ConfigMap, Node, Service, ServicePort
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec, SpiderLoadBalancerGrant
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.cli.cloud_commands import plan_of_cluster
from spiderpool.cli.connection import Cluster
from spiderpool.cli.printing import View
from spiderpool.cli.services import Plans
from spiderpool.cloud.provider import NotPermitted
from spiderpool.core.cloud.alibaba.annotations import CLASS, PREFIX
from spiderpool.core.cloud.alibaba.naming import ORIGIN_TAG
from spiderpool.core.cloud.loadbalancer.model import owner_of
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.errors import BadConfig, Refused
from spiderpool_lab.alibaba.account import Account
from tests.cloud.alibaba import simulation
from tests.cloud.alibaba.balancers import HTTP, NODES, api_of, reached, spec_of
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.core.pretend_balancers import KINDS, model_of, node, service
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit

KEPT = (ConfigMap, Service, Node, EndpointSlice, SpiderServer, SpiderLoadBalancerGrant)
SCHEDULER = f"{PREFIX}scheduler"
ZONES = "cn-hangzhou-i:vsw-1,cn-hangzhou-h:vsw-2"


@dataclass(frozen=True)
class PlannedCluster:
    """A cluster of two nodes, and the account of its balancers."""

    cluster: Cluster
    simulated: SimulatedCloud

    async def plan(self, *words: str, values: Path | None = None) -> Plans:
        """What would be done; nothing of it is."""
        before = {call.action for call in self.simulated.account.calls}
        found = await plan_of_cluster(self.cluster, words, values, "kube-system")
        new = [call.action for call in self.simulated.account.calls if call.action not in before]
        assert [action for action in new if not action.partition(":")[2].startswith(("Describe", "List"))] == []
        return found

    async def create(self, made: Service) -> Service:
        """Creates a Service in the cluster, which gives it a UID."""
        return await self.cluster.client.create(made)

    async def make(self, created: Service, *ports: ServicePort) -> None:
        """Makes the balancer that a Service has asked for, with listeners for these ports too."""
        spec = msgspec.structs.replace(created.spec, type="LoadBalancer", ports=[*(created.spec.ports or ()), *ports])
        wanted = model_of(msgspec.structs.replace(created, spec=spec), NODES, self.configuration)
        await reached(api_of(self.simulated, wanted.kind), wanted)

    @property
    def configuration(self) -> BalancerConfiguration:
        """As the cluster's ConfigMap has it."""
        return BalancerConfiguration(cluster="c1", vpc=self.simulated.account.vpc.identity)


@pytest.fixture
async def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[PlannedCluster]:
    """The cluster, without Services, with settings in its ConfigMap and keys by variables."""
    simulation.without_proxy(monkeypatch)
    account = simulation.new_account()
    account.add_vswitch("172.31.208.0/20", zone="cn-hangzhou-h", identity="vsw-2")
    for name in "ab":
        account.add_eni("vsw-1", instance=account.add_instance(name, identity=f"i-{name}").identity)
    kinds = [kind.KIND for kind in KEPT]
    async with (
        simulation.served(account, tmp_path) as simulated,
        ApiServer(*kinds) as server,
        server.client() as client,
    ):
        monkeypatch.setenv("SPIDERPOOL_CLOUD_ENDPOINT", str(simulated.access.override))
        monkeypatch.setenv("SPIDERPOOL_CLOUD_CA", str(simulated.access.authority))
        read_only(account, monkeypatch)
        text = f"cloud: {{provider: alibaba, clusterID: c1, loadBalancers: {{vpcID: {account.vpc.identity}}}}}"
        home = ObjectMeta(name="spiderpool-conf", namespace="kube-system")
        await client.create(ConfigMap(metadata=home, data={"conf.yml": text}))
        for each in "ab":
            await client.create(node(each))
        yield PlannedCluster(Cluster(client, 5.0), simulated)


def read_only(account: Account, monkeypatch: pytest.MonkeyPatch, *allowed: str) -> None:
    """Gives this process keys that may look at balancers, and no more."""
    keys = account.add_identity(allowed=allowed or ("slb:Describe*", "nlb:List*"))
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", keys.key)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", keys.secret)


def held(made: Service) -> Service:
    """A Service with the finalizer of a classic balancer."""
    made.metadata.finalizers = [KINDS["clb"].naming.finalizer]
    return made


def text_of(found: Plans) -> str:
    return "\n".join(found.lines(View()))


async def test_a_balancer_that_is_as_it_should_be_needs_nothing(planned: PlannedCluster) -> None:
    await planned.make(await planned.create(service(HTTP)))
    found = await planned.plan("default/web")
    assert text_of(found) == ("default/web\nnothing to do\n\n0 steps for 0 of 1 Services"), (
        "nothing is billed for what there is"
    )
    assert not found.is_faulty


async def test_what_a_service_without_balancer_would_get_and_cost(planned: PlannedCluster) -> None:
    await planned.create(service(HTTP))
    found = await planned.plan()
    assert found.services[0].steps[0].startswith("create clb balancer ")
    assert "billed: 1 classic balancer" in text_of(found)


async def test_what_would_end_traffic_or_undo_somebodys_work_is_marked(planned: PlannedCluster) -> None:
    await planned.make(await planned.create(service(HTTP)), ServicePort(port=443, nodePort=30443, name="more"))
    (balancer,) = planned.simulated.account.tables.clbs
    planned.simulated.account.tables.clbs.put(replace(balancer, name="by-hand"))
    (web,) = (await planned.plan()).services
    assert "listener tcp/443 is deleted" in web.risks
    assert "the balancer's name is changed" in web.risks


async def test_a_former_kind_of_balancer_is_said_to_go(planned: PlannedCluster) -> None:
    kind = KINDS["nlb"]
    made = service(HTTP, **{**spec_of(kind), "type": "ClusterIP"})
    made.metadata.finalizers = [kind.naming.finalizer]
    await planned.make(await planned.create(made))
    found = await planned.plan("web")
    assert any(each.startswith("balancer nlb-") for each in found.services[0].risks), text_of(found)
    assert "! balancer nlb-" in text_of(found)


async def test_a_lost_balancer_is_not_made_anew(planned: PlannedCluster) -> None:
    created = await planned.create(service(HTTP))
    lost = {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]}}}
    await planned.cluster.client.patch(Service, "web", lost, "default", sub="status")
    (web,) = (await planned.plan()).services
    assert web.steps == ()
    name = KINDS["clb"].naming.balancer_name(owner_of(created, planned.configuration))
    assert web.faults == (f"load balancer {name} cannot be found; none is made in its place",)


async def test_a_grant_that_is_lacking_keeps_what_is_in_use(planned: PlannedCluster) -> None:
    paid = {"instance-charge-type": "PayBySpec", "spec": "slb.s2.small"}
    created = await planned.create(service(HTTP, annotations=paid))
    new = await planned.plan()
    assert any("slb.s2.small in spec.specs" in fault for fault in new.services[0].faults)
    await planned.make(created)
    used = await planned.plan()
    assert used.services[0].faults == ()
    assert any("it is in use and stays" in note for note in used.services[0].notes)
    assert [each.spec.specs for each in used.grants] == [["slb.s2.small"]]
    granted = LoadBalancerGrantSpec(namespaces=["default"], specs=["slb.s2.small"])
    await planned.cluster.client.create(SpiderLoadBalancerGrant(metadata=ObjectMeta(name="g"), spec=granted))
    assert not (await planned.plan()).is_faulty


async def test_one_kind_that_may_not_be_read_is_a_fault_of_its_services(
    planned: PlannedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only(planned.simulated.account, monkeypatch, "slb:Describe*")
    await planned.create(service(HTTP))
    other = service(HTTP, **spec_of(KINDS["nlb"]))
    other.metadata.name, other.metadata.uid = "other", "0b1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
    await planned.create(other)
    by_name = {each.service: each for each in (await planned.plan()).services}
    assert by_name["default/web"].faults == ()
    (fault,) = by_name["default/other"].faults
    assert fault.startswith("its balancer was not looked at: ListLoadBalancers was refused")
    with pytest.raises(NotPermitted, match="ListLoadBalancers"):
        await planned.plan("other")


async def test_settings_may_be_those_of_a_file(planned: PlannedCluster, tmp_path: Path) -> None:
    await planned.create(service(HTTP))
    values = tmp_path / "conf.yml"
    values.write_text("cloud: {provider: alibaba, clusterID: other}")
    assert "web/default/other" in text_of(await planned.plan(values=values))


async def test_what_is_not_there_is_named(planned: PlannedCluster) -> None:
    await planned.create(service(HTTP, type="ClusterIP"))
    with pytest.raises(BadConfig, match="no Service of type LoadBalancer"):
        await planned.plan()
    with pytest.raises(Refused, match="Service default/none does not exist"):
        await planned.plan("none")
    with pytest.raises(BadConfig, match="--spiderpool-namespace"):
        await plan_of_cluster(planned.cluster, (), None, "elsewhere")


async def test_a_class_that_comes_later_removes_nothing(planned: PlannedCluster) -> None:
    created = await planned.create(held(service(HTTP)))
    await planned.make(created)
    body = {"metadata": {"annotations": {CLASS: "mine"}}}
    await planned.cluster.client.patch(Service, "web", body, "default")
    text = text_of(await planned.plan("default/web"))
    assert "stays, and only its servers are kept up to date" in text
    assert "delete balancer" not in text


async def test_another_kind_is_made_before_the_former_goes_unless_another_controller_made_it(
    planned: PlannedCluster,
) -> None:
    created = await planned.create(held(service(HTTP)))
    await planned.make(created)
    granted = LoadBalancerGrantSpec(namespaces=["default"], vSwitches=["vsw-1", "vsw-2"])
    await planned.cluster.client.create(SpiderLoadBalancerGrant(metadata=ObjectMeta(name="g"), spec=granted))
    body = {"metadata": {"annotations": {f"{PREFIX}type": "nlb", f"{PREFIX}zone-maps": ZONES}}}
    await planned.cluster.client.patch(Service, "web", body, "default")
    text = text_of(await planned.plan("default/web"))
    assert text.index("create nlb balancer") < text.index("delete balancer")
    (made,) = planned.simulated.account.tables.clbs
    others = {key: value for key, value in made.tags.items() if key != ORIGIN_TAG}
    planned.simulated.account.tables.clbs.put(replace(made, tags=others))
    text = text_of(await planned.plan("default/web"))
    assert "was made by another controller, and stays a clb one" in text
    assert "delete balancer" not in text
    assert "create nlb balancer" not in text


async def test_a_service_that_is_being_deleted_gets_no_balancer_anew(planned: PlannedCluster) -> None:
    created = await planned.create(held(service(HTTP)))
    await planned.make(created)
    await planned.cluster.client.delete(Service, "web", "default")
    (web,) = (await planned.plan()).services
    assert [each.split()[0] for each in web.steps[-1:]] == ["delete"]
    assert not any("create" in step for step in web.steps)


async def switched(planned: PlannedCluster, **more: str) -> Service:
    """A Service with a classic balancer, recorded in its label, that asks for a network one by its class now."""
    created = await planned.create(held(service(HTTP)))
    await planned.make(created)
    (made,) = planned.simulated.account.tables.clbs
    patch = {
        "metadata": {
            "labels": {KINDS["clb"].naming.identity_label: made.identity},
            "annotations": {PREFIX + key.replace("_", "-"): value for key, value in more.items()},
        },
        "spec": {"loadBalancerClass": "alibabacloud.com/nlb"},
    }
    return await planned.cluster.client.patch(Service, "web", patch, "default")


async def test_a_balancer_of_another_class_takes_the_place_of_the_one_in_the_label(planned: PlannedCluster) -> None:
    granted = LoadBalancerGrantSpec(namespaces=["default"], vSwitches=["vsw-1", "vsw-2"])
    await planned.cluster.client.create(SpiderLoadBalancerGrant(metadata=ObjectMeta(name="g"), spec=granted))
    await switched(planned, zone_maps=ZONES)
    (web,) = (await planned.plan()).services
    assert web.faults == ()
    assert web.steps[0].startswith("create nlb balancer")
    assert any(step.startswith("delete balancer lb-") for step in web.steps)


async def test_one_that_is_lent_takes_its_place_only_if_it_is_there(planned: PlannedCluster) -> None:
    granted = LoadBalancerGrantSpec(namespaces=["default"], loadBalancers=["nlb-mine"])
    await planned.cluster.client.create(SpiderLoadBalancerGrant(metadata=ObjectMeta(name="g"), spec=granted))
    await switched(planned, id="nlb-mine")
    (web,) = (await planned.plan()).services
    (fault,) = web.faults
    assert fault.startswith("load balancer nlb-mine, which annotation ")
    assert web.steps == ()


@pytest.mark.parametrize(("annotations", "why"), [({}, "zone-maps"), ({"zone_maps": ZONES}, "in spec.vSwitches")])
async def test_the_former_kind_stays_while_the_other_is_refused(
    planned: PlannedCluster, annotations: dict[str, str], why: str
) -> None:
    await switched(planned, **annotations)
    (web,) = (await planned.plan()).services
    assert any(why in fault for fault in web.faults)
    assert not any("delete balancer" in step for step in web.steps)
    assert any("stays, and only its servers are kept up to date" in note for note in web.notes)


async def test_a_balancer_without_service_needs_consent(planned: PlannedCluster) -> None:
    created = await planned.create(held(service(HTTP, annotations={"preserve-lb-on-delete": "on"})))
    await planned.make(created)
    await planned.cluster.client.patch(Service, "web", {"spec": {"type": "ClusterIP"}}, "default")
    refused = await planned.plan()
    (web,) = refused.services
    assert any("spec.preserve: true" in fault and "balancer and Service stay" in fault for fault in web.faults)
    assert (web.steps, [each.spec.preserve for each in refused.grants]) == ((), [True])
    granted = LoadBalancerGrantSpec(namespaces=["default"], preserve=True)
    await planned.cluster.client.create(SpiderLoadBalancerGrant(metadata=ObjectMeta(name="g"), spec=granted))
    found = await planned.plan()
    assert (found.is_faulty, found.grants) == (False, ())
    assert not any("delete balancer" in step for step in found.services[0].steps)

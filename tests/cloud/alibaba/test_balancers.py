"""Plans carried out by the simulated cloud: what is seen afterwards is what should be."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.cloud.alibaba.clb import ClassicLoadBalancers
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.pod_enis import PodENIs
from spiderpool.cloud.alibaba.policy import ACTIONS
from spiderpool.cloud.loadbalancers import LoadBalancerAPI
from spiderpool.cloud.provider import CloudNotFound, NotPermitted
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.planning import plan, removal
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, LoadBalancerModel, ObservedLoadBalancer
from spiderpool_lab.alibaba.account import Delays, ENIAddresses
from spiderpool_lab.alibaba.faults import Fault
from tests.cloud.alibaba.conftest import Far
from tests.core.pretend_balancers import endpoints, model_of, node, service

pytestmark = pytest.mark.unit

HTTP = {"port": 80, "nodePort": 30698}
SECURE = {"port": 443, "nodePort": 30443}
DNS = {"port": 53, "nodePort": 30053, "protocol": "UDP"}
ENI = {"service.beta.kubernetes.io/backend-type": "eni"}
NODES = BackendSnapshot([node("a"), node("b")])


@pytest.fixture
def far(far: Far) -> Far:
    """With two servers that have pods' addresses, and a second zone."""
    far.account.add_vswitch("172.31.208.0/20", zone="cn-hangzhou-h", identity="vsw-2")
    for name in "ab":
        server = far.account.add_instance(name, identity=f"i-{name}").identity
        last = {"a": 10, "b": 20}[name]
        pods = tuple(f"172.31.192.{last + place}" for place in range(2))
        far.account.add_eni("vsw-1", instance=server, identity=f"eni-{name}", addresses=ENIAddresses(secondaries=pods))
    for number in range(45):
        far.account.add_eni("vsw-2", instance=far.account.add_instance("n", identity=f"i-n{number}").identity)
    return far


def classic(far: Far) -> ClassicLoadBalancers:
    return ClassicLoadBalancers(far.caller(), "cn-hangzhou")


def network(far: Far) -> NetworkLoadBalancers:
    return NetworkLoadBalancers(far.caller(), "cn-hangzhou", pause=0.01)


def model(far: Far, *ports: dict[str, Any], world: BackendSnapshot = NODES, **spec: Any) -> LoadBalancerModel:
    configuration = BalancerConfiguration(cluster="c1", vpc=far.account.vpc.identity, vswitch="vsw-1")
    return model_of(service(*ports, **spec), world, configuration)


async def reached(cloud: LoadBalancerAPI, wanted: LoadBalancerModel) -> ObservedLoadBalancer:
    """What the cloud shows after a plan; nothing must be left to do."""
    seen = await cloud.find(wanted.owner, wanted.reuse)
    if seen is None:
        identity = await cloud.carry_out(plan(wanted, None)[:1], None)
        seen = await cloud.find(wanted.owner, identity)
    await cloud.carry_out(plan(wanted, seen), seen)
    seen = await cloud.find(wanted.owner, wanted.reuse)
    assert seen is not None
    assert [str(step) for step in plan(wanted, seen)] == []
    return seen


L7 = {
    "protocol-port": "http:80,https:443",
    "forward-port": "80:443",
    "cert-id": "crt-1",
    "health-check-flag": "on",
    "health-check-uri": "/healthz",
    "sticky-session": "on",
    "xforwardedfor-proto": "on",
}
CLASSIC_HISTORY: list[list[dict[str, Any]]] = [
    [{"ports": [HTTP]}],
    [{"ports": [HTTP, DNS, SECURE]}, {"ports": [DNS]}],
    [{"ports": [HTTP, SECURE], "annotations": L7}, {"ports": [HTTP, SECURE]}],
    [
        {"ports": [HTTP], "annotations": {"health-check-type": "http", "health-check-connect-port": "81"}},
        {"ports": [HTTP], "annotations": {"health-check-switch": "off", "connection-drain": "on"}},
        {"ports": [HTTP], "annotations": {"scheduler": "sch", "proxy-protocol": "on", "persistence-timeout": "60"}},
        {"ports": [HTTP]},
    ],
    [
        {"ports": [HTTP], "annotations": {"charge-type": "paybybandwidth", "bandwidth": "9", "name": "mine"}},
        {"ports": [HTTP], "annotations": {"instance-charge-type": "PayBySpec", "delete-protection": "off"}},
        {"ports": [HTTP], "annotations": {"modification-protection": "NonProtection"}},
    ],
    [{"ports": [HTTP], "annotations": {"address-type": "intranet", "acl-status": "on", "acl-id": "acl-1"}}],
    [
        {"ports": [HTTP], "annotations": ENI, "world": BackendSnapshot(slices=[endpoints(("172.31.192.10", "a"))])},
        {"ports": [HTTP], "annotations": ENI, "world": BackendSnapshot(slices=[endpoints(("172.31.192.20", "b"))])},
        {"ports": [HTTP]},
    ],
    [{"ports": [HTTP], "world": BackendSnapshot([node(f"n{number}") for number in range(45)])}, {"ports": [HTTP]}],
]
ZONES = {"zone-maps": "cn-hangzhou-i:vsw-1,cn-hangzhou-h:vsw-2"}
NETWORK_HISTORY: list[list[dict[str, Any]]] = [
    [{"ports": [HTTP, DNS]}, {"ports": [HTTP]}],
    [
        {"ports": [HTTP, SECURE], "annotations": {"protocol-port": "TCPSSL:443", "cert-id": "crt-1"}},
        {"ports": [HTTP, SECURE]},
    ],
    [
        {"ports": [HTTP], "annotations": {"health-check-type": "http", "health-check-httpcode": "http_2xx,http_3xx"}},
        {"ports": [HTTP], "annotations": {"health-check-flag": "off", "scheduler": "wlc", "proxy-protocol": "on"}},
        {"ports": [HTTP], "annotations": {"cross-zone-enabled": "false", "delete-protection": "off", "cps": "10"}},
        {"ports": [HTTP]},
    ],
    [
        {"ports": [HTTP], "annotations": ENI, "world": BackendSnapshot(slices=[endpoints(("172.31.192.10", "a"))])},
        {
            "ports": [HTTP],
            "annotations": {**ENI, "server-group-type": "Ip"},
            "world": BackendSnapshot(slices=[endpoints(("172.31.192.10", "a"))]),
        },
    ],
]


async def with_enis(far: Far, state: dict[str, Any]) -> dict[str, Any]:
    """The ENIs of the pods, as the cloud tells them."""
    world: BackendSnapshot = state.get("world", NODES)
    addresses = {each.addresses[0] for one in world.slices for each in one.endpoints or ()}
    enis = await PodENIs(far.caller(), "cn-hangzhou", far.account.vpc.identity).holders(addresses)
    return {**state, "world": BackendSnapshot(world.nodes, world.slices, enis)}


@pytest.mark.parametrize("history", CLASSIC_HISTORY)
async def test_a_classic_balancer_becomes_what_it_should_be(far: Far, history: list[dict[str, Any]]) -> None:
    for given in history:
        state = await with_enis(far, given)
        wanted = model(far, *state.pop("ports"), **state)
        seen = await reached(classic(far), wanted)
        assert {group.name: group.servers for group in seen.groups} == {
            group.name: group.servers for group in wanted.groups
        }
    assert len(list(far.account.tables.clbs)) == 1
    await classic(far).carry_out(removal("clb", wanted.owner, seen, preserve=False), seen)
    assert not list(far.account.tables.clbs)


@pytest.mark.parametrize(("history", "delay"), [(each, 0.0) for each in NETWORK_HISTORY] + [(NETWORK_HISTORY[0], 0.05)])
async def test_a_network_balancer_becomes_what_it_should_be(
    far: Far, history: list[dict[str, Any]], delay: float
) -> None:
    far.account.delays = Delays(job=delay)
    for given in history:
        state = await with_enis(far, given)
        annotations = ZONES | state.pop("annotations", {})
        spec = {"loadBalancerClass": "alibabacloud.com/nlb", "annotations": annotations, **state}
        wanted = model(far, *spec.pop("ports"), **spec)
        seen = await reached(network(far), wanted)
        assert {group.name: group.servers for group in seen.groups} == {
            group.name: group.servers for group in wanted.groups
        }
    await network(far).carry_out(removal("nlb", wanted.owner, seen, preserve=False), seen)
    assert not list(far.account.tables.nlbs)
    assert not list(far.account.tables.nlb_groups)


def of_kind(kind: str) -> dict[str, Any]:
    return {} if kind == "clb" else {"loadBalancerClass": "alibabacloud.com/nlb", "annotations": ZONES}


def cloud_of(far: Far, kind: str) -> LoadBalancerAPI:
    return classic(far) if kind == "clb" else network(far)


async def test_security_groups_come_and_go(far: Far) -> None:
    for name in ("sg-1", "sg-2"):
        far.account.add_security_group(identity=name)
    for groups in ("sg-1", "sg-1,sg-2", "sg-2"):
        spec = of_kind("nlb")
        spec["annotations"] = {**ZONES, "security-group-ids": groups}
        seen = await reached(network(far), model(far, HTTP, **spec))
        assert seen.settings["SecurityGroupIds"] == groups


@pytest.mark.parametrize("kind", ["clb", "nlb"])
async def test_a_creation_whose_answer_is_lost_is_made_once(far: Far, kind: str) -> None:
    far.account.set_fault(Fault(kind="lose", actions="*:CreateLoadBalancer", times=1))
    await reached(cloud_of(far, kind), model(far, HTTP, **of_kind(kind)))
    assert len(list(far.account.tables.clbs)) + len(list(far.account.tables.nlbs)) == 1


async def test_a_lent_balancer_is_left_as_it_was(far: Far) -> None:
    lent = await reached(classic(far), model(far, HTTP))
    await classic(far).carry_out(removal("clb", model(far).owner, lent, preserve=True), lent)
    before = far.account.tables.clbs.get(lent.identity)
    wanted = model(far, SECURE, annotations={"id": lent.identity})
    seen = await reached(classic(far), wanted)
    assert [str(listener) for listener in seen.listeners] == ["tcp/80"]
    await classic(far).carry_out(removal("clb", wanted.owner, seen, preserve=False), seen)
    after = far.account.tables.clbs.get(lent.identity)
    assert before is not None
    assert after is not None
    assert (after.settings, after.tags) == (before.settings, before.tags)


async def test_another_services_balancer_is_not_found(far: Far) -> None:
    wanted = model(far, HTTP)
    await reached(classic(far), wanted)
    other = wanted.owner.__class__("default", "other", "another-uid", "c1")
    assert await classic(far).find(other) is None
    assert await classic(far).find(wanted.owner, "lb-none") is None


async def test_what_is_not_permitted_is_named(far: Far) -> None:
    far.allow("slb:Describe*")
    with pytest.raises(NotPermitted, match="CreateLoadBalancer"):
        await reached(classic(far), model(far, HTTP))


async def test_every_action_that_is_called_is_in_the_policy(far: Far) -> None:
    allowed = ACTIONS["balancers"]
    far.allow(*allowed)
    await test_a_classic_balancer_becomes_what_it_should_be(far, CLASSIC_HISTORY[2])
    await test_a_network_balancer_becomes_what_it_should_be(far, NETWORK_HISTORY[1], 0.0)
    await test_a_classic_balancer_becomes_what_it_should_be(far, CLASSIC_HISTORY[6])
    assert {call.action for call in far.account.calls} <= set(allowed)


@pytest.mark.parametrize("kind", ["clb", "nlb"])
async def test_a_server_that_is_gone_keeps_no_other_out(far: Far, kind: str) -> None:
    spec = of_kind(kind)
    wanted = model(far, HTTP, world=BackendSnapshot([node("a"), node("gone"), node("b")]), **spec)
    cloud = cloud_of(far, kind)
    identity = await cloud.carry_out(plan(wanted, None)[:1], None)
    seen = await cloud.find(wanted.owner, identity)
    with pytest.raises(CloudNotFound, match="i-gone"):
        await cloud.carry_out(plan(wanted, seen), seen)
    assert await reached(cloud, model(far, HTTP, **spec)) is not None


async def test_the_eni_of_an_address(far: Far) -> None:
    enis = PodENIs(far.caller(), "cn-hangzhou", far.account.vpc.identity)
    assert await enis.holders(["172.31.192.10", "172.31.192.21", "172.31.192.99"]) == {
        "172.31.192.10": "eni-a",
        "172.31.192.21": "eni-b",
    }
    assert await enis.holders([]) == {}

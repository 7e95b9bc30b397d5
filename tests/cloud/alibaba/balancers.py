"""Load balancers in the simulated account: models for them, and plans carried out until nothing is left to do."""

from __future__ import annotations

from typing import Any

from spiderpool.cloud.alibaba.clb import ClassicLoadBalancers
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.pod_enis import PodENIs
from spiderpool.cloud.loadbalancers import LoadBalancerAPI
from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.loadbalancer.adoption import adapted
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.settling import waits
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, ObservedLoadBalancer
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.core.pretend_balancers import model_of, node, service

HTTP = {"port": 80, "nodePort": 30698}
SECURE = {"port": 443, "nodePort": 30443}
DNS = {"port": 53, "nodePort": 30053, "protocol": "UDP"}
ENI = {"service.beta.kubernetes.io/backend-type": "eni"}
NODES = BackendSnapshot([node("a"), node("b")])
ZONES = {"zone-maps": "cn-hangzhou-i:vsw-1,cn-hangzhou-h:vsw-2"}


def classic(simulated: SimulatedCloud) -> ClassicLoadBalancers:
    """Returns the API of classic balancers."""
    return ClassicLoadBalancers(simulated.client(), "cn-hangzhou")


def network(simulated: SimulatedCloud) -> NetworkLoadBalancers:
    """Returns the API of network balancers."""
    return NetworkLoadBalancers(simulated.client(), "cn-hangzhou", pause=0.01)


def model(
    simulated: SimulatedCloud, *ports: dict[str, Any], snapshot: BackendSnapshot = NODES, **spec: Any
) -> LoadBalancerModel:
    """Returns the desired balancer of a Service, by default with two nodes as its backends."""
    configuration = BalancerConfiguration(cluster="c1", vpc=simulated.account.vpc.identity, vswitch="vsw-1")
    return model_of(service(*ports, **spec), snapshot, configuration)


async def reached(cloud: LoadBalancerAPI, desired: LoadBalancerModel) -> ObservedLoadBalancer:
    """Carries out plans until the balancer is as desired, and returns it as the account then describes it."""
    observed = await cloud.find(desired.owner, desired.reuse)
    if observed is None:
        identity = await cloud.carry_out(plan(desired, None)[:1], None)
        observed = await cloud.find(desired.owner, identity)
    assert observed is not None
    was_waiting = waits(adapted(desired, observed), observed, ())
    await cloud.carry_out(plan(desired, observed), observed)
    observed = await cloud.find(desired.owner, desired.reuse)
    assert observed is not None
    if was_waiting:  # for the servers of another group
        await cloud.carry_out(plan(desired, observed), observed)
        observed = await cloud.find(desired.owner, desired.reuse)
        assert observed is not None
    assert [str(step) for step in plan(desired, observed)] == []
    return observed


async def with_enis(simulated: SimulatedCloud, state: dict[str, Any]) -> dict[str, Any]:
    """Returns a state with the ENIs of its pods, as the account has them."""
    snapshot: BackendSnapshot = state.get("snapshot", NODES)
    addresses = {each.addresses[0] for one in snapshot.slices for each in one.endpoints or ()}
    enis = await PodENIs(simulated.client(), "cn-hangzhou", simulated.account.vpc.identity).holders(addresses)
    return {**state, "snapshot": BackendSnapshot(snapshot.nodes, snapshot.slices, enis)}


def spec_of(kind: BalancerKind) -> dict[str, Any]:
    """Returns what a Service says to get a balancer of a kind."""
    return {} if kind is CLB else {"loadBalancerClass": "alibabacloud.com/nlb", "annotations": ZONES}


def api_of(simulated: SimulatedCloud, kind: BalancerKind) -> LoadBalancerAPI:
    """Returns the API of a kind of balancers."""
    return classic(simulated) if kind is CLB else network(simulated)

"""A cloud that refuses each action once: what is not concerned serves all the time, and all becomes as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from spiderpool.cloud.alibaba.policy import ACTIONS
from spiderpool.cloud.loadbalancers import LoadBalancerAPI
from spiderpool.cloud.provider import CloudError, NotPermitted, StepsRefused
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan, plan_removal
from spiderpool.core.cloud.loadbalancer.settling import serves
from spiderpool_lab.alibaba import clb_groups
from spiderpool_lab.alibaba.account import Account, Delays
from spiderpool_lab.alibaba.faults import Fault
from tests.cloud.alibaba.balancers import DNS, HTTP, SECURE, ZONES, api_of, model, reached, spec_of
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.core.pretend_balancers import node

pytestmark = [pytest.mark.unit, pytest.mark.timeout(600)]

WEB = {"port": 8080, "nodePort": 30808}
EXTRA = {"port": 81, "nodePort": 30081}
BEFORE = BackendSnapshot([node("a"), node("n0")])
AFTER = BackendSnapshot([node("a"), node("n1")])
CHANGES = {
    "name": "mine",
    "delete-protection": "off",
    "modification-protection": "NonProtection",
    "additional-resource-tags": "team=x",
    "default-weight": "7",
    "health-check-interval": "9",
}
CLASSIC = {
    "protocol-port": "http:8080,https:443",
    "cert-id": "crt-1",
    "domain-extensions": "a.example.com:crt-2,b.example.com:crt-3",
}
CLASSIC_CHANGES = {
    **CHANGES,
    "instance-charge-type": "PayBySpec",
    "spec": "slb.s2.small",
    "charge-type": "paybybandwidth",
    "bandwidth": "9",
    "domain-extensions": "a.example.com:crt-4,c.example.com:crt-5",
}
NETWORK = {
    **ZONES,
    "protocol-port": "tcpssl:443",
    "cert-id": "crt-1",
    "additional-cert-ids": "crt-2",
    "bandwidth-package-id": "cbwp-1",
    "security-group-ids": "sg-1",
    "ip-version": "dualstack",
    "ipv6-address-type": "internet",
}
NETWORK_CHANGES = {
    **CHANGES,
    "cross-zone-enabled": "false",
    "cps": "10",
    "zone-maps": f"{ZONES['zone-maps']},cn-hangzhou-j:vsw-3",
    "additional-cert-ids": "crt-3",
    "bandwidth-package-id": "cbwp-2",
    "security-group-ids": "sg-2",
    "ipv6-address-type": "intranet",
}
PRIVATE = {"address-type": "intranet", "bandwidth-package-id": ""}
CODE = "OperationUnsupported"

PLAYED = [
    (kind, action)
    for kind, product in ((CLB, "slb"), (NLB, "nlb"))
    for action in ACTIONS["balancers"]
    if action.startswith(f"{product}:") and action != "nlb:GetJobStatus"  # called where another is not permitted
]
PLAYED += [(NLB, action) for action in ACTIONS["balancers"] if "SecurityGroup" in action and action.startswith("ecs:")]
CLOSED = {False: [], True: ["10.0.0.0/8", "192.0.2.0/24"]}
OTHERWISE_CLOSED = {False: [], True: ["10.0.0.0/8", "198.51.100.0/24"]}
"""Whether only some clients are admitted → their ranges."""


@pytest.fixture
def zoned(balanced: SimulatedCloud) -> SimulatedCloud:
    """The account with a third zone, IPv6 in all of them, and two security groups."""
    account = balanced.account
    account.add_vswitch("172.31.224.0/20", zone="cn-hangzhou-j", identity="vsw-3")
    for number, vswitch in enumerate(list(account.tables.vswitches)):
        account.tables.vswitches.put(replace(vswitch, ipv6_block=f"2408:4005:{number}::/64"))
    for name in ("sg-1", "sg-2"):
        account.add_security_group(identity=name)
    return balanced


def closed(annotations: dict[str, str], kind: BalancerKind, *, by_ranges: bool) -> dict[str, str]:
    """The annotations of a Service, without those that say who is admitted where its ranges do."""
    left_out = kind.source_lists.suffixes if by_ranges else frozenset()
    return {key: value for key, value in annotations.items() if key not in left_out}


def first(
    simulated: SimulatedCloud, kind: BalancerKind, *, by_ranges: bool = False, **further: str
) -> LoadBalancerModel:
    """A balancer with a port of each protocol, and one that goes."""
    given = closed((CLASSIC if kind is CLB else NETWORK) | further, kind, by_ranges=by_ranges)
    spec = {**spec_of(kind), "annotations": given, "loadBalancerSourceRanges": CLOSED[by_ranges]}
    return model(simulated, HTTP, DNS, WEB, SECURE, EXTRA, snapshot=BEFORE, **spec)


def second(
    simulated: SimulatedCloud, kind: BalancerKind, *, by_ranges: bool = False, **further: str
) -> LoadBalancerModel:
    """The same with other settings everywhere, a server more, a server less, and a port less."""
    annotations = CLASSIC | CLASSIC_CHANGES if kind is CLB else NETWORK | NETWORK_CHANGES
    given = closed(annotations | further, kind, by_ranges=by_ranges)
    spec = {**spec_of(kind), "annotations": given, "loadBalancerSourceRanges": OTHERWISE_CLOSED[by_ranges]}
    return model(simulated, HTTP, DNS, WEB, SECURE, snapshot=AFTER, **spec)


def servers_by_port(account: Account) -> Iterator[tuple[int, set[str]]]:
    """The ports of the only balancer that run, and the servers behind them."""
    tables = account.tables
    groups = {each.identity: {server.server for server in each.backends} for each in tables.clb_groups}
    for balancer in tables.clbs:
        yield from ((each.port, groups.get(each.group, set())) for each in balancer.listeners if each.running)
    groups = {each.identity: {server.server for server in each.backends} for each in tables.nlb_groups}
    yield from ((each.port, groups.get(each.group, set())) for each in tables.nlb_listeners if each.status == "Running")


async def settle(simulated: SimulatedCloud, cloud: LoadBalancerAPI, desired: LoadBalancerModel) -> None:
    """Looks and carries out what is to do until that is nothing, as the reconciler does, at most four times."""
    kept = {port for port, servers in servers_by_port(simulated.account) if servers and port != EXTRA["port"]}
    for _ in range(4):
        with suppress(CloudError):
            observed = await cloud.find(desired.owner)
            steps = plan(desired, observed)
            if observed is not None and not steps:
                return
            await cloud.carry_out(steps if observed else steps[:1], observed)
        assert kept <= {port for port, servers in servers_by_port(simulated.account) if servers}
    pytest.fail("it never becomes what it should be")


async def remove(cloud: LoadBalancerAPI, desired: LoadBalancerModel, *, preserve: bool) -> None:
    """Removes, or preserves, the balancer as the reconciler does."""
    for _ in range(3):
        with suppress(CloudError):
            observed = await cloud.find(desired.owner)
            if observed is None:
                await cloud.delete_leftovers(desired.owner)
                return
            steps = plan_removal(desired.kind, desired.owner, observed, preserve=preserve)
            await cloud.carry_out(steps, observed)
    assert await cloud.find(desired.owner) is None


@pytest.mark.parametrize(("kind", "action"), PLAYED)
async def test_each_action_is_refused_once(zoned: SimulatedCloud, kind: BalancerKind, action: str) -> None:
    cloud = api_of(zoned, kind)
    refuse = Fault(kind="refuse", actions=action, code=CODE, status=400, times=1)
    by_ranges = kind is CLB or action.startswith("ecs:")
    if ":Create" in action or action == "slb:StartLoadBalancerListener":
        zoned.account.set_fault(refuse)
    await settle(zoned, cloud, first(zoned, kind, by_ranges=by_ranges))
    if CODE not in zoned.outcomes(action):
        zoned.account.set_fault(refuse)
    if action == "nlb:StartListener":
        stopped = next(each for each in zoned.account.tables.nlb_listeners if each.port == EXTRA["port"])
        zoned.account.tables.nlb_listeners.put(replace(stopped, status="Stopped"))
        await settle(zoned, cloud, first(zoned, kind))
    private = PRIVATE if action == "nlb:UpdateLoadBalancerAddressTypeConfig" else {}
    desired = second(zoned, kind, by_ranges=by_ranges, **private)
    await settle(zoned, cloud, desired)
    await remove(cloud, desired, preserve=action.endswith("tagResources"))
    if CODE not in zoned.outcomes(action):
        pytest.skip("nothing here needs it")
    tables = zoned.account.tables
    if not action.endswith("tagResources"):
        assert not [*tables.clbs, *tables.nlbs, *tables.clb_groups, *tables.nlb_groups, *tables.access_lists]
        assert {each.identity for each in tables.security_groups} == {"sg-1", "sg-2"}


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        (CLB, "slb:ModifyLoadBalancerInstanceChargeType"),
        (CLB, "slb:TagResources"),
        (CLB, "slb:SetLoadBalancerUDPListenerAttribute"),
        (NLB, "nlb:UpdateServerGroupAttribute"),
        (NLB, "nlb:LoadBalancerJoinSecurityGroup"),
    ],
)
async def test_what_is_refused_for_good_keeps_no_server_out(
    zoned: SimulatedCloud, kind: BalancerKind, action: str
) -> None:
    cloud, desired = api_of(zoned, kind), second(zoned, kind)
    await reached(cloud, first(zoned, kind))
    zoned.account.set_fault(Fault(kind="refuse", actions=action, code=CODE, status=400))
    observed = await cloud.find(desired.owner)
    with pytest.raises(StepsRefused, match=action.partition(":")[2]) as refused:
        await cloud.carry_out(plan(desired, observed), observed)
    assert (changed := await cloud.find(desired.owner)) is not None
    assert serves(desired, changed)
    assert dict(servers_by_port(zoned.account)) == {port: {"i-a", "i-n1"} for port in (80, 53, 8080, 443)}
    left = [str(step) for step in plan(desired, await cloud.find(desired.owner))]
    assert 1 <= len(left) <= 4
    assert len(refused.value.refusals) == len(left)


async def test_all_refusals_are_told(balanced: SimulatedCloud) -> None:
    desired = first(balanced, CLB)
    await api_of(balanced, CLB).carry_out(plan(desired, None)[:1], None)
    balanced.allow("slb:Describe*", "slb:CreateVServerGroup", "slb:CreateLoadBalancerTCPListener")
    cloud = api_of(balanced, CLB)
    observed = await cloud.find(desired.owner)
    with pytest.raises(StepsRefused) as refused:
        await cloud.carry_out(plan(desired, observed), observed)
    assert (made := await cloud.find(desired.owner)) is not None
    assert not serves(desired, made)
    lacking = {each.action for each in refused.value.refusals if isinstance(each, NotPermitted)}
    assert lacking == {
        "AddVServerGroupBackendServers",
        "StartLoadBalancerListener",
        "CreateLoadBalancerUDPListener",
        "CreateLoadBalancerHTTPListener",
        "CreateLoadBalancerHTTPSListener",
    }


async def test_at_a_quota_servers_go_before_others_come(
    balanced: SimulatedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clb_groups, "BACKENDS_PER_GROUP", 4)
    cloud = api_of(balanced, CLB)
    old, new = (BackendSnapshot([node(f"n{number}") for number in range(start, start + 4)]) for start in (0, 4))
    await reached(cloud, model(balanced, HTTP, snapshot=old))
    await reached(cloud, model(balanced, HTTP, snapshot=new))
    sizes = [
        call.parameters["BackendServers"].count("ServerId")
        for call in balanced.account.calls
        if ":Remove" in call.action
    ]
    assert sizes == [1, 2, 1], "the group is never without a server"
    too_many = BackendSnapshot([node(f"n{number}") for number in range(4, 10)])
    observed = await cloud.find(model(balanced).owner)
    with pytest.raises(CloudError, match="QuotaExceeded"):
        await cloud.carry_out(plan(model(balanced, HTTP, snapshot=too_many), observed), observed)
    assert dict(servers_by_port(balanced.account)) == {80: {f"i-n{number}" for number in range(4, 8)}}


@pytest.mark.parametrize("kept", [[], ["sg-0"]])
async def test_at_a_quota_security_groups_are_left_before_others_are_joined_but_never_all(
    balanced: SimulatedCloud, kept: list[str]
) -> None:
    for number in range(9):
        balanced.account.add_security_group(identity=f"sg-{number}")
    old, new = ([*kept, *(f"sg-{number}" for number in range(start, start + 4 - len(kept)))] for start in (1, 5))

    def desired(groups: list[str]) -> LoadBalancerModel:
        annotations = {**ZONES, "security-group-ids": ",".join(groups)}
        return model(balanced, HTTP, **{**spec_of(NLB), "annotations": annotations})

    cloud, seen = api_of(balanced, NLB), list[int]()
    await reached(cloud, desired(old))
    balanced.account.subscribe(
        lambda _: seen.extend(len(each.security_groups) for each in balanced.account.tables.nlbs)
    )
    observed = await reached(cloud, desired(new))
    assert observed.settings["SecurityGroupIds"] == ",".join(sorted(new))
    assert min(seen) >= 1


async def test_a_listener_does_not_move_to_a_group_without_servers(balanced: SimulatedCloud) -> None:
    cloud = api_of(balanced, CLB)
    await reached(cloud, model(balanced, HTTP))
    moved = model(balanced, {"port": 80, "nodePort": 31000})
    balanced.account.set_fault(
        Fault(kind="refuse", actions="slb:AddVServerGroupBackendServers", code="OperationBusy", status=400, times=1)
    )
    observed = await cloud.find(moved.owner)
    with pytest.raises(CloudError, match="OperationBusy"):
        await cloud.carry_out(plan(moved, observed), observed)
    assert dict(servers_by_port(balanced.account)) == {80: {"i-a", "i-b"}}
    await reached(cloud, moved)


async def test_many_ports_of_a_network_balancer_take_no_longer_than_their_jobs_side_by_side(
    balanced: SimulatedCloud,
) -> None:
    balanced.account.delays = Delays(job=0.05)
    ports = [{"port": 1000 + number, "nodePort": 31000 + number} for number in range(20)]
    await reached(api_of(balanced, NLB), model(balanced, *ports, **spec_of(NLB)))
    asked = [call.parameters for call in balanced.account.calls if call.action == "nlb:ListAsynJobs"]
    changes = [call for call in balanced.account.calls if call.action.startswith(("nlb:Create", "nlb:Add"))]
    assert len(changes) == 61
    assert max(sum(name.startswith("JobIds.") for name in each) for each in asked) >= 5, "one call asks for many jobs"

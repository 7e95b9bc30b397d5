"""The pools of ENIs: what they hold, whom they are fenced from, and what is left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import POOL_ENI_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import IpvlanConfig, MacvlanConfig, MultusConfigSpec
from spiderpool.api.spidernode import NodeAccount, ObservedPool, SpiderNode
from spiderpool.api.spiderserver import ENI
from spiderpool.core.addresses import AddressSet
from spiderpool.core.admission.ippool import PoolContext, default_ippool, validate_ippool
from spiderpool.core.admission.multusconfig import default_multusconfig, validate_multusconfig
from spiderpool.core.cloud.eni_pools import (
    DEVICE_LABEL,
    MOST_NETWORKS,
    NODE_LABEL,
    RELEASING_ANNOTATION,
    UNREGISTERED_ANNOTATION,
    Dispute,
    ENIAbsence,
    ENIClaim,
    absence,
    by_precedence,
    choose_claim,
    is_known_to_agent,
    network_fault,
    network_name,
    new_network,
    new_pool,
    not_observed_text,
    patch_of,
    plan_dissolution,
    plan_update,
    pool_name,
    registered,
    releasing,
    subnet_version,
    unregistered_text,
)
from spiderpool.core.ipam.allocation import usable
from spiderpool.errors import BadConfig
from tests.core.servers import ETH0, ETH1, MASTER

pytestmark = pytest.mark.unit

OURS = "kube-system"


def claim(eni: ENI = ETH1, node: str = "master", *, ready: bool = True) -> ENIClaim:
    return ENIClaim(node, replace(MASTER, enis=(eni,)), eni, ready)


def with_addresses(*addresses: str) -> ENI:
    return replace(ETH1, addresses=addresses)


def made(eni: ENI = ETH1, version: int = 4, name: str = "master-eth1-v4") -> SpiderIPPool:
    """The pool of an ENI as it is stored after admission."""
    pool = new_pool(name, claim(eni), version, (), OURS)
    assert pool is not None
    return default_ippool(pool)


def hand_written(*ips: str, subnet: str = ETH1.subnet, name: str = "by-hand") -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(subnet=subnet, ips=list(ips)))


def holder(address: str, node: str = "master", *, released: bool = False) -> SpiderIP:
    spec = IPSpec(f"{address}/24", "master-eth1-v4", node, "default", f"pod-{address}", f"uid-{address}", "eth0")
    spec.releasedAt = "2025-01-01T00:00:00Z" if released else None
    return SpiderIP(metadata=ObjectMeta(name=address, uid=address), spec=spec)


def kept(pool: SpiderIPPool, eni: ENI | None, *held: SpiderIP, others: Iterable[SpiderIPPool] = ()) -> SpiderIPPool:
    """The pool after the patch, as merge-patch (RFC 7386) makes it."""
    wanted = plan_update(pool, claim(eni) if eni else None, held, others, OURS)
    patch = patch_of(pool, wanted) or {"metadata": {"annotations": {}}, "spec": {}}
    document = msgspec.to_builtins(pool)
    document["spec"] = {k: v for k, v in (document["spec"] | patch["spec"]).items() if v is not None}
    notes = document["metadata"].get("annotations", {}) | patch["metadata"]["annotations"]
    document["metadata"]["annotations"] = {k: v for k, v in notes.items() if v is not None}
    return msgspec.convert(document, SpiderIPPool)


def unregistered(pool: SpiderIPPool) -> str | None:
    return (pool.metadata.annotations or {}).get(UNREGISTERED_ANNOTATION)


def test_the_pool_of_the_walkthrough() -> None:
    pool = made(ETH0)
    assert pool.metadata.labels is not None
    assert pool.metadata.labels[POOL_ENI_LABEL] == "eni-m0"
    assert pool.metadata.ownerReferences is None
    assert msgspec.to_builtins(pool.spec) == {
        "subnet": "172.31.192.0/20",
        "ipVersion": 4,
        "ips": ["172.31.199.185-172.31.199.187"],
        "gateway": "172.31.207.253",
        "nodeName": ["master"],
        "multusName": ["kube-system/ipvlan-eth0"],
        "default": True,
    }
    assert validate_ippool(pool) == ()


def test_the_ipv6_pool_of_an_eni() -> None:
    pool = made(ETH0, 6)
    assert pool.spec.ips == ["2408:4005:3a0:b00::101-2408:4005:3a0:b00::102"]
    assert pool.spec.gateway == "2408:4005:3a0:b00:ffff:ffff:ffff:fffd"
    assert (subnet_version(pool), validate_ippool(pool)) == (6, ())


@pytest.mark.parametrize(
    ("eni", "version"),
    [(replace(ETH1, device=None), 4), (with_addresses(), 4), (ETH1, 6)],
    ids=["no link", "no address", "no IPv6"],
)
def test_a_eni_that_has_nothing_to_give_gets_no_pool(eni: ENI, version: int) -> None:
    assert new_pool("p", claim(eni), version, (), OURS) is None


def test_a_new_pool_leaves_to_others_what_they_have() -> None:
    others = [hand_written("192.168.0.157"), hand_written("172.31.0.1", subnet="172.31.0.0/16", name="far")]
    pool = new_pool("p", claim(), 4, others, OURS)
    assert pool is not None
    assert pool.spec.ips == ["192.168.0.156"]
    assert new_pool("p", claim(), 4, [hand_written("192.168.0.0-192.168.0.255")], OURS) is None


def test_a_gateway_that_is_a_pods_address_is_left_out() -> None:
    eni = replace(with_addresses("192.168.0.253"), gateway=None)
    pool = new_pool("p", claim(eni), 4, (), OURS)
    assert pool is not None
    assert pool.spec.gateway is None


def test_a_pool_that_is_as_it_should_be_is_not_written() -> None:
    assert patch_of(made(), plan_update(made(), claim(), [holder("192.168.0.156")], (), OURS)) is None


def test_a_pool_grows_and_shrinks_with_its_eni() -> None:
    assert kept(made(), with_addresses("192.168.0.156", "192.168.0.160")).spec.ips == ["192.168.0.156", "192.168.0.160"]
    assert kept(made(), with_addresses()).spec.ips is None


def test_a_patch_names_the_version_that_it_was_made_for() -> None:
    pool = made()
    pool.metadata.resourceVersion = "7"
    patch = patch_of(pool, plan_update(pool, claim(with_addresses()), (), (), OURS))
    assert patch == {
        "metadata": {"resourceVersion": "7", "annotations": {UNREGISTERED_ANNOTATION: None}},
        "spec": {"ips": None},
    }


def test_what_vanished_while_it_is_held_is_fenced_and_told_and_comes_back() -> None:
    pod = holder("192.168.0.156")
    fenced = kept(made(), with_addresses("192.168.0.157"), pod)
    assert (fenced.spec.ips, fenced.spec.excludeIPs) == (["192.168.0.156-192.168.0.157"], ["192.168.0.156"])
    assert unregistered(fenced) == "192.168.0.156"
    back = kept(fenced, ETH1, pod)
    assert (back.spec.ips, back.spec.excludeIPs, unregistered(back)) == (made().spec.ips, None, None)


def test_what_vanished_leaves_when_its_pod_does() -> None:
    fenced = kept(made(), with_addresses("192.168.0.157"), holder("192.168.0.156"))
    after = kept(fenced, with_addresses("192.168.0.157"))
    assert (after.spec.ips, after.spec.excludeIPs, unregistered(after)) == (["192.168.0.157"], None, None)


def test_an_address_that_cools_down_is_not_in_use() -> None:
    after = kept(made(), with_addresses("192.168.0.157"), holder("192.168.0.156", released=True))
    assert (after.spec.ips, unregistered(after)) == (["192.168.0.157"], None)


def test_a_eni_that_vanished_fences_all() -> None:
    after = kept(made(), None, holder("192.168.0.156"))
    assert (after.spec.ips, after.spec.excludeIPs) == (["192.168.0.156"], ["192.168.0.156"])
    assert (after.spec.nodeName, after.spec.multusName) == (["master"], ["kube-system/ipvlan-eth1"])


def test_a_eni_that_moved_takes_its_pool_along_and_tells_of_pods_left_behind() -> None:
    wanted = plan_update(
        made(), claim(node="worker"), [holder("192.168.0.156"), holder("192.168.0.157", "worker")], (), OURS
    )
    assert (wanted.node, wanted.exclude, wanted.annotation) == (["worker"], None, "192.168.0.156")


def test_a_eni_without_a_link_keeps_its_pool() -> None:
    assert kept(made(), replace(ETH1, device=None)).spec == made().spec


def test_what_is_about_to_be_given_back_is_given_to_nobody() -> None:
    pool = made()
    pool.metadata.annotations = {RELEASING_ANNOTATION: "192.168.0.157, 192.168.0.200"}
    after = kept(pool, ETH1, holder("192.168.0.156"))
    assert (after.spec.ips, after.spec.excludeIPs) == (["192.168.0.156-192.168.0.157"], ["192.168.0.157"])
    assert unregistered(after) is None


@pytest.mark.parametrize(
    ("text", "ranges"), [("all", []), ("", []), ("all, 192.168.0.157,,fd00::1", ["192.168.0.157"])]
)
def test_what_is_given_back_is_read_word_by_word(text: str, ranges: list[str]) -> None:
    pool = made()
    pool.metadata.annotations = {RELEASING_ANNOTATION: text}
    assert releasing(pool).ranges() == ranges


def test_growth_leaves_to_others_what_they_have() -> None:
    others = [hand_written("192.168.0.160"), hand_written("nonsense", name="broken")]
    after = kept(made(), with_addresses(*ETH1.addresses, "192.168.0.160", "192.168.0.161"), others=others)
    assert after.spec.ips == ["192.168.0.156-192.168.0.157", "192.168.0.161"]


def surplus(pool: SpiderIPPool, eni: ENI, *held: SpiderIP) -> SpiderIPPool:
    """A surplus pool after its update."""
    wanted = plan_dissolution(pool, claim(eni), held, OURS)
    spec = replace(pool.spec, ips=wanted.ips, excludeIPs=wanted.exclude)
    return replace(pool, spec=spec)


def test_a_surplus_pool_keeps_what_pods_have_and_what_is_given_back_and_the_other_one_takes_the_rest() -> None:
    eni = with_addresses("192.168.0.150", "192.168.0.151", "192.168.0.152")
    second = made(eni, name="master-eni-m1-v4")
    second.metadata.annotations = {RELEASING_ANNOTATION: "192.168.0.151"}
    first = made()
    first.spec.ips = None
    assert kept(first, eni, others=[second]).spec.ips is None
    rest = surplus(second, eni, holder("192.168.0.150"))
    assert (rest.spec.ips, rest.spec.excludeIPs) == (["192.168.0.150-192.168.0.151"],) * 2
    assert kept(first, eni, others=[rest]).spec.ips == ["192.168.0.152"]
    rest = surplus(rest, eni)
    assert kept(first, eni, others=[rest]).spec.ips == ["192.168.0.150", "192.168.0.152"]
    gone = surplus(rest, with_addresses("192.168.0.150"))
    assert gone.spec.ips is None
    assert kept(first, eni, others=[gone]).spec.ips == ["192.168.0.150", "192.168.0.152"], "a report may be stale"


def test_the_pool_of_another_eni_has_nothing_of_what_it_excludes() -> None:
    other = made(replace(with_addresses("192.168.0.150"), identity="eni-other"), name="other")
    other.spec.excludeIPs = ["192.168.0.150"]
    assert kept(made(), with_addresses("192.168.0.150"), others=[other]).spec.ips == ["192.168.0.150"]


def test_of_several_pools_the_oldest_that_stays_is_the_one_of_its_eni() -> None:
    pools = [made(name=name) for name in "abcd"]
    times = ("2025-01-01T00:00:02Z", "2025-01-01T00:00:01Z", "2025-01-01T00:00:01Z", "2025-01-01T00:00:00Z")
    for pool, time in zip(pools, times, strict=True):
        pool.metadata.creationTimestamp = time
    pools[3].metadata.deletionTimestamp = "2025-01-01T00:00:03Z"
    assert [each.name for each in by_precedence(pools)] == ["b", "c", "a", "d"]


def test_a_kept_pool_that_was_written_past_admission_is_repaired() -> None:
    pool = made()
    pool.spec.ips = ["nonsense"]
    assert kept(pool, ETH1).spec.ips == made().spec.ips


def test_what_a_user_adds_to_the_pool_of_an_eni_stays() -> None:
    pool = made()
    pool.spec.namespaceName, pool.spec.default, pool.spec.disable, pool.spec.gateway = ["web"], False, True, None
    after = kept(pool, with_addresses("192.168.0.156"))
    assert (after.spec.namespaceName, after.spec.default, after.spec.disable, after.spec.gateway) == (
        ["web"],
        False,
        True,
        None,
    )


@pytest.mark.parametrize("trusted", [True, False])
def test_admission_lets_only_us_fence_what_is_in_use(trusted: bool) -> None:
    pod = holder("192.168.0.156")
    fenced = kept(made(), with_addresses("192.168.0.157"), pod)
    faults = validate_ippool(fenced, made(), PoolContext(trusted=trusted, records=[pod]))
    assert [fault.path for fault in faults] == ([] if trusted else ["spec.excludeIPs"])


def test_admission_lets_nobody_take_what_is_in_use_out_of_ips() -> None:
    pod, without = holder("192.168.0.156"), kept(made(), with_addresses("192.168.0.157"))
    faults = validate_ippool(without, made(), PoolContext(trusted=True, records=[pod]))
    assert [fault.path for fault in faults] == ["spec.ips"]


def test_admission_does_not_let_us_fence_in_the_pools_of_others() -> None:
    pod, before = holder("192.168.0.156"), hand_written("192.168.0.156")
    after = hand_written("192.168.0.156")
    after.spec.excludeIPs = ["192.168.0.156"]
    faults = validate_ippool(after, before, PoolContext(trusted=True, records=[pod]))
    assert [fault.path for fault in faults] == ["spec.excludeIPs"]


ADDRESSES = [f"192.168.0.{last}" for last in range(150, 158)]
SETS = st.sets(st.sampled_from(ADDRESSES))


@given(st.lists(st.tuples(SETS | st.none(), SETS), min_size=1, max_size=8), SETS)
def test_after_any_history_a_pool_gives_what_is_registered_and_keeps_what_is_held(
    history: list[tuple[set[str] | None, set[str]]], foreign: set[str]
) -> None:
    """ENIs grow, shrink, vanish (None), pods come and go: admission takes every step, and the pool is right after."""
    pool, others = made(), [hand_written(*sorted(foreign))] if foreign else []
    pool.spec.ips = None
    pool = kept(pool, ETH1, others=others)
    held: list[SpiderIP] = []
    for registered_now, pods in history:
        # only what the pool gives can be taken, and what is held may stay held
        before = {each.name for each in held}
        held = [holder(each) for each in sorted(pods) if each in before or int_of(each) in usable(pool)]
        eni = None if registered_now is None else with_addresses(*sorted(registered_now))
        after = default_ippool(kept(pool, eni, *held, others=others))
        assert validate_ippool(after, pool, PoolContext(trusted=True, others=others, records=held)) == ()
        given_now = (registered_now or set()) - foreign
        assert usable(after) == AddressSet.of_addresses(map(int_of, given_now), 4)
        assert {each.name for each in held} <= texts(AddressSet.parse(after.spec.ips or (), 4))
        assert patch_of(after, plan_update(after, claim(eni) if eni else None, held, others, OURS)) is None
        pool = after


def int_of(text: str) -> int:
    return next(iter(AddressSet.parse([text], 4).intervals))[0]


def texts(addresses: AddressSet) -> set[str]:
    return {each for each in ADDRESSES if int_of(each) in addresses}


def test_of_two_nodes_with_one_eni_the_ready_one_is_right_else_the_present_one() -> None:
    here, there = claim(), claim(node="worker")
    assert choose_claim([], made()) is None
    assert choose_claim([there, here], made()) == here
    dead = claim(ready=False)
    assert choose_claim([there, dead], made()) == there
    assert choose_claim([dead, claim(node="worker", ready=False)], made()) == dead


def test_an_eni_without_pool_that_two_nodes_report_is_nobodys_until_the_cloud_has_said_whose_it_is() -> None:
    here, there = claim(), claim(node="worker")
    assert choose_claim([here], None) == here
    assert choose_claim([there, here], None) is None
    assert choose_claim([there, claim(ready=False)], None) is None, "a node takes none while another is not ready"
    assert choose_claim([there, confirmed(here)], None) == confirmed(here)
    assert choose_claim([confirmed(there), confirmed(here)], None) is None


def test_a_node_that_took_the_pool_of_an_eni_before_its_own_node_was_there_loses_it() -> None:
    taken = made()
    taken.spec.nodeName = ["thief"]
    own, thief = confirmed(claim()), claim(node="thief")
    assert choose_claim([thief, own], taken) == own
    assert choose_claim([thief, confirmed(claim(ready=False))], taken) == thief, "as after a move"


def confirmed(of: ENIClaim) -> ENIClaim:
    """The same, with addresses that spiderpool-cloud has registered."""
    return dataclasses.replace(of, confirmed=True)


def test_a_disputed_address_gets_into_no_pool_anew_but_stays_in_one() -> None:
    disputed = dataclasses.replace(claim(), dispute=Dispute(open=frozenset({"192.168.0.157"})))
    pool = new_pool("new", disputed, 4, (), OURS)
    assert pool is not None
    assert pool.spec.ips == ["192.168.0.156"]
    assert plan_update(pool, disputed, (), (), OURS).ips == ["192.168.0.156"]
    assert plan_update(made(), disputed, (), (), OURS).ips == ["192.168.0.156-192.168.0.157"]
    fenced = made()
    fenced.spec.excludeIPs = ["192.168.0.157"]
    assert plan_update(fenced, disputed, (), (), OURS).ips == ["192.168.0.156-192.168.0.157"]


def test_an_address_that_was_registered_for_another_node_leaves_the_pool_but_not_its_pod() -> None:
    lacking = dataclasses.replace(claim(), dispute=Dispute(lost=frozenset({"192.168.0.157"})))
    assert plan_update(made(), lacking, (), (), OURS).ips == ["192.168.0.156"]
    held = plan_update(made(), lacking, [holder("192.168.0.157")], (), OURS)
    assert (held.exclude, held.annotation) == (["192.168.0.157"], "192.168.0.157")


def test_why_an_eni_is_nobodys() -> None:
    pool = made()
    assert absence(pool, {}) is ENIAbsence.NODE
    assert absence(pool, {"master": None}) is ENIAbsence.UNKNOWN
    assert absence(pool, {"master": MASTER}) is ENIAbsence.ENI
    pool.spec.nodeName = None
    assert absence(pool, {"master": MASTER}) is ENIAbsence.UNKNOWN


def test_registered_addresses() -> None:
    assert registered(ETH1, 4).ranges() == ["192.168.0.156-192.168.0.157"]
    assert registered(ETH1, 6) == AddressSet(6)
    assert registered(None, 4) == AddressSet(4)


def test_names_of_pools() -> None:
    pools: dict[str, SpiderIPPool] = {}
    assert pool_name(claim(), 4, pools.get) == "master-eth1-v4"
    assert pool_name(claim(replace(ETH1, device="enP1_s0")), 6, pools.get) == "master-enp1-s0-v6"
    pools["master-eth1-v4"] = made(ETH0)
    assert pool_name(claim(), 4, pools.get) == "master-eni-m1-v4"


def test_a_hand_written_pool_of_that_name_is_left_alone() -> None:
    with pytest.raises(BadConfig, match="pool master-eth1-v4 was not made from an ENI and stays as it is"):
        pool_name(claim(), 4, lambda name: hand_written("192.168.0.1", name=name))


def test_the_network_of_the_walkthrough() -> None:
    network = default_multusconfig(new_network("eth0", OURS, "master"))
    assert validate_multusconfig(network) == ()
    assert network.key == "kube-system/ipvlan-eth0"
    assert network.metadata.labels == {DEVICE_LABEL: "eth0", NODE_LABEL: "master"}
    assert network.spec is not None
    assert network.spec.ipvlan is not None
    assert network.spec.coordinator is not None
    assert (network.spec.cniType, network.spec.ipvlan.master) == ("ipvlan", ["eth0"])
    assert (network.spec.coordinator.mode, network.spec.coordinator.tunePodRoutes) == ("underlay", True)
    assert network_name("Eth_0") == "ipvlan-eth-0"


def test_a_node_that_has_reported_too_many_names_gets_no_further_network() -> None:
    made = [new_network(f"x{number}", OURS, "master") for number in range(MOST_NETWORKS)]
    with pytest.raises(BadConfig, match=r"delete .* labelled cloud.spidernet.io/node=master"):
        new_network("beyond", OURS, "master", made)


def test_a_network_of_that_name_is_used_if_it_serves_the_eni() -> None:
    network = new_network("eth0", OURS, "master")
    assert network_fault(network, "eth0") is None
    assert "is no ipvlan network of eth1" in (network_fault(network, "eth1") or "")
    network.spec = MultusConfigSpec(cniType="macvlan", macvlan=MacvlanConfig(master=["eth0"]))
    assert network_fault(network, "eth0") is not None
    network.spec = MultusConfigSpec(cniType="ipvlan", ipvlan=IpvlanConfig(master=["eth0", "eth1"]))
    assert network_fault(network, "eth0") is not None


@pytest.mark.parametrize("spec", [MultusConfigSpec(cniType="custom", enableCoordinator=True), None])
def test_an_empty_network_is_to_be_deleted(spec: MultusConfigSpec | None) -> None:
    network = new_network("eth0", OURS, "master")
    network.spec = spec
    assert "is empty" in (network_fault(network, "eth0") or "")
    assert "delete it" in (network_fault(network, "eth0") or "")
    network.spec = MultusConfigSpec(cniType="custom", customCNI="{}")
    assert "is no ipvlan network" in (network_fault(network, "eth0") or "")


def test_what_is_told_of_an_unregistered_address() -> None:
    text = unregistered_text(holder("192.168.0.156"), None, "eni-m1")
    assert text == (
        "192.168.0.156 (eth0 of pod default/pod-192.168.0.156) is not registered on ENI eni-m1 of node master; "
        "the cloud drops its packets. Register the address there, or delete the pod"
    )
    moved = unregistered_text(holder("192.168.0.156"), claim(node="worker"), "eni-m1")
    assert "that ENI now belongs to node worker" in moved


def eni_pool(name: str, generation: int, eni: str = "eni-1") -> SpiderIPPool:
    metadata = ObjectMeta(name=name, generation=generation, labels={POOL_ENI_LABEL: eni})
    return SpiderIPPool(metadata=metadata, spec=IPPoolSpec(subnet="10.0.0.0/24"))


@pytest.mark.parametrize(
    ("observed", "known"),
    [
        ([("v4", 2), ("v6", 3)], True),
        ([("v4", 2), ("v6", 3), ("gone", 1)], True),
        ([("v4", 1), ("v6", 3)], False),
        ([("v4", 3), ("v6", 3)], False),  # newer than what we have read, which may give the address again
        ([("v4", 2)], False),
        ([], False),
        (None, False),
    ],
)
def test_an_agent_knows_the_pools_of_an_eni_in_their_present_generation(
    observed: list[tuple[str, int]] | None, known: bool
) -> None:
    pools = [eni_pool("v4", 2), eni_pool("v6", 3), eni_pool("other", 9, "eni-2")]
    told = None if observed is None else [ObservedPool(*each) for each in observed]
    account = SpiderNode(metadata=ObjectMeta(name="n"), status=NodeAccount(pools=told))
    assert is_known_to_agent("eni-1", pools, account) is known
    assert not is_known_to_agent("eni-1", pools, None)
    assert not is_known_to_agent("eni-9", pools, account), "nothing is known of an ENI without a pool"


@pytest.mark.parametrize(
    ("observed", "text"),
    [
        ([("v4", 1), ("v6", 3)], "names generation 1 of pool v4, not generation 2"),
        ([("v4", 2)], "names none of pool v6, not generation 3"),
        ([], "is empty, which an agent of an earlier version leaves so"),
    ],
)
def test_what_an_agent_does_not_know_is_named(observed: list[tuple[str, int]], text: str) -> None:
    pools = [eni_pool("v4", 2), eni_pool("v6", 3), eni_pool("other", 9, "eni-2")]
    account = SpiderNode(metadata=ObjectMeta(name="n"), status=NodeAccount(pools=[ObservedPool(*e) for e in observed]))
    assert not_observed_text("eni-1", pools, account) == f"status.pools of SpiderNode n {text}"
    if observed:
        assert not_observed_text("eni-9", pools, account) == "the ENI has no pool"


def test_an_agent_without_a_spider_node_is_named() -> None:
    assert not_observed_text("eni-1", [], None) == "the agent of the node has made no SpiderNode of its name"

"""Pools that are cut from a subnet: what is asked for, what they hold, how they are named."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.applications import (
    CronJob,
    CronJobSpec,
    DaemonSet,
    Deployment,
    Job,
    JobTemplate,
    PodTemplate,
    ReplicaSet,
    StatefulSet,
    Workload,
    WorkloadSpec,
    WorkloadStatus,
)
from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.ippool import IPPoolSpec, Route, SpiderIPPool
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec, SubnetStatus
from spiderpool.core.addresses import AddressSet
from spiderpool.core.annotations import IPNumber
from spiderpool.core.ipam.owners import Controller, application_labels
from spiderpool.core.ipam.subnets import (
    PoolClaim,
    PoolSlot,
    adoption,
    application_of,
    claim,
    find_pool,
    foreign_claim,
    is_asking,
    is_cut_from,
    key_of,
    lowest,
    offered,
    owner_reference,
    place_labels,
    pool_addresses,
    pool_names,
    reserved_addresses,
    resize,
    status_of,
    stored_addresses,
    wanted_pool,
    why_unusable,
)
from spiderpool.errors import BadConfig

pytestmark = pytest.mark.unit

NOW = "2026-01-01T00:00:00Z"
UID = "d1c9a3f0-5f2b-4a5e-9a3e-0a1b2c3d4e5f"
WEB = Controller("apps/v1", "Deployment", "shop", "web", UID)
ETH0 = PoolSlot("eth0", 4, "blue")
PLUS_ONE = IPNumber(1, True)
ASKING = {"ipam.spidernet.io/subnet": '{"ipv4":["blue"]}'}


def subnet(*ips: str, name: str = "blue", uid: str = "s-1", **spec: Any) -> SpiderSubnet:
    labels = {"ipam.spidernet.io/subnet-cidr": "10-6-0-0-16"}
    return SpiderSubnet(
        metadata=ObjectMeta(name=name, uid=uid, labels=labels),
        spec=SubnetSpec("10.6.0.0/16", 4, list(ips) or ["10.6.0.1-10.6.0.100"], **spec),
    )


def pool(name: str, *ips: str, cidr: str = "10.6.0.0/16", **spec: Any) -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(cidr, ips=list(ips), **spec))


def addresses(*numbers: int) -> AddressSet:
    return AddressSet.of_addresses(numbers, 4)


def template(annotations: dict[str, str], *, host: bool | None = None) -> PodTemplate:
    return PodTemplate(ObjectMeta(annotations=annotations), PodSpec(hostNetwork=host))


def workload(kind: type[Workload], annotations: dict[str, str] = ASKING, **spec: Any) -> Workload:
    inner = WorkloadSpec(template(annotations), **spec)
    metadata = ObjectMeta(name="web", namespace="shop", uid=UID)
    if kind is CronJob:
        return CronJob(metadata=metadata, spec=CronJobSpec(jobTemplate=JobTemplate(inner)))
    return kind(metadata=metadata, spec=inner, status=WorkloadStatus(4))


def claimed(number: IPNumber = PLUS_ONE, *, reclaim: bool = True, pods: int = 2) -> PoolClaim:
    return PoolClaim(WEB, (ETH0,), number, reclaim, pods)


class TestClaims:
    @pytest.mark.parametrize(
        ("each", "pods"),
        [
            (workload(Deployment, replicas=3), 3),
            (workload(ReplicaSet, replicas=2), 2),
            (workload(StatefulSet), 0),
            (workload(DaemonSet), 4),
            (workload(Job, completions=5, parallelism=2), 5),
            (workload(Job, parallelism=2), 2),
            (workload(Job, completions=0, parallelism=0), 1),
            (workload(CronJob, completions=3), 3),
            (workload(CronJob), 1),
        ],
    )
    def test_how_many_pods(self, each: Workload, pods: int) -> None:
        found = claim(each, 1)
        assert found is not None
        assert (found.pods, found.size, found.number) == (pods, pods + 1, IPNumber(1, True))

    @pytest.mark.parametrize(("text", "size"), [("5", 5), ("0", 0), ("+0", 3), ("+2", 5)])
    def test_the_number_is_fixed_or_beyond_the_pods(self, text: str, size: int) -> None:
        found = claim(workload(Deployment, ASKING | {"ipam.spidernet.io/ippool-ip-number": text}, replicas=3), 1)
        assert found is not None
        assert found.size == size

    def test_several_interfaces_and_families(self) -> None:
        items = [{"interface": "eth0", "ipv4": ["a", "ignored"], "ipv6": ["b"]}, {"interface": "net1", "ipv4": ["c"]}]
        annotations = {"ipam.spidernet.io/subnets": json.dumps(items), "ipam.spidernet.io/ippool-reclaim": "F"}
        found = claim(workload(Deployment, annotations), 1)
        assert found is not None
        assert found.places == (PoolSlot("eth0", 4, "a"), PoolSlot("eth0", 6, "b"), PoolSlot("net1", 4, "c"))
        assert not found.reclaim

    def test_who_asks_for_nothing(self) -> None:
        assert claim(workload(Deployment, {}), 1) is None
        host = workload(Deployment)
        host.spec.template.spec.hostNetwork = True
        assert claim(host, 1) is None

    @pytest.mark.parametrize(
        ("kind", "owner", "asks"),
        [
            (ReplicaSet, ("apps/v1", "Deployment"), False),
            (ReplicaSet, ("argoproj.io/v1alpha1", "Rollout"), True),
            (Job, ("batch/v1", "CronJob"), False),
            (StatefulSet, ("example.org/v1", "Database"), True),
        ],
    )
    def test_only_the_top_controller_asks(self, kind: type[Workload], owner: tuple[str, str], asks: bool) -> None:
        each = workload(kind)
        each.metadata.ownerReferences = [OwnerReference(*owner, "above", "u", controller=True)]
        assert (claim(each, 1) is not None) is asks

    @pytest.mark.parametrize(
        "annotations",
        [
            {"ipam.spidernet.io/subnets": "[]", **ASKING},
            {"ipam.spidernet.io/subnet": "{}"},
            {"ipam.spidernet.io/subnet": '{"ipv4":[""]}'},
            {"ipam.spidernet.io/subnet": "blue"},
            ASKING | {"ipam.spidernet.io/ippool-ip-number": "-1"},
            ASKING | {"ipam.spidernet.io/ippool-ip-number": "abc+3"},
            ASKING | {"ipam.spidernet.io/ippool-ip-number": "++3"},
            ASKING | {"ipam.spidernet.io/ippool-reclaim": "yes"},
        ],
    )
    def test_what_cannot_be_read_is_told(self, annotations: dict[str, str]) -> None:
        with pytest.raises(BadConfig, match=r"ipam\.spidernet\.io/"):
            claim(workload(Deployment, annotations), 1)

    @pytest.mark.parametrize(
        ("annotations", "asking"),
        [
            (None, False),
            ({"other": "x"}, False),
            ({"ipam.spidernet.io/subnet": "wrong"}, True),
            ({"ipam.spidernet.io/subnets": "[]"}, True),
        ],
    )
    def test_who_asks_at_all_right_or_wrong(self, annotations: dict[str, str] | None, asking: bool) -> None:
        assert is_asking(annotations) is asking

    def test_pods_of_a_third_party_say_how_many_they_will_be(self) -> None:
        owner = OwnerReference("apps.kruise.io/v1alpha1", "CloneSet", "web", UID, controller=True)
        pod = Pod(metadata=ObjectMeta(name="web-x", namespace="shop", annotations=ASKING, ownerReferences=[owner]))
        with pytest.raises(BadConfig, match="ippool-ip-number"):
            foreign_claim(pod)
        pod.metadata.annotations = ASKING | {"ipam.spidernet.io/ippool-ip-number": "+3"}
        found = foreign_claim(pod)
        assert found is not None
        assert found.number == IPNumber(3, False)
        assert found.application == Controller("apps.kruise.io/v1alpha1", "CloneSet", "shop", "web", UID)
        pod.metadata.ownerReferences = [OwnerReference("apps/v1", "ReplicaSet", "web", UID, controller=True)]
        assert foreign_claim(pod) is None


class TestNames:
    def test_the_usual_one_and_another(self) -> None:
        first, second = pool_names(WEB, ETH0)
        assert first == "auto4-web-eth0-0a1b2"
        assert re.fullmatch(r"auto4-web-eth0-0a1b2-[0-9a-f]{5}", second)
        other = pool_names(WEB, PoolSlot("eth0", 4, "green"))
        assert other[0] == first
        assert other[1] != second

    @given(
        st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True),
        st.from_regex(r"[A-Za-z][A-Za-z0-9_.@-]{0,14}", fullmatch=True),
        st.uuids(),
    )
    def test_they_are_names_of_objects(self, name: str, interface: str, uid: object) -> None:
        of = _named(name, str(uid))
        for each in pool_names(of, PoolSlot(interface, 6, "s")):
            assert len(each) <= 253
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", each)


def _named(name: str, uid: str) -> Controller:
    return Controller("apps/v1", "Deployment", "shop", name, uid)


class TestPool:
    def test_it_says_whose_it_is(self) -> None:
        of = subnet(gateway="10.6.255.254", routes=[Route("10.7.0.0/16", "10.6.0.254")])
        made = wanted_pool(claimed(), ETH0, of, "auto4-web-eth0-0a1b2", addresses(0x0A060001, 0x0A060002))
        assert made.metadata.labels == {
            "ipam.spidernet.io/owner-spider-subnet": "blue",
            "ipam.spidernet.io/owner-application-gv": "apps_v1",
            "ipam.spidernet.io/owner-application-kind": "Deployment",
            "ipam.spidernet.io/owner-application-namespace": "shop",
            "ipam.spidernet.io/owner-application-name": "web",
            "ipam.spidernet.io/owner-application-uid": UID,
            "ipam.spidernet.io/interface": "eth0",
            "ipam.spidernet.io/ip-version": "IPv4",
            "ipam.spidernet.io/ippool-reclaim": "true",
            "ipam.spidernet.io/ippool-cidr": "10-6-0-0-16",
        }
        assert made.metadata.annotations == {"ipam.spidernet.io/ippool-ip-number": "+1"}
        assert made.metadata.ownerReferences == [owner_reference(of)]
        assert made.metadata.finalizers == ["spiderpool.spidernet.io"]
        assert msgspec.to_builtins(made.spec) == {
            "ipVersion": 4,
            "subnet": "10.6.0.0/16",
            "ips": ["10.6.0.1-10.6.0.2"],
            "gateway": "10.6.255.254",
            "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.254"}],
            "podAffinity": {
                "matchLabels": {
                    "ipam.spidernet.io/app-api-group": "apps",
                    "ipam.spidernet.io/app-api-version": "v1",
                    "ipam.spidernet.io/app-kind": "Deployment",
                    "ipam.spidernet.io/app-namespace": "shop",
                    "ipam.spidernet.io/app-name": "web",
                }
            },
        }
        assert application_of(made) == WEB
        assert application_labels(WEB, "blue", "eth0", 4).items() <= (made.metadata.labels or {}).items()

    def test_what_is_right_already_stays_the_same(self) -> None:
        held = addresses(0x0A060001, 0x0A060002, 0x0A060003)
        made = wanted_pool(claimed(), ETH0, subnet(), "x", held)
        assert wanted_pool(claimed(), ETH0, subnet(), made, held) == made
        assert wanted_pool(claimed(IPNumber(3, False)), ETH0, subnet(), made, held) != made

    def test_names_longer_than_labels(self) -> None:
        long = Controller("apps/v1", "Deployment", "shop", "w" * 200, UID)
        made = wanted_pool(PoolClaim(long, (ETH0,), IPNumber(1, True), True, 1), ETH0, subnet(), "x", addresses())
        assert all(len(value) <= 63 for value in (made.metadata.labels or {}).values())
        assert application_of(made) == long
        assert find_pool([made], long, ETH0) is made

    @pytest.mark.parametrize(
        ("uid", "reclaim", "terminating", "found"),
        [
            (UID, True, False, True),
            (UID, True, True, False),
            ("earlier", True, False, False),
            ("earlier", False, False, True),
        ],
    )
    def test_which_pool_is_found(self, uid: str, reclaim: bool, terminating: bool, found: bool) -> None:
        earlier = Controller("apps/v1", "Deployment", "shop", "web", uid)
        made = wanted_pool(PoolClaim(earlier, (ETH0,), IPNumber(1, True), reclaim, 1), ETH0, subnet(), "x", addresses())
        made.metadata.deletionTimestamp = "2026-01-01T00:00:00Z" if terminating else None
        assert (find_pool([made], WEB, ETH0) is made) is found
        assert find_pool([made], WEB, PoolSlot("net1", 4, "blue")) is None
        assert key_of(earlier) == key_of(WEB)
        assert "owner-application-uid" not in " ".join(place_labels(WEB, ETH0))


class TestAddresses:
    OFFER = AddressSet.parse(["0.0.0.1-0.0.0.20"], 4)
    NONE = AddressSet(4)

    @pytest.mark.parametrize(
        ("current", "wanted", "in_use", "result"),
        [
            ((), 3, (), (1, 2, 3)),
            ((2, 3), 4, (), (1, 2, 3, 4)),
            ((2, 3), 2, (3,), (2, 3)),
            ((1, 2, 3, 4), 2, (1,), (1, 4)),
            ((1, 2, 3, 4), 1, (1, 3), (1, 2, 3, 4)),
            ((1, 2, 99), 3, (), (1, 2, 3)),
            ((1, 2, 99), 3, (99,), (1, 2, 99)),
            ((), 2, (1, 3), (2, 4)),
            ((), 30, (), tuple(range(1, 21))),
        ],
    )
    def test_growing_and_shrinking(
        self, current: tuple[int, ...], wanted: int, in_use: tuple[int, ...], result: tuple[int, ...]
    ) -> None:
        assert resize(addresses(*current), wanted, self.OFFER, addresses(*in_use)) == addresses(*result)

    def test_a_number_as_large_as_a_network(self) -> None:
        whole = AddressSet.parse(["fd00::-fd00::ffff:ffff:ffff:ffff"], 6)
        grown = resize(AddressSet(6), 10**18, whole, AddressSet(6))
        assert grown.size == 10**18
        assert resize(grown, 10**18 - 5, whole, AddressSet(6)).size == 10**18 - 5
        assert lowest(whole, 0) == AddressSet(6)

    def test_what_is_reserved_is_reserved_entry_by_entry(self) -> None:
        reserved = [
            SpiderReservedIP(spec=ReservedIPSpec(4, ["0.0.0.3", "x", "fd00::1", "0.0.0.5-0.0.0.6"])),
            SpiderReservedIP(metadata=ObjectMeta(deletionTimestamp=NOW), spec=ReservedIPSpec(4, ["0.0.0.9"])),
            SpiderReservedIP(),
        ]
        assert reserved_addresses(reserved, 4) == addresses(3, 5, 6)
        assert reserved_addresses(reserved, 6).ranges() == ["fd00::1"]
        assert offered(self.OFFER, [addresses(1, 2)], addresses(3)).ranges() == ["0.0.0.4-0.0.0.20"]

    @given(
        st.frozensets(st.integers(1, 40)),
        st.integers(0, 50),
        st.frozensets(st.integers(1, 30)),
        st.frozensets(st.integers(1, 40)),
    )
    def test_no_size_ever_costs_an_address_in_use(
        self, current: frozenset[int], wanted: int, offer: frozenset[int], in_use: frozenset[int]
    ) -> None:
        held, using = addresses(*current), addresses(*in_use)
        after = resize(held, wanted, addresses(*offer), using)
        assert (held & using).issubset(after)
        assert (after - held).issubset(addresses(*offer) - using)
        assert after.size <= max(wanted, held.size)
        assert resize(after, wanted, addresses(*offer), using) == after

    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), max_size=25), st.data())
    def test_pools_of_any_workloads_are_disjoint(self, steps: list[tuple[int, int]], data: st.DataObject) -> None:
        """Applications come, grow, shrink and go in any order; some of their addresses are in use."""
        whole = AddressSet.parse(["0.0.0.1-0.0.0.30"], 4)
        reserved = addresses(3, 4)
        pools: dict[int, AddressSet] = {}
        in_use: dict[int, AddressSet] = {}
        for app, size in steps:
            current = pools.get(app, self.NONE)
            held = data.draw(st.frozensets(st.sampled_from(_numbers(current)))) if current else frozenset()
            in_use[app] = addresses(*held)
            others = [each for name, each in pools.items() if name != app]
            pools[app] = resize(current, size, offered(whole, others, reserved), in_use[app])
            assert in_use[app].issubset(pools[app])
            assert not pools[app] & reserved
            assert (
                sum(each.size for each in pools.values())
                == AddressSet.of(4, (interval for each in pools.values() for interval in each.intervals)).size
            )


def _numbers(held: AddressSet) -> list[int]:
    return [number for first, last in held.intervals for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("place", "ips", "deleted", "reason"),
    [
        (ETH0, "10.6.0.1", None, None),
        (ETH0, "10.6.0.1", NOW, "is being deleted"),
        (ETH0, "10.6.0.300", None, "cannot be read: entry 0 ('10.6.0.300')"),
        (PoolSlot("eth0", 6, "blue"), "10.6.0.1", None, "is IPv4, the annotation wants IPv6"),
    ],
)
def test_why_a_subnet_cannot_give_addresses(place: PoolSlot, ips: str, deleted: str | None, reason: str | None) -> None:
    asked = subnet(ips)
    asked.metadata.deletionTimestamp = deleted
    assert (why_unusable(asked, place) or "").partition(": not an")[0] == (reason or "")


class TestStatus:
    def test_pools_by_hand_and_of_an_application(self) -> None:
        of = subnet(excludeIPs=["10.6.0.100"])
        auto = wanted_pool(claimed(), ETH0, of, "auto4-web-eth0-0a1b2", addresses(0x0A060001, 0x0A060003))
        core = wanted_pool(
            PoolClaim(
                Controller("v1", "ReplicationController", "shop", "old", UID), (ETH0,), IPNumber(1, True), True, 1
            ),
            ETH0,
            of,
            "auto-core",
            addresses(),
        )
        status = status_of(of, [auto, core, pool("b", "10.6.0.10-10.6.0.19", "10.6.200.1"), pool("empty")])
        assert status.controlledIPPools is not None
        assert json.loads(status.controlledIPPools) == {
            "auto4-web-eth0-0a1b2": {"ips": ["10.6.0.1", "10.6.0.3"], "application": "apps_v1_Deployment_shop_web"},
            "auto-core": {"ips": [], "application": "v1_ReplicationController_shop_old"},
            "b": {"ips": ["10.6.0.10-10.6.0.19"]},
        }
        assert " " not in status.controlledIPPools
        assert (status.totalIPCount, status.allocatedIPCount) == (99, 12)

    def test_without_pools_and_unreadable(self) -> None:
        assert status_of(subnet(), []) == SubnetStatus(None, 100, 0)
        assert status_of(subnet("x"), [pool("b", "10.6.0.1")]) == SubnetStatus(None, 0, 0)

    def test_sizes_that_no_integer_of_the_api_holds(self) -> None:
        spec = SubnetSpec("fd00::/64", 6, ["fd00::-fd00::ffff:ffff:ffff:ffff"])
        assert status_of(SpiderSubnet(spec=spec), []).totalIPCount == 2**63 - 1


class TestAdoption:
    OF = subnet(gateway="10.6.255.254", routes=[Route("10.7.0.0/16", "10.6.0.254")])

    def test_an_orphan_inherits(self) -> None:
        adopted = adoption(pool("b", "10.6.0.1"), self.OF)
        assert adopted is not None
        assert adopted.metadata.ownerReferences == [owner_reference(self.OF)]
        assert adopted.metadata.labels == {"ipam.spidernet.io/owner-spider-subnet": "blue"}
        assert (adopted.spec.gateway, adopted.spec.routes) == ("10.6.255.254", self.OF.spec.routes)
        assert adoption(adopted, self.OF) is None

    def test_what_it_has_it_keeps(self) -> None:
        adopted = adoption(pool("b", "10.6.0.1", gateway="10.6.0.254", routes=[]), self.OF)
        assert adopted is not None
        assert (adopted.spec.gateway, adopted.spec.routes) == ("10.6.0.254", [])

    def test_one_of_an_earlier_subnet_of_the_name_changes_hands(self) -> None:
        stored = pool("b", "10.6.0.1")
        stored.metadata.ownerReferences = [owner_reference(subnet(uid="s-0")), OwnerReference("v1", "X", "x", "x")]
        adopted = adoption(stored, self.OF)
        assert adopted is not None
        assert adopted.metadata.ownerReferences == [OwnerReference("v1", "X", "x", "x"), owner_reference(self.OF)]

    def test_somebody_elses_stays(self) -> None:
        stored = pool("b", "10.6.0.1")
        stored.metadata.ownerReferences = [OwnerReference("v1", "X", "x", "x", controller=True)]
        assert adoption(stored, self.OF) is None

    def test_pools_of_its_cidr_are_its(self) -> None:
        assert is_cut_from(pool("b"), self.OF)
        assert not is_cut_from(pool("b", cidr="10.6.0.0/24"), self.OF)

    def test_a_lost_label_comes_back_and_later_gateways_do_not_reach_it(self) -> None:
        stored = pool("b", "10.6.0.1")
        stored.metadata.ownerReferences = [owner_reference(self.OF)]
        adopted = adoption(stored, self.OF)
        assert adopted is not None
        assert adopted.spec.gateway is None


def test_pools_that_cannot_be_read_hold_nothing() -> None:
    assert pool_addresses(pool("b", "x"), 4) == AddressSet(4)
    assert pool_addresses(pool("b", "fd00::1", cidr="fd00::/64"), 4) == AddressSet(4)


def test_subnets_that_cannot_be_read_hold_nothing_once_they_are_stored() -> None:
    assert stored_addresses(subnet("10.6.0.1-10.6.0.9"), 4).ranges() == ["10.6.0.1-10.6.0.9"]
    assert stored_addresses(subnet("10.6.0.9-10.6.0.1"), 4) == AddressSet(4)
    assert stored_addresses(subnet("10.6.0.1"), 6) == AddressSet(6)

"""Random roll-outs, decided by the dry run of the allocator, against what is said of every placement."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import new_record, released
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.dry_run import AddressSnapshot, dry_run
from spiderpool.core.ipam.placement import (
    Capacity,
    NeededAddress,
    PodGroup,
    PodSite,
    QuotaRest,
    even,
    favourable,
    roll_out,
    unfavourable,
)
from spiderpool.core.ipam.placement_bounds import Bounds, bounds
from spiderpool.core.ipam.pod_sites import pod_site
from spiderpool.core.ipam.pool_capacity import PoolCapacity, pool_capacities
from spiderpool.core.ipam.quota import is_exhausted
from spiderpool.core.ipam.selection import AllocationRequest, DefaultPools, NamedPools

pytestmark = pytest.mark.unit

NOW = 1_000_000.0
NODES = ("n1", "n2", "n3")
CASES, MORE, ROLL_OUTS = 40, 110, 20
"""Random clusters, those beside that only `make full` tries, and roll-outs in each."""
WEB = IPOwner("StatefulSet", "default", "web")
RESERVED = {4: AddressSet.parse(["10.0.1.1"], 4), 6: AddressSet(6)}


@dataclass(frozen=True)
class Kind:
    """Pods of one kind, which may be of a StatefulSet."""

    name: str
    count: int
    slots: tuple[RequestKey, ...]
    nodes: tuple[str, ...]
    fields: dict[str, Any]
    one_per_node: bool = False

    def requests(self, number: int, node: str) -> dict[RequestKey, AllocationRequest]:
        base = AllocationRequest("default", f"{self.name}-{number}", f"{self.name}-{number}", "eth0", node, None)
        return {
            (interface, version): replace(base, interface=interface, version=version, **self.fields)
            for interface, version in self.slots
        }


@dataclass(frozen=True)
class Case:
    pools: tuple[SpiderIPPool, ...]
    records: tuple[SpiderIP, ...]
    kinds: tuple[Kind, ...]
    quota: int | None

    @property
    def capacity(self) -> Capacity:
        returning = sum(bool(each.spec.releasedAt) for each in self.records)
        quotas = {} if self.quota is None else {"default": QuotaRest(self.quota, returning)}
        return Capacity(pool_capacities(self.pools, self.records, RESERVED, NOW), quotas)

    def groups(self) -> list[PodGroup]:
        return [self.group(kind) for kind in self.kinds]

    def group(self, kind: Kind) -> PodGroup:
        owned = tuple(each for each in self.records if each.spec.owner) if kind.fields.get("owner") else ()
        asked = tuple(self.records) if kind.fields.get("address") else owned
        sites = {node: pod_site(kind.requests(0, node), self.seen(node, asked)) for node in kind.nodes}
        return PodGroup(kind.name, "default", kind.count, sites, kind.one_per_node)

    def seen(self, node: str, records: tuple[SpiderIP, ...]) -> AddressSnapshot:
        return AddressSnapshot(node, self.pools, records, RESERVED, NOW)

    def refused(self, placed: list[tuple[Kind, int, str]]) -> int:
        """Pods that the allocator refuses, one after the other."""
        records, refused = self.records, 0
        for kind, number, node in placed:
            seen = self.seen(node, records)
            if self.quota is not None and is_exhausted(self.quota + len(self.records), len(records)):
                seen = replace(seen, exhausted_quota="few")
            outcomes = dry_run(kind.requests(number, node), seen)
            if any(each.refusal for each in outcomes):
                refused += 1
                continue
            got = {each.record.name: each.record for each in outcomes if each.record}
            records = (*(each for each in records if each.name not in got), *got.values())
        return refused


def random_case(chance: random.Random) -> Case:
    apart = chance.random() < 0.8
    pools = tuple(random_pool(chance, number, apart) for number in range(chance.randint(1, 5)))
    kinds = tuple(random_kind(chance, number) for number in range(chance.randint(1, 3)))
    quota = chance.randint(0, 8) if chance.random() < 0.3 else None
    return Case(pools, tuple(random_records(chance, pools)), kinds, quota)


def random_pool(chance: random.Random, number: int, apart: bool) -> SpiderIPPool:
    version = chance.choice([4, 4, 4, 6])
    net = number if apart else chance.choice([0, number])
    prefix = f"10.0.{net}." if version == 4 else f"fd00:0:0:{net}::"
    first = chance.randint(1, 3)
    spec = IPPoolSpec(
        subnet=f"{prefix}0/24" if version == 4 else f"{prefix}/64",
        ipVersion=version,
        ips=[f"{prefix}{first}-{prefix}{first + chance.randint(0, 6)}"],
        default=chance.random() < 0.8,
        nodeName=chance.choice([None, ["n1"], ["n2"], ["n1", "n3"]]),
        podAffinity=chance.choice([None, None, None, LabelSelector({"app": "a"})]),
        cooldownSeconds=chance.choice([0, 60]),
        disable=chance.choice([None, None, None, True]),
        excludeIPs=chance.choice([None, [f"{prefix}{first}"]]),
    )
    return SpiderIPPool(metadata=ObjectMeta(name=f"p{number}"), spec=spec)


def random_records(chance: random.Random, pools: tuple[SpiderIPPool, ...]) -> Iterator[SpiderIP]:
    known: set[str] = set()
    owned: set[int] = set()  # an owner has one record for an interface and family
    for pool in pools:
        version = pool.spec.ipVersion or 4
        ((first, last),) = AddressSet.parse(pool.spec.ips or (), version).intervals
        for address in range(first, last + 1):
            if chance.random() < 0.4:
                owner = WEB if version not in owned and chance.random() < 0.3 else None
                pod = "web-0" if owner else f"former-{address}"
                of = AllocationRequest(
                    "default", pod, "uid-9", "eth0", chance.choice(NODES), None, version, owner=owner
                )
                record = new_record(of, pool, address)
                if record.name not in known:
                    known.add(record.name)
                    owned |= {version} if owner else set()
                    yield released(record, NOW - chance.choice([10, 100])) if chance.random() < 0.4 else record


def random_kind(chance: random.Random, number: int) -> Kind:
    slots = chance.choice([[("eth0", 4)], [("eth0", 4)], [("eth0", 4), ("eth0", 6)], [("eth0", 4), ("net1", 4)]])
    named = NamedPools(tuple(f"p{chance.randint(0, 5)}" for _ in range(2)))
    fields: dict[str, Any] = {
        "candidates": chance.choice([DefaultPools(), DefaultPools(), named]),
        "pod_labels": chance.choice([{}, {"app": "a"}]),
    }
    name, count = f"kind{number}", chance.randint(1, 8)
    if number == 0 and chance.random() < 0.2:
        name, count, fields = "web", 1, fields | {"owner": WEB}
    elif len(slots) == 1 and chance.random() < 0.1:
        fields |= {"address": "10.0.0.3"}
    nodes = tuple(chance.sample(NODES, chance.randint(1, 3)))
    if len(nodes) > 1 and name != "web" and chance.random() < 0.2:
        return Kind(name, len(nodes), tuple(slots), nodes, fields, one_per_node=True)
    return Kind(name, count, tuple(slots), nodes, fields)


def random_placement(chance: random.Random, case: Case) -> list[tuple[Kind, int, str]]:
    only = {kind.name: chance.choice(kind.nodes) for kind in case.kinds} if chance.random() < 0.4 else {}
    placed = [
        (kind, number, kind.nodes[number] if kind.one_per_node else only.get(kind.name) or chance.choice(kind.nodes))
        for kind in case.kinds
        for number in range(kind.count)
    ]
    chance.shuffle(placed)
    if only:  # one kind after the other, too
        placed.sort(key=lambda each: hash((each[0].name, chance.random() < 0.1)))
    return placed


@pytest.mark.parametrize(
    "seed", [*range(CASES), *(pytest.param(CASES + number, marks=pytest.mark.full) for number in range(MORE))]
)
def test_what_happens_lies_between_the_best_and_the_worst(seed: int) -> None:
    chance = random.Random(seed)
    case = random_case(chance)
    groups, capacity = case.groups(), case.capacity
    said = bounds(groups, capacity)
    for placement in (even, favourable, unfavourable):
        assert said.least <= placement(groups, capacity).refused_count <= said.most or has_overlaps(capacity)
    for _ in range(ROLL_OUTS):
        placed = random_placement(chance, case)
        refused = case.refused(placed)
        assert said.least <= refused <= said.most, (said, refused, placed)
        if is_counted_exactly(case):
            by_name = {group.name: group for group in groups}
            counted = roll_out(capacity, [(by_name[kind.name], node) for kind, _, node in placed])
            assert counted.refused_count == refused


def has_overlaps(capacity: Capacity) -> bool:
    return any(each.shared for each in capacity.pools.values())


def is_counted_exactly(case: Case) -> bool:
    """Whether numbers alone decide, and not which address a pod gets."""
    chosen = any({"address", "owner"} & kind.fields.keys() for kind in case.kinds)
    returning = any(each.spec.releasedAt for each in case.records)
    return not (chosen or has_overlaps(case.capacity) or (case.quota is not None and returning))


def of(*pools: str) -> PodSite:
    return PodSite((NeededAddress(("eth0", 4), pools),))


def free(**pools: int) -> Capacity:
    return Capacity({name: PoolCapacity(count) for name, count in pools.items()})


def group(count: int, **sites: PodSite) -> PodGroup:
    return PodGroup("web", "default", count, sites)


def test_pods_of_one_kind_exactly() -> None:
    web = group(6, n1=of("own", "shared"), n2=of("shared"))
    assert bounds([web], free(own=2, shared=3)) == Bounds(least=1, most=3)
    assert bounds([group(6, n1=PodSite(), n2=of("shared"))], free(shared=3)) == Bounds(least=0, most=3)
    assert bounds([group(6)], free()) == Bounds(0, 0)


def test_other_pods_move_to_other_pools_in_the_best() -> None:
    groups = [group(3, n1=of("a", "b")), group(3, n1=of("b", "c")), group(3, n1=of("c", "a"))]
    assert bounds(groups, free(a=3, b=3, c=3)).least == 0
    assert bounds([group(2, n1=of("a", "b")), group(2, n1=of("a"))], free(a=2, b=2)).least == 0
    assert bounds([group(2, n1=of("a", "b")), group(3, n1=of("a"))], free(a=2, b=2)).least == 1
    assert bounds([group(2, n1=of("a")), group(2, n1=of("a")), group(2, n1=of("a"))], free(a=2)).least == 4


def test_two_interfaces_in_one_pool() -> None:
    twice = PodSite((NeededAddress(("eth0", 4), ("a",)), NeededAddress(("net1", 4), ("a",))))
    assert bounds([group(4, n1=twice)], free(a=5)) == Bounds(least=2, most=2)


def test_pods_that_share_nothing_are_looked_at_apart() -> None:
    groups = [group(3, n1=of("a")), group(3, n1=of("b"))]
    assert bounds(groups, free(a=1, b=1)) == Bounds(least=4, most=4)


def test_workloads_that_need_the_same_are_counted_together() -> None:
    web = group(3, n1=of("a"))
    assert bounds([web, replace(web, name="other"), web], free(a=4)) == Bounds(least=5, most=5)


def test_a_pod_on_each_node() -> None:
    daemons = PodGroup("d", "default", 3, {"n1": of("a"), "n2": of("b"), "n3": of("b")}, one_per_node=True)
    assert bounds([daemons], free(a=0, b=5)) == Bounds(least=1, most=1)


def test_quotas() -> None:
    web = group(4, n1=of("a"))
    there = Capacity(free(a=9).pools, {"default": QuotaRest(3)})
    assert bounds([web], there) == Bounds(least=1, most=1)
    assert bounds([web], Capacity(there.pools, {"default": QuotaRest(0, released=1)})) == Bounds(least=3, most=4)


def test_a_requested_address_that_others_may_take() -> None:
    wanted = PodSite((NeededAddress(("eth0", 4), ("a",), "10.0.0.1"),))
    assert bounds([group(2, n1=wanted)], free(a=5)) == Bounds(least=1, most=1)
    overlap = Capacity({"a": PoolCapacity(5, shared=1)})
    assert bounds([group(1, n1=wanted)], overlap) == Bounds(least=0, most=1)


def test_some_that_are_refused_anyway() -> None:
    assert bounds([group(2, n1=PodSite(refused=True), n2=of("a"))], free(a=5)) == Bounds(least=0, most=2)

"""The dry run and the allocator: the same outcome for random pools, records and requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from spiderpool.agent.allocator import Allocation
from spiderpool.api.ip import IPOwner, SpiderIP
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, POOL_NODE_LABEL, SpiderIPPool
from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam import allocation
from spiderpool.core.ipam.allocation import released
from spiderpool.core.ipam.dry_run import AddressSnapshot, DryGrant, GrantOrigin, dry_run
from spiderpool.core.ipam.selection import AllocationRequest, DefaultPools, NamedPools
from spiderpool.errors import Refused
from tests.agent.allocating_node import NodeView, Store, Surroundings, ask, keyed, pool

pytestmark = pytest.mark.unit

NODES = ("n1", "n2")
RANGES = {4: ("10.0.0.1-10.0.0.2", "10.0.0.2-10.0.0.4", "10.0.0.6"), 6: ("fd00::1-fd00::2", "fd00::3")}
NAMES = ("blue", "green", "red")
NOW = 1_000_000.0
WEB = IPOwner("StatefulSet", "default", "web")
PODS = ("web-0", "web-1", "other")


@st.composite
def pools(draw: st.DrawFn, name: str) -> SpiderIPPool:
    """A pool of one node or of all, for all pods or some."""
    version = draw(st.sampled_from([4, 4, 4, 6]))
    node = draw(st.sampled_from([None, None, ["n1"], ["n1", "n2"], ["n2"]]))
    ranges = draw(st.sampled_from(RANGES[version]))
    fields: dict[str, Any] = {
        "default": draw(st.booleans()),
        "disable": draw(st.sampled_from([None, None, None, True])),
        "nodeName": node,
        "cooldownSeconds": draw(st.sampled_from([0, 60])),
        "excludeIPs": draw(st.sampled_from([None, None, [ranges.partition("-")[0]]])),
        "podAffinity": draw(st.sampled_from([None, None, LabelSelector({"app": "web"})])),
        "namespaceName": draw(st.sampled_from([None, None, ["default"], ["shop"]])),
    }
    made = pool(name, ranges, **fields)
    labels = {POOL_NODE_LABEL: node[0]} if node and len(node) == 1 else None
    moving = draw(st.sampled_from([None, None, {POOL_MOVING_ANNOTATION: "10.0.0.1-10.0.0.3,10.0.0.6"}]))
    metadata = ObjectMeta(name=name, uid=f"uid-of-{name}", labels=labels, annotations=moving)
    return changed(made, metadata=metadata)


@st.composite
def requests(draw: st.DrawFn, pod: str) -> AllocationRequest:
    """A request of a pod on the first node."""
    version = draw(st.sampled_from([4, 4, 6]))
    named = st.lists(st.sampled_from([*NAMES, "absent", "*e*"]), min_size=1, max_size=3).map(
        lambda names: NamedPools(tuple(names))
    )
    address = st.sampled_from([None, None, None, "10.0.0.2" if version == 4 else "fd00:0::1"])
    return ask(
        pod,
        "n1",
        interface=draw(st.sampled_from(["eth0", "net1"])),
        version=version,
        candidates=draw(st.one_of(st.just(DefaultPools()), named)),
        owner=WEB if pod.startswith("web") else None,
        pod_labels=draw(st.sampled_from([{}, {"app": "web"}])),
        address=draw(address),
    )


@st.composite
def records(draw: st.DrawFn, known: list[SpiderIPPool]) -> list[SpiderIP]:
    """Records of pods on both nodes, held or released, of at most one for each address."""
    found: dict[str, SpiderIP] = {}
    for each in known:
        addresses = AddressSet.parse(each.spec.ips or (), each.spec.ipVersion or 4)
        numbers = [number for first, last in addresses.intervals for number in range(first, last + 1)]
        for number in draw(st.lists(st.sampled_from(numbers), unique=True)):
            pod = draw(st.sampled_from(PODS))
            request = replace(
                ask(pod, draw(st.sampled_from(NODES)), interface=draw(st.sampled_from(["eth0", "net1"]))),
                version=each.spec.ipVersion or 4,
                pod_uid=draw(st.sampled_from([f"uid-of-{pod}", f"former-{pod}"])),
                owner=WEB if pod.startswith("web") else None,
            )
            record = allocation.new_record(request, each, number)
            ago = draw(st.sampled_from([None, None, 10, 100]))
            found.setdefault(record.name, record if ago is None else released(record, NOW - ago))
    return [found[name] for name in draw(st.permutations(sorted(found)))]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[SpiderIPPool], list[SpiderIP], list[AllocationRequest], AddressSet]:
    known = [draw(pools(name)) for name in draw(st.lists(st.sampled_from(NAMES), unique=True))]
    pod = draw(st.sampled_from(PODS))
    asked = draw(st.lists(requests(pod), min_size=1, max_size=3, unique_by=lambda one: (one.interface, one.version)))
    reserved = draw(st.sampled_from([(), (), ("10.0.0.2",), ("10.0.0.1-10.0.0.6",)]))
    held = draw(records(known))
    gone = draw(st.sampled_from([None, None, *NAMES]))  # its records are left
    return [each for each in known if each.name != gone], held, asked, AddressSet.parse(reserved, 4)


async def allocated(
    known: list[SpiderIPPool], held: list[SpiderIP], asked: list[AllocationRequest], reserved: AddressSet
) -> tuple[Allocation | Refused, AddressSnapshot]:
    """What an agent does that has just started, and what it starts from."""
    store = Store()
    for record in held:
        store.create(record)
    surroundings = Surroundings(*known)
    surroundings.now, surroundings.reserved[4] = NOW, reserved
    surroundings.hidden = {each.name for each in known if each.spec.nodeName == ["n2"]}
    records, view = tuple(store.objects.values()), NodeView(store, "n1")
    seen = AddressSnapshot("n1", tuple(known), records, surroundings.reserved, NOW)
    try:
        return await surroundings.allocator(view).allocate(keyed(asked)), seen
    except Refused as refusal:
        return refusal, seen


@settings(max_examples=10 * settings().max_examples)
@given(cases())
def test_the_dry_run_agrees_with_the_allocator(
    case: tuple[list[SpiderIPPool], list[SpiderIP], list[AllocationRequest], AddressSet],
) -> None:
    check_agreement(*case)


@pytest.mark.parametrize("first", ["blue", "gone"])
def test_they_agree_where_one_of_an_owners_records_is_of_a_pool_that_is_gone(first: str) -> None:
    former, blue = ask("web-0", owner=WEB, pod_uid="former"), pool("blue", "10.0.0.1-10.0.0.2")
    held = [allocation.new_record(former, blue, 0x0A000001), allocation.new_record(former, pool("gone"), 0x0A000003)]
    order = held if first == "blue" else held[::-1]
    check_agreement([blue], order, [ask("web-0", owner=WEB)], AddressSet(4))


def check_agreement(
    known: list[SpiderIPPool], held: list[SpiderIP], asked: list[AllocationRequest], reserved: AddressSet
) -> None:
    """The dry run says what the allocator then does, or refuses, in the same words."""
    outcome, seen = asyncio.run(allocated(known, held, asked, reserved))
    expected = dry_run(keyed(asked), seen)
    refusal = next((each.refusal for each in expected if each.refusal), None)
    if isinstance(outcome, Refused):
        assert refusal is not None, (str(outcome), expected)
        assert str(refusal) == str(outcome)
        return
    assert refusal is None, str(refusal)
    for each in expected:
        given = outcome.granted[each.request.interface, each.request.version]
        check_same(each, given, seen)
    early = {record.name for record in outcome.early}
    assert early == {each.record.name for each in expected if each.record and each.origin is GrantOrigin.EARLY}


def check_same(expected: DryGrant, given: SpiderIP, seen: AddressSnapshot) -> None:
    """The same record; of free ones any of the pool."""
    assert expected.record is not None
    assert given.spec.pool == expected.record.spec.pool
    if expected.origin is GrantOrigin.FREE:
        assert given.name not in {record.name for record in seen.records}
    else:
        assert given.name == expected.record.name, expected.origin

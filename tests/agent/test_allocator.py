"""What one call of the allocator takes and gives back, and what it releases."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.errors import ApiUnavailable, Refused
from tests.agent.allocating_node import (
    NodeView,
    One,
    Store,
    Surroundings,
    ask,
    keyed,
    ordinal,
    pool,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit


async def test_200_pods_on_two_nodes_fill_a_shared_pool_exactly() -> None:
    store, world = Store(), Surroundings(pool(ips="10.0.0.1-10.0.0.200"))
    nodes = {node: world.allocator(NodeView(store, node)) for node in ("n1", "n2")}
    gate = asyncio.Semaphore(32)

    async def one(pod: int) -> None:
        node = ("n1", "n2")[pod % 2]
        async with gate:
            await nodes[node].allocate(keyed([ask(f"pod-{pod}", node)]))

    await asyncio.gather(*(one(pod) for pod in range(200)))
    assert len(store.objects) == 200
    assert len({each.spec.podUID for each in store.objects.values()}) == 200


async def test_one_write_and_no_read_for_an_address() -> None:
    one = One(pool(nodeName=["n1"]))
    for _ in range(2):
        await one.give(ask("a"))
        assert (one.store.writes, one.store.reads) == (1, 0)


async def test_two_families_are_two_writes_and_no_read() -> None:
    one = One(pool("four"), pool("six", "fd00::1-fd00::9"))
    given = await one.give(ask("a"), ask("a", version=6))
    assert given.split()[0].startswith("10.0.0.")
    assert given.split()[1].startswith("fd00::")
    assert (one.store.writes, one.store.reads) == (2, 0)


async def test_a_second_family_that_is_refused_gives_the_first_back() -> None:
    one = One(pool("four", nodeName=["n1"]), pool("six", "fd00::1", nodeName=["n9"]))
    with pytest.raises(Refused, match=r"no IPv6 address .* six: is for node n9, not n1"):
        await one.give(ask("a"), ask("a", version=6))
    assert one.store.objects == {}


async def test_two_interfaces_on_one_pool_get_two_addresses() -> None:
    one = One(pool(nodeName=["n1"]))
    assert await one.give(ask("a"), ask("a", interface="net1")) == "10.0.0.1"
    assert await one.give(ask("a", interface="net1")) == "10.0.0.2"
    assert one.allocator.interfaces("uid-of-a") == ("eth0", "net1")
    assert (one.store.writes, one.store.reads) == (2, 0)


async def test_a_second_interface_that_is_refused_gives_the_first_back() -> None:
    one = One(pool(ips="10.0.0.1", nodeName=["n1"]))
    with pytest.raises(Refused, match=r"net1 of pod default/a .* 1 of 1 addresses in use"):
        await one.give(ask("a"), ask("a", interface="net1"))
    assert one.store.objects == {}


async def test_a_refusal_names_every_pool_and_why() -> None:
    one = One(pool("a", ips="10.0.0.1-10.0.0.2", nodeName=["n1"]), pool("b", nodeName=["n9"]))
    for pod in ("p", "q"):
        await one.give(ask(pod))
    with pytest.raises(Refused, match="a: 2 of 2 addresses in use; b: is for node n9, not n1"):
        await one.give(ask("r"))
    await one.allocator.release("uid-of-p", "eth0")
    assert await one.give(ask("r")) == "10.0.0.1"


async def test_a_release_that_was_put_off_does_not_hit_a_pod_that_came_back() -> None:
    one = One(pool())
    first = await one.give(ask("a"))
    one.store.faults = ["lost request"]
    await one.allocator.release("uid-of-a", "eth0")
    assert await one.give(ask("a")) == first
    await one.allocator.releases.retry(first)
    assert len(one.store.objects) == 1


@pytest.mark.parametrize("landing", ["before the next ADD", "after the next ADD", "never"])
async def test_a_release_that_is_carried_out_late_does_not_hit_a_pod_that_came_back(landing: str) -> None:
    one = One(pool(nodeName=["n1"]), pool("six", "fd00::1", nodeName=["n9"]))
    one.store.faults = ["", "late request"]
    with pytest.raises(Refused):
        await one.give(ask("a"), ask("a", version=6))
    if landing.startswith("before"):
        one.store.land()
    assert await one.give(ask("a")) == "10.0.0.1"
    if landing.startswith("after"):
        one.store.land()
    assert [record.spec.podUID for record in one.store.objects.values()] == ["uid-of-a"]
    await one.allocator.releases.retry("10.0.0.1")
    assert await one.give(ask("a")) == "10.0.0.1"
    assert list(one.store.objects) == ["10.0.0.1"]


@pytest.mark.parametrize("landing", ["before the next ADD", "after the next ADD"])
async def test_what_an_add_has_released_for_good_is_not_inherited_by_its_next_request(landing: str) -> None:
    """An undone call's releases of both families are not answered; the owner's records are read between them."""
    one = One(pool(nodeName=["n1"]), pool("six", "fd00::1-fd00::2", nodeName=["n1"]))
    both = (ordinal("a"), ordinal("a", version=6))
    one.store.faults = ["", "", "lost request", "late request", "late request"]
    with pytest.raises(ApiUnavailable):
        await one.give(*both, ordinal("a", interface="net1"))
    if landing.startswith("before"):
        one.store.land()
    granted = await one.allocator.allocate(keyed(both))
    one.store.land()
    assert {record.name for record in granted.granted.values()} == {*one.store.objects}


async def test_a_late_release_after_a_conflict_does_not_bring_the_address_back() -> None:
    one = One(pool(nodeName=["n1"]))
    assert await one.give(ask("a")) == "10.0.0.1"
    one.store.faults = ["late request"]
    await one.allocator.release_conflicting("uid-of-a")
    assert await one.give(ask("a")) == "10.0.0.2"
    one.store.land()
    assert list(one.store.objects) == ["10.0.0.2"]


async def test_a_release_that_was_put_off_does_not_concern_the_next_holder() -> None:
    one = One(pool(ips="10.0.0.1", nodeName=["n1"]))
    assert await one.give(ask("a")) == "10.0.0.1"
    one.store.faults = ["lost request"]
    await one.allocator.release("uid-of-a", "eth0")
    one.store.objects.clear()  # garbage collection has been faster
    one.view.deliver()
    assert await one.give(ask("b")) == "10.0.0.1"
    await one.allocator.releases.retry("10.0.0.1")
    assert await one.give(ask("b")) == "10.0.0.1"


async def test_a_release_that_was_put_off_is_carried_out() -> None:
    one = One(pool())
    await one.give(ask("a"))
    one.store.faults = ["lost request"]
    await one.allocator.release("uid-of-a", "eth0")
    worker = asyncio.create_task(one.allocator.run())
    await eventually(lambda: not one.store.objects)
    worker.cancel()


async def test_a_pod_that_is_gone_gives_everything_back_without_waiting() -> None:
    one = One(pool())
    await one.give(ask("a"), ask("a", interface="net1"))
    worker = asyncio.create_task(one.allocator.run())
    for interface in ("eth0", "net1"):
        one.allocator.release_soon("uid-of-a", interface)
    await eventually(lambda: not one.store.objects)
    worker.cancel()


async def test_what_a_cancelled_call_claimed_before_is_given_back() -> None:
    one = One(pool("four"), pool("six", "fd00::1"))
    claim = asyncio.create_task(one.give(ask("a"), ask("a", version=6)))
    while not one.view.known:
        await asyncio.sleep(0)
    claim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claim
    worker = asyncio.create_task(one.allocator.run())
    await eventually(lambda: not [name for name in one.store.objects if "." in name])
    worker.cancel()

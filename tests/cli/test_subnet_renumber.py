"""`spiderpoolctl subnet renumber`: pools for the same pods in another subnet, and what is left to do by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from spiderpool.api.core_v1 import Namespace
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.api.subnet import APPLICATION_NAME_LABEL, SpiderSubnet, SubnetSpec
from spiderpool.cli.renumbering import runs
from spiderpool.cli.renumbering.counterparts import address_space, counterpart_name, counterparts
from spiderpool.cli.renumbering.places import named_in
from spiderpool.cli.renumbering.renumber import SubnetRenumbering
from spiderpool.core.addresses import AddressSet
from spiderpool.errors import BadRequest, Refused
from tests.cli.test_plan import pool
from tests.support.played_cluster import MOVE, PlayedCluster, played_cluster, pod

pytestmark = pytest.mark.unit

NEW = SpiderSubnet(
    metadata=ObjectMeta(name="new", uid="uid-of-new"),
    spec=SubnetSpec("10.0.1.0/24", ipVersion=4, ips=["10.0.1.0-10.0.1.99"], gateway="10.0.1.1"),
)
WORK = SubnetRenumbering("10.0.0.0/24", "new", (), None, delete_old=False, options=MOVE)
NOTHING = AddressSet(4)


@pytest.fixture
async def played(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PlayedCluster]:
    """Pods of a pool of 10.0.0.0/24, and a SpiderSubnet to which they are to move."""
    async with played_cluster(monkeypatch, "one-new", "10.0.1.2") as found:
        found.server.remove(found.pool("two"))
        found.server.put(NEW)
        yield found


async def run(played: PlayedCluster, work: SubnetRenumbering = WORK) -> bool:
    return await work.carry_out(played.cluster, played.said.append)


class TestDecisions:
    """Values in, values out."""

    def test_a_counterpart_is_for_the_same_pods(self) -> None:
        selector = LabelSelector({"app": "web"})
        old = pool("old-web", "10.0.0.1-10.0.0.3", "n1", podAffinity=selector, multusName=["a/b"], cooldownSeconds=5)
        spaces = (address_space("10.0.0.0/24", []), address_space("new", [NEW]))
        (pair,) = counterparts([old], spaces, [old], AddressSet.parse(["10.0.1.3"], 4))
        spec = pair.new.spec
        assert (spec.nodeName, spec.podAffinity, spec.multusName, spec.default) == (["n1"], selector, ["a/b"], True)
        assert (spec.cooldownSeconds, spec.gateway, spec.subnet) == (5, "10.0.1.1", "10.0.1.0/24")
        assert spec.ips == ["10.0.1.2", "10.0.1.4-10.0.1.5"], "neither network, gateway nor reserved address"

    def test_two_of_them_have_no_address_in_common(self) -> None:
        pools = [pool("a", "10.0.0.1-10.0.0.60"), pool("b", "10.0.0.61-10.0.0.99")]
        pairs = counterparts(pools, (address_space("10.0.0.0/24", []), address_space("new", [NEW])), pools, NOTHING)
        first, second = (AddressSet.parse(pair.new.spec.ips or (), 4) for pair in pairs)
        assert (first.size, second.size, (first & second).size) == (60, 38, 0), "as many as there are"

    def test_what_exists_is_not_made_again(self) -> None:
        old = pool("a", "10.0.0.1")
        spaces = (address_space("10.0.0.0/24", []), address_space("new", [NEW]))
        (made,) = counterparts([old], spaces, [old], NOTHING)
        (again,) = counterparts([old], spaces, [old, made.new], NOTHING)
        assert (again.exists, again.new) == (True, made.new)
        theirs = changed(made.new, metadata=ObjectMeta(name=made.new.name))
        with pytest.raises(Refused, match="pool a-new exists, and was not made in the place of a"):
            counterparts([old], spaces, [old, theirs], NOTHING)

    def test_names(self) -> None:
        assert counterpart_name("blue-web", "blue", "green") == "green-web"
        assert counterpart_name("web", "blue", "green") == "web-green"

    def test_a_word_that_is_no_subnet(self) -> None:
        with pytest.raises(BadRequest, match="nobody is neither a SpiderSubnet nor a subnet"):
            address_space("nobody", [NEW])
        with pytest.raises(BadRequest, match=r"10\.0\.2\.1 lies outside of 10\.0\.1\.0/24"):
            address_space("new", [NEW], ["10.0.2.1"])

    def test_annotations_that_name_it(self) -> None:
        notes = {
            "ipam.spidernet.io/ippools": '[{"interface": "eth0", "ipv4": ["one", "two"]}]',
            "ipam.spidernet.io/subnet": "unreadable",
            "other": '["one"]',
        }
        assert named_in(notes, {"one", "three"}) == [("ipam.spidernet.io/ippools", "one")]
        assert named_in(None, {"one"}) == []


async def test_pods_move_from_pool_to_pool(played: PlayedCluster) -> None:
    plan = await WORK.plan(played.cluster)
    assert [(each.pool, each.what) for each in plan.pools] == [
        ("one-new", "is made in the place of one"),
        ("one", "gives no new address any more: spec.disable"),
    ]
    assert (plan.refusals, set(played.server.stored(SpiderIPPool))) == ((), {"one"}), "a plan changes nothing"
    assert await run(played)
    assert played.holding == {"10.0.1.2": "web-a-next", "10.0.1.3": "web-b-next"}
    assert played.pool("one-new").spec.ips == ["10.0.1.2-10.0.1.7"]
    assert set(played.server.stored(SpiderIPPool)) == {"one", "one-new"}, "nobody asked to delete the old one"
    assert await run(played, replace(WORK, delete_old=True)), "again: the new pool is there"
    assert set(played.server.stored(SpiderIPPool)) == {"one-new"}


async def test_it_goes_on_after_it_was_stopped_and_deletes_nothing_that_is_held(played: PlayedCluster) -> None:
    played.server.forbid_evictions("web-budget")
    hurried = replace(WORK, delete_old=True, options=replace(MOVE, timeout=0.2))
    assert not await run(played, hurried)
    assert "pool one stays, since its addresses are held" in played.said
    played.server.forbid_evictions("")
    assert await run(played, hurried)
    assert set(played.server.stored(SpiderIPPool)) == {"one-new"}


async def test_pools_are_emptied_once_agents_have_learnt_that_all_are_closed(
    played: PlayedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    played.server.put(pool("other", "10.0.0.50-10.0.0.52"))
    monkeypatch.setattr(runs, "LEARNING", 0.3)
    task = asyncio.create_task(run(played))
    await played.told("pool other gives no new address")
    played.put(pod("late"), "10.0.0.6")
    assert await task
    assert "late" in played.far.evicted
    first = next(place for place, text in enumerate(played.said) if "is evicted" in text)
    assert {"pool one gives no new address", "pool other gives no new address"} <= set(played.said[:first])


async def test_the_old_pools_are_opened_again(played: PlayedCluster) -> None:
    await run(played, replace(WORK, options=replace(MOVE, move=False)))
    assert played.pool("one").spec.disable
    await WORK.undo(played.cluster, played.said.append)
    assert not played.pool("one").spec.disable
    assert played.said[-1].startswith("pool one-new stays")


async def test_what_names_the_old_pool_is_listed(played: PlayedCluster) -> None:
    notes = {"ipam.spidernet.io/default-ipv4-ippool": '["one"]'}
    played.server.put(Namespace(metadata=ObjectMeta(name="shop", annotations=notes)))
    (text,) = (await WORK.plan(played.cluster)).named
    assert text.startswith("Namespace shop: ipam.spidernet.io/default-ipv4-ippool names one; write new")


async def test_pools_of_applications_are_left_and_told(played: PlayedCluster) -> None:
    theirs = pool("auto", "10.0.0.40")
    played.server.put(changed(theirs, metadata=ObjectMeta(name="auto", labels={APPLICATION_NAME_LABEL: "web"})))
    assert "pool auto was made of SpiderSubnet" in (await WORK.plan(played.cluster)).named[0]
    assert not await run(played)
    assert played.said[-1].startswith("left: pool auto was made")
    assert not played.pool("auto").spec.disable


async def test_a_subnet_without_a_spidersubnet(played: PlayedCluster) -> None:
    work = replace(WORK, new="10.0.2.0/24", ips=("10.0.2.0-10.0.2.9",), gateway="10.0.2.1")
    plan = await work.plan(played.cluster)
    assert (plan.refusals, plan.pools[0].pool, plan.pools[0].addresses) == ((), "one-10-0-2-0-24", "10.0.2.2-10.0.2.7")


async def test_subnets_that_do_not_fit(played: PlayedCluster) -> None:
    with pytest.raises(BadRequest, match="are one subnet"):
        await replace(WORK, old="new").plan(played.cluster)
    with pytest.raises(BadRequest, match="say by --ips which of its addresses"):
        await replace(WORK, new="10.0.9.0/24").plan(played.cluster)
    with pytest.raises(BadRequest, match="of different families"):
        await replace(WORK, new="fd00::/64", ips=("fd00::1",)).plan(played.cluster)


async def test_a_subnet_that_no_pool_has_is_no_empty_plan(played: PlayedCluster) -> None:
    with pytest.raises(BadRequest, match=r"no pool has the subnet 10\.0\.7\.0/24"):
        await replace(WORK, old="10.0.7.0/24").plan(played.cluster)


@pytest.mark.parametrize("gateway", ["foo", "fd00::1"])
async def test_a_gateway_that_is_none(played: PlayedCluster, gateway: str) -> None:
    with pytest.raises(BadRequest, match=f"gateway {gateway} is no IPv4 address"):
        await replace(WORK, gateway=gateway).plan(played.cluster)


async def test_it_is_taken_back_by_the_command_that_is_printed(played: PlayedCluster) -> None:
    """Without --ips, by which alone the new pools could be made."""
    stay = replace(MOVE, move=False)
    await run(played, replace(WORK, new="10.0.2.0/24", ips=("10.0.2.0-10.0.2.9",), options=stay))
    assert played.pool("one").spec.disable
    assert await replace(WORK, new="10.0.2.0/24").undo(played.cluster, played.said.append)
    assert (bool(played.pool("one").spec.disable), played.pool("one").metadata.annotations or {}) == (False, {})
    assert played.said[-1].startswith("pool one-10-0-2-0-24 stays")


async def test_the_counterpart_of_a_disabled_pool_is_disabled(played: PlayedCluster) -> None:
    one = played.pool("one")
    played.server.put(changed(one, spec=changed(one.spec, disable=True)))
    await run(played, replace(WORK, options=replace(MOVE, move=False)))
    assert played.pool("one-new").spec.disable

"""What an address is by its record, by a sandbox, and by the spec of a pool."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from spiderpool.api.ip import FormerPod, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.address_state import AddressState, ListedAddresses, is_in_conflict, record_state
from spiderpool.core.addresses import AddressSet

pytestmark = pytest.mark.unit

S = AddressState
NOON = 1_767_268_800.0
"""2026-01-01T12:00:00Z."""
SPEC = IPSpec("10.0.0.5/24", "blue", "n1", "default", "web-0", "uid-0", "eth0")


def record(**changes: object) -> SpiderIP:
    return SpiderIP(metadata=ObjectMeta(name="10.0.0.5"), spec=replace(SPEC, **changes))


def pool(**spec: object) -> SpiderIPPool:
    fields: dict[str, object] = {"subnet": "10.0.0.0/24", "ips": ["10.0.0.0-10.0.0.9"], "cooldownSeconds": 60}
    return SpiderIPPool(metadata=ObjectMeta(name="blue"), spec=IPPoolSpec(**{**fields, **spec}))  # type: ignore[arg-type]


@pytest.mark.parametrize("is_stopped", [False, True])
@pytest.mark.parametrize(
    ("released_at", "states"),
    [
        (None, (S.HELD, S.FENCED)),
        ("2026-01-01T11:59:30Z", (S.COOLING, S.COOLING)),
        ("2026-01-01T11:59:00Z", (S.RELEASED, S.RELEASED)),
        ("yesterday", (S.RELEASED, S.RELEASED)),
    ],
)
def test_an_address_by_its_record(released_at: str | None, states: tuple[S, S], is_stopped: bool) -> None:
    found = record_state(record(releasedAt=released_at), pool(), NOON, is_stopped=is_stopped)
    assert found is states[is_stopped]


def test_nothing_cools_down_for_a_pool_that_is_gone() -> None:
    assert record_state(record(releasedAt="2026-01-01T11:59:59Z"), None, NOON, is_stopped=False) is S.RELEASED


def test_a_sandbox_is_in_conflict_unless_it_is_of_the_pod_or_of_one_that_its_machine_leaves() -> None:
    moving = record(movedFrom=[FormerPod("n2", "virt-a", "uid-8", "5")])
    assert [is_in_conflict(each, moving) for each in ("uid-0", "uid-8", "uid-9")] == [False, False, True]
    assert is_in_conflict("uid-8", record())
    assert is_in_conflict("uid-0", None)


def test_each_listed_address_has_one_state_by_its_pool() -> None:
    base = 10 << 24
    reserved = AddressSet.of(4, [(base + 4, base + 6), (base + 40, base + 41)])
    found = ListedAddresses.of(pool(excludeIPs=["10.0.0.6-10.0.0.7"])).by_state(reserved)
    assert {state: addresses.ranges() for state, addresses in found.items()} == {
        S.FREE: ["10.0.0.1-10.0.0.3", "10.0.0.8-10.0.0.9"],
        S.RESERVED: ["10.0.0.4-10.0.0.5"],
        S.EXCLUDED: ["10.0.0.0", "10.0.0.6-10.0.0.7"],
    }


def test_a_pool_that_cannot_be_read_lists_nothing() -> None:
    assert ListedAddresses.of(pool(excludeIPs=["none"])) == ListedAddresses(AddressSet(4), AddressSet(4))


def test_who_has_words_for_each_state() -> None:
    assert all(each.words for each in S)
    assert S.FENCED.words == S.HELD.words

"""How many addresses pools can give."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import new_record, released
from spiderpool.core.ipam.pool_capacity import PoolCapacity, pool_capacities
from spiderpool.core.ipam.selection import AllocationRequest

pytestmark = pytest.mark.unit

NOW = 1_000_000.0
OF = AllocationRequest("default", "web", "uid", "eth0", "n1", None)
NOTHING = {4: AddressSet(4), 6: AddressSet(6)}


def pool(name: str, ips: str, **spec: Any) -> SpiderIPPool:
    fields: dict[str, Any] = {"subnet": "10.0.0.0/24", "ips": [ips]} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**fields))


def record(number: int, where: SpiderIPPool, ago: float | None = None) -> SpiderIP:
    made = new_record(OF, where, 0x0A000000 + number)
    return made if ago is None else released(made, NOW - ago)


def test_held_reserved_and_excluded_addresses_are_not_there_and_released_ones_are() -> None:
    blue = pool("blue", "10.0.0.1-10.0.0.9", excludeIPs=["10.0.0.9"], cooldownSeconds=60)
    records = [record(1, blue), record(2, blue, ago=100), record(3, blue, ago=10), record(9, blue, ago=10)]
    reserved = NOTHING | {4: AddressSet.parse(["10.0.0.8"], 4)}
    found = pool_capacities([blue], records, reserved, NOW)["blue"]
    assert found == PoolCapacity(free=5, cooling=1)  # .2, .4 to .7 and, cooling down, .3
    assert (found.most, found.least) == (6, 6)


def test_addresses_of_two_pools_are_certain_in_neither() -> None:
    pools = [pool("a", "10.0.0.1-10.0.0.4"), pool("b", "10.0.0.3-10.0.0.9"), pool("c", "10.0.0.20")]
    found = pool_capacities(pools, [record(3, pools[0])], NOTHING, NOW)
    assert found["a"] == PoolCapacity(free=3, shared=2)
    assert found["b"] == PoolCapacity(free=6, shared=2)
    assert (found["a"].least, found["b"].least, found["c"].least) == (1, 4, 1)


def test_a_released_record_of_another_pool_gives_nothing() -> None:
    pools = [pool("a", "10.0.0.1"), pool("six", "fd00::1-fd00::3", subnet="fd00::/64"), pool("bad", "x")]
    found = pool_capacities(pools, [record(1, pool("gone", "10.0.0.1"), ago=100)], NOTHING, NOW)
    assert [found[name].most for name in ("a", "six", "bad")] == [0, 3, 0]

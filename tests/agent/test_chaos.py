"""A short run of the chaos that ``make chaos`` runs for two minutes."""

from __future__ import annotations

import asyncio

import pytest
from bench.chaos import ChaosResult, chaos_cluster, run_chaos

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]


def test_no_address_is_held_twice_or_left_behind_while_everything_is_killed() -> None:
    with chaos_cluster("chaos-test") as (cluster, agents):
        result = asyncio.run(run_chaos(cluster, agents, seconds=15, pods=50, seed=7))
    assert result.violations == []
    assert result.pods == 50
    assert result.kills


@pytest.mark.unit
def test_the_result_tells_when_two_pods_hold_one_address() -> None:
    result = ChaosResult()
    result.record_allocation("a", "10.0.0.1/16")
    result.record_deletion("a", "10.0.0.1/16")
    result.record_allocation("b", "10.0.0.1/16")
    assert result.violations == []
    result.record_allocation("c", "10.0.0.1/16")
    assert result.violations == ["10.0.0.1/16 was given to c while b holds it"]

"""A short run of the chaos that ``make chaos`` plays for two minutes."""

from __future__ import annotations

import asyncio

import pytest
from bench.chaos import Score, play, world

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]


def test_no_address_is_held_twice_or_left_behind_while_everything_is_killed() -> None:
    with world("chaos-test") as (cluster, agents):
        score = asyncio.run(play(cluster, agents, seconds=15, pods=50, seed=7))
    assert score.wrong == []
    assert score.pods == 50
    assert score.kills


@pytest.mark.unit
def test_the_score_tells_when_two_pods_hold_one_address() -> None:
    score = Score()
    score.granted("a", "10.0.0.1/16")
    score.gone("a", "10.0.0.1/16")
    score.granted("b", "10.0.0.1/16")
    assert score.wrong == []
    score.granted("c", "10.0.0.1/16")
    assert score.wrong == ["10.0.0.1/16 was given to c while b holds it"]

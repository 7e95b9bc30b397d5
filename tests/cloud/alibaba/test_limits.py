"""How often an action may be called."""

from __future__ import annotations

import pytest

from spiderpool.cloud.alibaba.limits import CallBudget, ceiling, next_window

pytestmark = pytest.mark.unit


def test_allows_the_ceiling_in_any_minute() -> None:
    budget = CallBudget(2)
    assert budget.wait(0.0) == 0.0
    budget.spend(0.0)
    budget.spend(10.0)
    assert budget.wait(10.0) == 50.0
    assert budget.wait(60.0) == 0.0
    budget.spend(60.0)
    assert budget.wait(61.0) == 9.0


def test_is_closed_after_a_refusal() -> None:
    budget = CallBudget(2)
    budget.close(20.0)
    assert budget.wait(5.0) == 15.0
    assert budget.wait(20.0) == 0.0


def test_a_window_begins_with_the_minute() -> None:
    assert next_window(120.0) == 60.0
    assert next_window(179.0) == 1.0


def test_actions_have_ceilings_of_their_own() -> None:
    assert (ceiling("DescribeVSwitches"), ceiling("DescribeInstances")) == (300, 500)

"""Steps side by side: what a refusal stops, and what it does not."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.cloud.provider import CloudError, CloudUnavailable, QuotaExceeded, Rejected
from spiderpool.cloud.step_runner import MOST_AT_ONCE, MOST_LOST, StepRunner
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.steps import Step
from tests.core.cloud.loadbalancer.test_ordering import NODES, SECURE_PORTS, lent, observed
from tests.core.pretend_balancers import HTTP, model_of, service

pytestmark = pytest.mark.unit


class PretendSteps:
    """Carries out steps, but for those whose text begins as told; remembers what it did."""

    def __init__(self, *refusals: tuple[str, CloudError], times: int = 99) -> None:
        self.done: list[str] = []
        self.asked: list[str] = []
        self.refusals = {text: [error] * times for text, error in refusals}
        self.running = self.most = 0

    async def do(self, step: Step) -> None:
        self.asked.append(str(step))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        for text, errors in self.refusals.items():
            if str(step).startswith(text) and errors:
                raise errors.pop()
        self.done.append(str(step))


async def run(far: PretendSteps, steps: tuple[Step, ...]) -> list[str]:
    """Runs the steps of a new balancer; returns those that were refused."""
    runner = StepRunner(steps, observed(), far.do)
    await runner.run()
    return [str(step) for step, _ in runner.refusals]


async def test_all_steps_are_carried_out_ten_at_a_time() -> None:
    ports = [{"port": number, "nodePort": 31000 + number} for number in range(1, 31)]
    steps = plan(model_of(service(*ports), NODES), observed())
    far = PretendSteps()
    assert await run(far, steps) == []
    assert sorted(far.done) == sorted(map(str, steps))
    assert far.most == MOST_AT_ONCE


async def test_a_refused_step_stops_those_alone_that_need_it() -> None:
    steps = plan(model_of(service(*SECURE_PORTS), NODES), observed())
    far = PretendSteps(("create server group k8s/30698", Rejected("no")))
    assert len(await run(far, steps)) == 1
    assert len(far.asked) == len(steps) - 2, "its servers and its listener are not tried"
    assert len(far.done) == len(steps) - 3


async def test_where_a_quota_was_in_the_way_it_is_tried_again_after_a_removal() -> None:
    before = observed(model_of(service({"port": 81, "nodePort": 30081}), NODES))
    steps = plan(model_of(service(HTTP), NODES), before)
    far = PretendSteps(("create server group", QuotaExceeded("full")), times=1)
    runner = StepRunner(steps, before, far.do)
    await runner.run()
    assert runner.refusals == []
    assert sorted(far.done) == sorted(map(str, steps))


async def test_a_users_group_is_not_emptied_to_make_room_in_another() -> None:
    before = observed(lent("rsp-1:80", NODES))
    far = PretendSteps(("add to rsp-2", QuotaExceeded("full")))
    runner = StepRunner(plan(lent("rsp-2:80", NODES), before), before, far.do)
    await runner.run()
    assert far.done == []
    assert [str(step).partition(":")[0] for step, _ in runner.refusals] == ["add to rsp-2"]


async def test_a_quota_with_nothing_to_remove_is_told_once() -> None:
    far = PretendSteps(("create server group", QuotaExceeded("full")))
    assert len(await run(far, plan(model_of(service(HTTP), NODES), observed()))) == 1
    assert len(far.asked) == 1


async def test_a_cloud_that_does_not_answer_is_not_asked_for_ever() -> None:
    ports = [{"port": number, "nodePort": 31000 + number} for number in range(1, 31)]
    far = PretendSteps(("", CloudUnavailable("lost")))
    await run(far, plan(model_of(service(*ports), NODES), observed()))
    assert MOST_LOST <= len(far.asked) <= MOST_LOST + MOST_AT_ONCE


async def test_a_bug_is_no_refusal() -> None:
    async def do(_: Step) -> None:
        raise ZeroDivisionError

    runner = StepRunner(plan(model_of(service(HTTP), NODES), observed()), observed(), do)
    with pytest.raises(ExceptionGroup):
        await runner.run()

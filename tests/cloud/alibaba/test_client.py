"""Calls against the simulated cloud: how they end, how they are repeated, what they tell."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from spiderpool.cloud.alibaba import client
from spiderpool.cloud.alibaba.clb import SLB
from spiderpool.cloud.alibaba.client import ClientTokens
from spiderpool.cloud.alibaba.ecs import ECS
from spiderpool.cloud.provider import (
    CloudError,
    CloudUnavailable,
    NotPermitted,
    StillProcessing,
    Throttled,
    VSwitchFull,
)
from spiderpool_lab.alibaba.faults import Fault
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit

ASSIGN = "ecs:AssignPrivateIpAddresses"


def counted(action: str, outcome: str) -> float:
    labels = {"action": action, "outcome": outcome}
    return REGISTRY.get_sample_value("spiderpool_cloud_calls_total", labels) or 0.0


@pytest.fixture
def eni(simulated: SimulatedCloud) -> str:
    server = simulated.account.add_instance("master", instance_type="ecs.g7.large")
    return simulated.account.add_eni("vsw-1", instance=server.identity).identity


def test_of_requests_without_an_answer_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_OPEN", 2)
    tokens = ClientTokens()
    first, second, third = (tokens.of(key) for key in "abc")
    assert (tokens.of("b"), tokens.of("c")) == (second, third)
    assert tokens.of("a") != first


class TestCalls:
    async def test_counts_calls_and_declares_its_budget(self, simulated: SimulatedCloud, eni: str) -> None:
        before = counted("DescribeNetworkInterfaces", "OK")
        await simulated.ecs().enis("cn-hangzhou", [eni])
        assert counted("DescribeNetworkInterfaces", "OK") == before + 1
        budget = REGISTRY.get_sample_value("spiderpool_cloud_call_budget", {"action": "DescribeNetworkInterfaces"})
        assert budget == 800

    async def test_waits_out_a_short_throttling(self, simulated: SimulatedCloud, eni: str) -> None:
        simulated.account.set_fault(Fault(kind="throttle", every=2, seconds=0.2))
        ecs = simulated.ecs()
        for _ in range(3):
            await ecs.enis("cn-hangzhou", [eni])
        assert simulated.outcomes("ecs:DescribeNetworkInterfaces").count("OK") == 3
        assert simulated.outcomes("ecs:DescribeNetworkInterfaces").count("Throttling.User") == 2

    async def test_a_long_throttling_is_the_callers_to_plan_and_costs_no_calls(
        self, simulated: SimulatedCloud, eni: str
    ) -> None:
        simulated.account.set_fault(Fault(kind="throttle", times=1, seconds=30))
        ecs = simulated.ecs()
        with pytest.raises(Throttled) as first:
            await ecs.enis("cn-hangzhou", [eni])
        assert first.value.retry_after == 30
        with pytest.raises(Throttled) as second:
            await ecs.enis("cn-hangzhou", [eni])
        assert 28 < second.value.retry_after <= 30
        assert simulated.outcomes("ecs:DescribeNetworkInterfaces") == ["Throttling.User"]
        await ecs.quota("cn-hangzhou", "ecs.g7.large")  # other actions go on

    @pytest.mark.parametrize("fault", [Fault(kind="drop", times=2), Fault(kind="refuse", times=2)])
    async def test_repeats_what_got_no_answer(self, simulated: SimulatedCloud, eni: str, fault: Fault) -> None:
        simulated.account.set_fault(fault)
        assert eni in await simulated.ecs().enis("cn-hangzhou", [eni])
        assert len(simulated.outcomes("ecs:DescribeNetworkInterfaces")) == 3

    async def test_gives_up_after_some_tries(self, simulated: SimulatedCloud, eni: str) -> None:
        simulated.account.set_fault(Fault(kind="drop"))
        with pytest.raises(CloudUnavailable, match="DescribeNetworkInterfaces got no answer from"):
            await simulated.ecs().enis("cn-hangzhou", [eni])
        assert len(simulated.account.calls) == 4

    async def test_a_lost_answer_assigns_once(self, simulated: SimulatedCloud, eni: str) -> None:
        simulated.account.set_fault(Fault(kind="lose", actions=ASSIGN, times=2))
        given = await simulated.ecs().assign("cn-hangzhou", eni, 4, 2)
        assert len(simulated.outcomes(ASSIGN)) == 3
        assert simulated.account.tables.enis.get(eni).secondaries == tuple(given)  # type: ignore[union-attr]

    async def test_after_giving_up_the_same_wish_is_the_same_request(self, simulated: SimulatedCloud, eni: str) -> None:
        number = simulated.account.set_fault(Fault(kind="lose", actions=ASSIGN))
        ecs = simulated.ecs()
        with pytest.raises(CloudUnavailable):
            await ecs.assign("cn-hangzhou", eni, 4, 2)
        simulated.account.faults.clear(number)
        given = await ecs.assign("cn-hangzhou", eni, 4, 2)
        assert simulated.account.tables.enis.get(eni).secondaries == tuple(given)  # type: ignore[union-attr]
        assert set(await ecs.assign("cn-hangzhou", eni, 4, 2)).isdisjoint(given)

    @pytest.mark.parametrize("code", ["IdempotenceProcessing", "LastTokenProcessing", "ProcessingSameRequest"])
    async def test_what_the_cloud_still_works_on_is_asked_again_with_the_same_token(
        self, simulated: SimulatedCloud, eni: str, code: str
    ) -> None:
        simulated.account.set_fault(Fault(kind="lose", actions=ASSIGN, times=1))
        simulated.account.set_fault(Fault(kind="refuse", actions=ASSIGN, code=code, status=403, times=2))
        given = await simulated.ecs().assign("cn-hangzhou", eni, 4, 2)
        assert simulated.account.tables.enis.get(eni).secondaries == tuple(given)  # type: ignore[union-attr]
        assert len({call.parameters["ClientToken"] for call in simulated.account.calls}) == 1

    async def test_what_the_cloud_works_on_for_long_is_the_same_request_later(
        self, simulated: SimulatedCloud, eni: str
    ) -> None:
        busy = Fault(kind="refuse", actions=ASSIGN, code="IdempotenceProcessing", status=403, times=4)
        simulated.account.set_fault(busy)
        ecs = simulated.ecs()
        with pytest.raises(StillProcessing):
            await ecs.assign("cn-hangzhou", eni, 4, 2)
        await ecs.assign("cn-hangzhou", eni, 4, 2)
        assert len({call.parameters["ClientToken"] for call in simulated.account.calls}) == 1

    async def test_what_must_happen_once_is_not_repeated_without_a_token(
        self, simulated: SimulatedCloud, eni: str
    ) -> None:
        simulated.account.set_fault(Fault(kind="drop"))
        sent = {"RegionId": "cn-hangzhou", "NetworkInterfaceId": eni, "SecondaryPrivateIpAddressCount": 1}
        with pytest.raises(CloudUnavailable):
            await simulated.client().call(ECS, "AssignPrivateIpAddresses", sent)
        assert len(simulated.account.calls) == 1

    async def test_names_the_action_that_the_policy_lacks(self, simulated: SimulatedCloud, eni: str) -> None:
        simulated.allow("ecs:Describe*")
        with pytest.raises(NotPermitted) as refused:
            await simulated.ecs().assign("cn-hangzhou", eni, 4, 1)
        assert refused.value.action == "AssignPrivateIpAddresses"

    async def test_refusals_for_one_reason_read_alike(self, simulated: SimulatedCloud, eni: str) -> None:
        simulated.account.set_fault(Fault(kind="refuse", code="No", message="Not now.", status=400))
        errors: list[CloudError] = []
        for _ in range(2):
            with pytest.raises(CloudError) as refused:
                await simulated.ecs().enis("cn-hangzhou", [eni])
            errors.append(refused.value)
        assert {error.message for error in errors} == {"DescribeNetworkInterfaces was refused with No: Not now."}
        assert len({error.details for error in errors}) == 2, "the cloud's number of the request"

    async def test_names_the_vswitch_that_is_full(self, simulated: SimulatedCloud) -> None:
        simulated.account.set_fault(Fault(kind="refuse", code="VSwitchAvailableIpNotExist", status=400))
        with pytest.raises(VSwitchFull, match="vSwitch vsw-9"):
            await simulated.client().call(SLB, "CreateLoadBalancer", {"VSwitchId": "vsw-9"}, token=True)

    async def test_calls_of_one_action_stay_below_the_ceiling(self, simulated: SimulatedCloud, eni: str) -> None:
        caller = simulated.client()
        budget = caller._budget("DescribeNetworkInterfaces", "cn-hangzhou")
        budget.ceiling = 2
        sent = {"RegionId": "cn-hangzhou"}
        calls = [caller.call(ECS, "DescribeNetworkInterfaces", sent) for _ in range(5)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in answers].count(Throttled) == 3
        assert len(simulated.account.calls) == 2


SECRET = "kEyThatNobodyMaySee0123456789x"
KEY_ID = "LTAIneverToBeSeen12345"


class TestSecrecy:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault(kind="drop"),
            Fault(kind="throttle", seconds=30),
            Fault(kind="refuse", code="InvalidParameter", message=f"with {KEY_ID} and {SECRET}", status=400),
            Fault(
                kind="refuse",
                code="SignatureDoesNotMatch",
                message=f"not as computed. server string to sign is:POST&AccessKeyId={KEY_ID}",
                status=400,
            ),
        ],
    )
    async def test_no_key_in_a_log_or_error(
        self,
        simulated: SimulatedCloud,
        eni: str,
        fault: Fault,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(0)
        simulated.allow("*", key=KEY_ID, secret=SECRET)
        simulated.account.set_fault(fault)
        with pytest.raises(CloudError) as refused:
            await simulated.ecs().assign("cn-hangzhou", eni, 4, 1)
        chain: BaseException | None = refused.value
        said = "".join(capfd.readouterr()) + caplog.text
        while chain is not None:
            said += repr(chain) + str(chain) + str(vars(chain))
            chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
        assert SECRET not in said
        assert KEY_ID not in said

"""Calls against the simulated cloud: how they end, how they are repeated, what they tell."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from spiderpool.cloud.alibaba.error_codes import refusal
from spiderpool.cloud.alibaba.limits import CallBudget, next_window
from spiderpool.cloud.provider import (
    CloudConflict,
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    NotPermitted,
    QuotaExceeded,
    Rejected,
    Throttled,
    VSwitchFull,
)
from spiderpool_lab.alibaba.faults import Fault
from tests.cloud.alibaba.conftest import Far

pytestmark = pytest.mark.unit

ASSIGN = "ecs:AssignPrivateIpAddresses"


def counted(action: str, outcome: str) -> float:
    labels = {"action": action, "outcome": outcome}
    return REGISTRY.get_sample_value("spiderpool_cloud_calls_total", labels) or 0.0


@pytest.fixture
def eni(far: Far) -> str:
    server = far.account.add_instance("master", instance_type="ecs.g7.large")
    return far.account.add_eni("vsw-1", instance=server.identity).identity


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "status", "kind"),
        [
            ("InvalidVSwitchId.IpNotEnough", 403, VSwitchFull),
            ("QuotaExceeded.PrivateIpAddress", 403, VSwitchFull),
            ("InvalidOperation.Ipv4CountExceeded", 403, QuotaExceeded),
            ("InvalidOperation.Ipv6CountExceeded", 403, QuotaExceeded),
            ("EniPerInstanceLimitExceeded", 403, QuotaExceeded),
            ("SecurityGroupInstanceLimitExceed", 403, QuotaExceeded),
            ("InvalidIp.IpUnassigned", 404, CloudNotFound),
            ("InvalidEniId.NotFound", 404, CloudNotFound),
            ("InvalidEcsId.NotFound", 404, CloudNotFound),
            ("InvalidOperation.InvalidEniState", 403, CloudConflict),
            ("Operation.Conflict", 409, CloudConflict),
            ("IdempotentFailed", 400, CloudConflict),
            ("Throttling", 400, Throttled),
            ("Throttling.User", 400, Throttled),
            ("Throttling.Api", 400, Throttled),
            ("Forbidden.RAM", 403, NotPermitted),
            ("InvalidAccessKeyId.NotFound", 404, NotPermitted),
            ("SignatureDoesNotMatch", 400, NotPermitted),
            ("InternalError", 500, CloudUnavailable),
            ("ServiceUnavailable", 503, CloudUnavailable),
            ("Whatever", 502, CloudUnavailable),
            ("MissingParameter.RegionId", 400, Rejected),
        ],
    )
    def test_every_code_has_its_error(self, code: str, status: int, kind: type[CloudError]) -> None:
        assert type(refusal("DoIt", code, "why", status, 7.0)) is kind

    def test_a_missing_permission_names_the_action(self) -> None:
        error = refusal("AssignPrivateIpAddresses", "Forbidden.RAM", "no", 403, 0.0)
        assert isinstance(error, NotPermitted)
        assert error.action == "AssignPrivateIpAddresses"
        assert "policy print" in error.message


class TestBudget:
    def test_allows_the_ceiling_in_any_minute(self) -> None:
        budget = CallBudget(2)
        assert budget.wait(0.0) == 0.0
        budget.spend(0.0)
        budget.spend(10.0)
        assert budget.wait(10.0) == 50.0
        assert budget.wait(60.0) == 0.0
        budget.spend(60.0)
        assert budget.wait(61.0) == 9.0

    def test_is_closed_after_a_refusal(self) -> None:
        budget = CallBudget(2)
        budget.close(20.0)
        assert budget.wait(5.0) == 15.0
        assert budget.wait(20.0) == 0.0

    def test_a_window_begins_with_the_minute(self) -> None:
        assert next_window(120.0) == 60.0
        assert next_window(179.0) == 1.0


class TestCalls:
    async def test_counts_calls_and_declares_its_budget(self, far: Far, eni: str) -> None:
        before = counted("DescribeNetworkInterfaces", "OK")
        await far.ecs().enis("cn-hangzhou", [eni])
        assert counted("DescribeNetworkInterfaces", "OK") == before + 1
        budget = REGISTRY.get_sample_value("spiderpool_cloud_call_budget", {"action": "DescribeNetworkInterfaces"})
        assert budget == 800

    async def test_waits_out_a_short_throttling(self, far: Far, eni: str) -> None:
        far.account.set_fault(Fault(kind="throttle", every=2, seconds=0.2))
        ecs = far.ecs()
        for _ in range(3):
            await ecs.enis("cn-hangzhou", [eni])
        assert far.outcomes("ecs:DescribeNetworkInterfaces").count("OK") == 3
        assert far.outcomes("ecs:DescribeNetworkInterfaces").count("Throttling.User") == 2

    async def test_a_long_throttling_is_the_callers_to_plan_and_costs_no_calls(self, far: Far, eni: str) -> None:
        far.account.set_fault(Fault(kind="throttle", times=1, seconds=30))
        ecs = far.ecs()
        with pytest.raises(Throttled) as first:
            await ecs.enis("cn-hangzhou", [eni])
        assert first.value.retry_after == 30
        with pytest.raises(Throttled) as second:
            await ecs.enis("cn-hangzhou", [eni])
        assert 28 < second.value.retry_after <= 30
        assert far.outcomes("ecs:DescribeNetworkInterfaces") == ["Throttling.User"]
        await ecs.quota("cn-hangzhou", "ecs.g7.large")  # other actions go on

    @pytest.mark.parametrize("fault", [Fault(kind="drop", times=2), Fault(kind="refuse", times=2)])
    async def test_repeats_what_got_no_answer(self, far: Far, eni: str, fault: Fault) -> None:
        far.account.set_fault(fault)
        assert eni in await far.ecs().enis("cn-hangzhou", [eni])
        assert len(far.outcomes("ecs:DescribeNetworkInterfaces")) == 3

    async def test_gives_up_after_some_tries(self, far: Far, eni: str) -> None:
        far.account.set_fault(Fault(kind="drop"))
        with pytest.raises(CloudUnavailable, match="DescribeNetworkInterfaces got no answer from"):
            await far.ecs().enis("cn-hangzhou", [eni])
        assert len(far.account.calls) == 4

    async def test_a_lost_answer_assigns_once(self, far: Far, eni: str) -> None:
        far.account.set_fault(Fault(kind="lose", actions=ASSIGN, times=2))
        given = await far.ecs().assign("cn-hangzhou", eni, 4, 2)
        assert len(far.outcomes(ASSIGN)) == 3
        assert far.account.tables.enis.get(eni).secondaries == tuple(given)  # type: ignore[union-attr]

    async def test_after_giving_up_the_same_wish_is_the_same_request(self, far: Far, eni: str) -> None:
        number = far.account.set_fault(Fault(kind="lose", actions=ASSIGN))
        ecs = far.ecs()
        with pytest.raises(CloudUnavailable):
            await ecs.assign("cn-hangzhou", eni, 4, 2)
        far.account.faults.clear(number)
        given = await ecs.assign("cn-hangzhou", eni, 4, 2)
        assert far.account.tables.enis.get(eni).secondaries == tuple(given)  # type: ignore[union-attr]
        assert set(await ecs.assign("cn-hangzhou", eni, 4, 2)).isdisjoint(given)

    async def test_what_must_happen_once_is_not_repeated_without_a_token(self, far: Far, eni: str) -> None:
        far.account.set_fault(Fault(kind="drop"))
        sent = {"RegionId": "cn-hangzhou", "NetworkInterfaceId": eni, "SecondaryPrivateIpAddressCount": 1}
        with pytest.raises(CloudUnavailable):
            await far.caller().call("ecs", "2014-05-26", "AssignPrivateIpAddresses", sent)
        assert len(far.account.calls) == 1

    async def test_names_the_action_that_the_policy_lacks(self, far: Far, eni: str) -> None:
        far.allow("ecs:Describe*")
        with pytest.raises(NotPermitted) as refused:
            await far.ecs().assign("cn-hangzhou", eni, 4, 1)
        assert refused.value.action == "AssignPrivateIpAddresses"

    async def test_calls_of_one_action_stay_below_the_ceiling(self, far: Far, eni: str) -> None:
        caller = far.caller()
        budget = caller._budget("DescribeNetworkInterfaces", "cn-hangzhou")
        budget.ceiling = 2
        sent = {"RegionId": "cn-hangzhou"}
        calls = [caller.call("ecs", "2014-05-26", "DescribeNetworkInterfaces", sent) for _ in range(5)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in answers].count(Throttled) == 3
        assert len(far.account.calls) == 2


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
        self, far: Far, eni: str, fault: Fault, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(0)
        far.allow("*", key=KEY_ID, secret=SECRET)
        far.account.set_fault(fault)
        with pytest.raises(CloudError) as refused:
            await far.ecs().assign("cn-hangzhou", eni, 4, 1)
        chain: BaseException | None = refused.value
        said = "".join(capfd.readouterr()) + caplog.text
        while chain is not None:
            said += repr(chain) + str(chain) + str(vars(chain))
            chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
        assert SECRET not in said
        assert KEY_ID not in said

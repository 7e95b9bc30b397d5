"""A client that changes nothing and keeps what it was answered, and one that answers so again."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.cloud.alibaba.clb import SLB
from spiderpool.cloud.alibaba.credentials import Credentials, MountedSecret
from spiderpool.cloud.alibaba.ecs import ECS, ECSCloud
from spiderpool.cloud.alibaba.nlb import PRODUCT
from spiderpool.cloud.alibaba.recording import RecordingClient, ReplayingClient
from spiderpool.cloud.alibaba.trial_calls import ABSENT
from spiderpool.cloud.provider import CloudNotFound, CloudUnavailable, NotPermitted, Rejected
from spiderpool.cloud.verification import RecordedAnswer
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit


def recording(simulated: SimulatedCloud, *, without_dry_run: bool = False) -> RecordingClient:
    credentials = Credentials([MountedSecret(simulated.secret)])
    return RecordingClient(credentials, simulated.access, without_dry_run=without_dry_run)


async def test_what_could_change_something_is_not_sent(simulated: SimulatedCloud) -> None:
    client = recording(simulated)
    without_effect: list[dict[str, Any]] = [{"LoadBalancerId": "lb-1", "DryRun": each} for each in ("true", True)]
    for parameters in ({"LoadBalancerId": f"lb-{ABSENT}"}, *without_effect):  # this action ignores DryRun
        with pytest.raises(NotPermitted, match="slb:DeleteLoadBalancer was not sent"):
            await client.call(SLB, "DeleteLoadBalancer", parameters)
    consenting = recording(simulated, without_dry_run=True)
    with pytest.raises(NotPermitted, match="not sent"):
        await consenting.call(SLB, "CreateLoadBalancer", {"LoadBalancerName": ABSENT, "DryRun": True})
    with pytest.raises(NotPermitted, match="not sent"):
        await consenting.call(SLB, "DeleteLoadBalancer", {"LoadBalancerId": "lb-1"})
    assert simulated.account.calls == []
    with pytest.raises(CloudNotFound):
        await consenting.call(SLB, "DeleteLoadBalancer", {"RegionId": "cn-hangzhou", "LoadBalancerId": f"lb-{ABSENT}"})


async def test_answers_are_kept_and_given_again(simulated: SimulatedCloud) -> None:
    simulated.account.add_instance("a", identity="i-a")
    client = recording(simulated)
    asked = await ECSCloud(client).instances("cn-hangzhou", ["i-a"])
    with pytest.raises(Rejected) as refused:
        await client.call(PRODUCT, "DeleteLoadBalancer", {"LoadBalancerId": f"nlb-{ABSENT}", "DryRun": True})
    assert refused.value.cloud_code == "DryRunOperation"
    again = ReplayingClient(client.answers)
    assert await ECSCloud(again).instances("cn-hangzhou", ["i-a"]) == asked
    with pytest.raises(Rejected) as repeated:
        await again.call(PRODUCT, "DeleteLoadBalancer", {"LoadBalancerId": f"nlb-{ABSENT}", "DryRun": True})
    assert (repeated.value.cloud_code, repeated.value.message) == ("DryRunOperation", refused.value.message)
    with pytest.raises(CloudUnavailable, match="not among the recorded answers"):
        await again.call(ECS, "DescribeInstances", {"RegionId": "elsewhere"})


@pytest.mark.parametrize(
    "name", ["NotPermitted", "Throttled", "CloudConflict", "QuotaExceeded", "StillProcessing", "VSwitchFull"]
)
async def test_a_refusal_is_repeated_as_the_same_error(name: str) -> None:
    client = ReplayingClient([RecordedAnswer("ecs:DescribeInstances", {}, None, name, "Code", "said")])
    with pytest.raises(Exception, match="said") as refused:
        await client.call(ECS, "DescribeInstances", {})
    assert type(refused.value).__name__ == name

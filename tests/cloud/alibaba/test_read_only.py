"""A connection that only looks sends nothing that could change something."""

from __future__ import annotations

import re

import pytest

from spiderpool.cloud.alibaba import connection, policy
from spiderpool.cloud.alibaba.policy import is_reading
from spiderpool.cloud.alibaba.read_only import ReadOnlyClient
from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.loadbalancer.model import owner_of
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.errors import SpiderpoolError
from spiderpool.settings import CloudSettings
from tests.cloud.alibaba.balancers import HTTP, model
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.core.pretend_balancers import CONFIGURATION, service

pytestmark = pytest.mark.unit


def reading_client(simulated: SimulatedCloud) -> ReadOnlyClient:
    return connection.reading_client(
        CloudSettings(
            region=simulated.access.region,
            endpoint=simulated.access.override,
            authority=simulated.access.authority,
            secret=simulated.secret,
            credentials="secret",
        )
    )


async def test_it_looks_and_changes_nothing(simulated: SimulatedCloud) -> None:
    balancers = connection.load_balancers(reading_client(simulated), "cn-hangzhou", "").apis[CLB]
    assert await balancers.find(owner_of(service(HTTP), CONFIGURATION)) is None
    with pytest.raises(SpiderpoolError, match="CreateLoadBalancer was not sent: this command changes nothing"):
        await balancers.carry_out(plan(model(simulated, HTTP), None), None)
    assert {call.action for call in simulated.account.calls} == {"slb:DescribeLoadBalancers"}


def test_what_changes_something_is_known_by_its_name() -> None:
    """The official clients of the products have no action of these beginnings that changes anything of ours."""
    actions = {action for listed in policy.ACTIONS.values() for action in listed}
    changing = {action for action in actions if not is_reading(action)}
    verbs = {re.sub(r"(?<=[a-z])[A-Z].*", "", action.partition(":")[2]) for action in changing}
    assert not verbs & {"Describe", "List", "Get", "Query"}
    assert "slb:CreateLoadBalancer" in changing
    assert "nlb:GetJobStatus" not in changing

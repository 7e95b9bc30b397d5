"""What is said of an account that has all that spiderpool-cloud needs, and of one that lacks something."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.cloud.alibaba import connection
from spiderpool.cloud.alibaba.policy import ACTIONS, document, is_reading
from spiderpool.cloud.alibaba.trial_calls import NEVER
from spiderpool.cloud.provider import NotPermitted
from spiderpool.cloud.verification import CloudCheck, Verification, VerificationScope
from spiderpool.settings import CloudSettings
from spiderpool_lab.alibaba.faults import Fault
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit

SCOPE = VerificationScope("cn-hangzhou", "c1", tuple(ACTIONS), ("i-a", "i-b"), "vsw-1", 60)


def settings(simulated: SimulatedCloud) -> CloudSettings:
    return CloudSettings(
        region=simulated.access.region,
        endpoint=simulated.access.override,
        authority=simulated.access.authority,
        secret=simulated.secret,
        credentials="secret",
    )


async def verify(simulated: SimulatedCloud, scope: VerificationScope = SCOPE) -> Verification:
    before = str(simulated.account.tables)
    found = await connection.verify(settings(simulated), scope)
    assert str(simulated.account.tables) == before, "nothing is changed"
    return found


def by_name(found: Verification) -> dict[str, CloudCheck]:
    return {f"{each.subject} {each.name}": each for each in found.checks}


@pytest.fixture
def servers(simulated: SimulatedCloud) -> SimulatedCloud:
    """The account with the servers of two Nodes, whose keys may do what the printed policy allows, and no more."""
    for name in "ab":
        server = simulated.account.add_instance(name, identity=f"i-{name}").identity
        simulated.account.add_eni("vsw-1", instance=server)
    simulated.allow(*document(ACTIONS)["Statement"][0]["Action"])
    return simulated


async def test_an_account_that_has_everything(servers: SimulatedCloud) -> None:
    checks = by_name(await verify(servers))
    assert [each for each in checks.values() if each.result == "wrong"] == []
    untried = {each.name for each in checks.values() if each.result == "untried"}
    assert "slb:CreateLoadBalancer" in untried
    assert not any(is_reading(name) or name.startswith("nlb:") for name in untried)
    assert checks["region cn-hangzhou"].detail == "2 of 2 servers of Nodes are there"
    assert "secondary IPv4" in checks["quota ecs.g7.large"].detail
    assert checks["quota vsw-1"].detail.endswith(" free addresses")
    assert checks["balancers classic"].detail == "0 of cluster c1, which may have 60 in all"
    assert checks["permission nlb:CreateLoadBalancer"].detail == "would be carried out, by its dry run"
    assert {name for name in checks if name.startswith("endpoint")} == {
        "endpoint ecs",
        "endpoint vpc",
        "endpoint slb",
        "endpoint nlb",
    }


@pytest.mark.parametrize("feature", ACTIONS)
async def test_a_feature_needs_no_more_than_its_policy(servers: SimulatedCloud, feature: str) -> None:
    servers.allow(*document([feature])["Statement"][0]["Action"])
    checks = (await verify(servers, replace(SCOPE, features=(feature,)))).checks
    assert [each for each in checks if each.result == "wrong"] == []
    assert any(each.subject == "quota" for each in checks) is (feature == "addresses")


async def test_with_consent_all_is_tried_but_what_would_create_something(servers: SimulatedCloud) -> None:
    found = await verify(servers, replace(SCOPE, without_dry_run=True))
    wrong = [each for each in found.checks if each.result == "wrong"]
    assert wrong == []
    assert [each.name for each in found.checks if each.result == "untried"] == sorted(NEVER)


@pytest.mark.parametrize("action", ["slb:DescribeLoadBalancers", "nlb:CreateListener", "vpc:DescribeVSwitches"])
async def test_a_right_that_the_policy_lacks_is_named(servers: SimulatedCloud, action: str) -> None:
    allowed = document(ACTIONS)["Statement"][0]["Action"]
    servers.allow(*(each for each in allowed if each != action))
    check = by_name(await verify(servers))[f"permission {action}"]
    assert check.result == "wrong"
    assert f"allow the action {action.partition(':')[2]}" in check.detail


async def test_servers_of_another_region_are_named(servers: SimulatedCloud) -> None:
    check = by_name(await verify(servers, replace(SCOPE, servers=("i-a", "i-x"))))["region cn-hangzhou"]
    assert check.result == "wrong"
    assert check.detail.startswith("1 of 2 servers of Nodes are there; i-x are in another region or account")


async def test_an_endpoint_that_does_not_answer_is_wrong_and_its_permissions_are_untried(
    servers: SimulatedCloud,
) -> None:
    servers.account.faults.add(Fault(kind="refuse", actions="nlb:*", code="ServiceUnavailable", status=503))
    checks = by_name(await verify(servers))
    assert checks["endpoint nlb"].result == "wrong"
    assert checks["permission nlb:ListListeners"].result == "untried"
    assert checks["balancers network"].result == "wrong"
    assert checks["endpoint slb"].result == "ok"


async def test_keys_that_the_cloud_does_not_know_are_no_check(servers: SimulatedCloud) -> None:
    (servers.secret / "accessKeySecret").write_text("other")
    with pytest.raises(NotPermitted, match="correct the credentials"):
        await verify(servers)


async def test_recorded_answers_lead_to_the_same_checks(servers: SimulatedCloud) -> None:
    found = await verify(servers)
    calls = len(servers.account.calls)
    again = await connection.verify(CloudSettings(endpoint=servers.access.override), SCOPE, found.answers)
    assert again.checks == found.checks
    assert len(servers.account.calls) == calls


@pytest.mark.parametrize(
    ("code", "message", "result", "part"),
    [
        ("InvalidAction.NotFound", "no such action", "wrong", "the endpoint does not have this API"),
        ("OperationDenied.ServiceNotOpen", "not opened", "wrong", "open the product in the console"),
        ("MissingParam.ListenerId", "is missing", "untried", "is missing"),
        ("InvalidParameter", "The specified ListenerId does not exist.", "ok", "does not exist, as meant"),
        ("ResourceNotFound.listener", "gone", "ok", "does not exist, as meant"),
        ("OperationDenied.Other", "other", "ok", "answered OperationDenied.Other"),
    ],
)
async def test_a_refusal_is_judged_by_its_code(
    servers: SimulatedCloud, code: str, message: str, result: str, part: str
) -> None:
    refusal = Fault(kind="refuse", actions="nlb:DeleteListener", code=code, message=message, status=400)
    servers.account.faults.add(refusal)
    check = by_name(await verify(servers))["permission nlb:DeleteListener"]
    assert check.result == result
    assert part in check.detail


async def test_throttled_calls_leave_a_permission_untried(servers: SimulatedCloud) -> None:
    servers.account.faults.add(Fault(kind="throttle", actions="vpc:*", seconds=30.0))
    checks = by_name(await verify(servers))
    assert checks["permission vpc:DescribeVSwitches"].result == "untried"
    assert checks["quota vsw-1"].result == "wrong"


async def test_without_nodes_and_vswitch_these_are_not_looked_at(servers: SimulatedCloud) -> None:
    checks = by_name(await verify(servers, replace(SCOPE, servers=(), vswitch="", features=("nodes",))))
    assert checks["region cn-hangzhou"].result == "untried"
    assert not any(name.startswith(("quota", "balancers", "endpoint slb")) for name in checks)


async def test_what_cannot_be_read_is_wrong_with_the_words_of_the_cloud(servers: SimulatedCloud) -> None:
    denied = Fault(kind="refuse", actions="ecs:DescribeInstance*", code="Forbidden.RAM", message="denied", status=403)
    servers.account.faults.add(denied)
    checks = by_name(await verify(servers, replace(SCOPE, vswitch="vsw-none")))
    assert checks["region cn-hangzhou"].result == "wrong"
    assert "vSwitch vsw-none is not known" in checks["quota vsw-none"].detail

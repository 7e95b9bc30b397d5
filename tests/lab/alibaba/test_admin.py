"""The administration over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.admin import Admin

pytestmark = pytest.mark.unit


@pytest.fixture
async def admin(account: Account) -> AsyncIterator[aiohttp.ClientSession]:
    async with Admin(account).serve() as endpoint, aiohttp.ClientSession(endpoint.url) as session:
        yield session


async def send(session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with session.request(method, path, json=body) as answer:
        return answer.status, await answer.json() if answer.status == 200 else await answer.text()


async def test_faults_are_set_listed_and_cleared(account: Account, admin: aiohttp.ClientSession) -> None:
    assert await send(admin, "POST", "/faults", {"kind": "throttle", "every": 2}) == (200, {"number": 1})
    status, listed = await send(admin, "GET", "/faults")
    assert (status, listed["1"]["kind"], listed["1"]["every"]) == (200, "throttle", 2)
    assert await send(admin, "DELETE", "/faults/1") == (200, {"cleared": [1]})
    assert account.faults.listed() == {}
    for wrong in ({"kind": "explode"}, {"kind": "drop", "every": 0}, {"kind": "drop", "often": True}):
        assert (await send(admin, "POST", "/faults", wrong))[0] == 400


async def test_a_fault_that_is_not_set_is_not_cleared_without_a_word(admin: aiohttp.ClientSession) -> None:
    assert await send(admin, "DELETE", "/faults/99") == (404, "no fault is set")
    await send(admin, "POST", "/faults", {"kind": "drop"})
    assert await send(admin, "DELETE", "/faults/99") == (404, "there is no fault 99; set are 1")
    assert await send(admin, "DELETE", "/faults") == (200, {"cleared": [1]})
    assert await send(admin, "DELETE", "/faults") == (200, {"cleared": []})


@pytest.mark.parametrize("actions", ["*", "ecs:*", "slb:Describe*", "metadata:*", "metadata:network/*", "*:Describe*"])
async def test_a_fault_has_actions_that_there_are(admin: aiohttp.ClientSession, actions: str) -> None:
    assert await send(admin, "POST", "/faults", {"kind": "stale", "actions": actions}) == (200, {"number": 1})


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "drop", "actions": "nosuch:*"}, "there is no action nosuch:*: write metadata:*, or one of "),
        ({"kind": "stale", "actions": "ecs:Assign*"}, "there is no action that reads ecs:Assign*: "),
    ],
)
async def test_a_fault_that_no_call_can_match_is_refused_with_the_actions_that_there_are(
    admin: aiohttp.ClientSession, fault: dict[str, str], words: str
) -> None:
    status, text = await send(admin, "POST", "/faults", fault)
    assert status == 400
    assert text.startswith(words)
    assert "ecs:DescribeInstances" in text
    assert ("ecs:AssignPrivateIpAddresses" in text) == (fault["kind"] == "drop")


async def test_vswitches_and_instances(account: Account, admin: aiohttp.ClientSession) -> None:
    await send(admin, "PUT", "/vswitches/vsw-0/full")
    assert account.free_address_count(account.vswitch("vsw-0")) == 0
    await send(admin, "DELETE", "/vswitches/vsw-0/full")
    assert account.free_address_count(account.vswitch("vsw-0")) > 0
    await send(admin, "DELETE", "/instances/i-worker")
    assert "i-worker" not in account.tables.instances
    assert (await send(admin, "DELETE", "/instances/i-worker"))[0] == 404
    assert (await send(admin, "PUT", "/vswitches/none/full"))[0] == 404


async def test_state_and_calls_without_a_secret(account: Account, admin: aiohttp.ClientSession) -> None:
    identity = account.add_identity()
    status, state = await send(admin, "GET", "/state")
    assert (status, [item["identity"] for item in state["instances"]]) == (200, ["i-master", "i-worker"])
    assert identity.secret not in str(state)
    assert await send(admin, "GET", "/calls") == (200, {"counts": {}, "last": []})

# mypy: disable-error-code="import-untyped"
"""The checks before an action is executed: signature, policy, limits, parameters, client token, faults."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException, ThrottlingException

from spiderpool_lab.alibaba import signature
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.openapi import OpenAPI
from spiderpool_lab.alibaba.serving import ServedEndpoint
from tests.lab.alibaba.conftest import Clients, Clock
from tests.lab.alibaba.test_ecs import enis, refused

pytestmark = pytest.mark.unit

ASSIGN = {"NetworkInterfaceId": "eni-master-0", "SecondaryPrivateIpAddressCount": 1}


async def test_https_with_the_authority_that_is_handed_out(account: Account, tmp_path: Path) -> None:
    async with OpenAPI(account).serve() as endpoint:
        assert endpoint.ca is not None
        ca = tmp_path / "ca.pem"
        ca.write_bytes(endpoint.ca)
        assert len(await enis(Clients(endpoint, account.add_identity(), str(ca)))) == 4


async def test_a_wrong_secret_is_refused(account: Account, clients: Clients) -> None:
    clients.identity = CallerIdentity("x", clients.identity.key, "wrong")
    assert await refused(clients, "ecs", "DescribeInstances") == "SignatureDoesNotMatch"
    clients.identity = CallerIdentity("x", "LTAInone", "wrong")
    assert await refused(clients, "ecs", "DescribeInstances") == "InvalidAccessKeyId.NotFound"


async def test_temporary_credentials_need_their_token_and_end(account: Account, clients: Clients) -> None:
    clients.identity = account.issue_credentials("node", lifetime=3600)
    assert len(await enis(clients)) == 4
    whole = clients.identity
    clients.identity = CallerIdentity("node", whole.key, whole.secret)
    assert await refused(clients, "ecs", "DescribeInstances") == "MissingSecurityToken"
    clients.identity = CallerIdentity("node", whole.key, whole.secret, token="other")
    assert await refused(clients, "ecs", "DescribeInstances") == "InvalidSecurityToken.MismatchWithAccessKey"
    account.identities[whole.key] = CallerIdentity("node", whole.key, whole.secret, token=whole.token, expires=1.0)
    clients.identity = whole
    assert await refused(clients, "ecs", "DescribeInstances") == "InvalidSecurityToken.Expired"


async def test_an_action_outside_the_policy_is_forbidden(account: Account, clients: Clients) -> None:
    clients.identity = account.add_identity("reader", allowed=["ecs:Describe*"])
    assert len(await enis(clients)) == 4
    assert await refused(clients, "ecs", "AssignPrivateIpAddresses", **ASSIGN) == "Forbidden.RAM"


def rpc(identity: CallerIdentity, **more: str) -> dict[str, str]:
    parameters = {
        "Action": "DescribeNetworkInterfaces",
        "Version": "2014-05-26",
        "RegionId": "cn-hangzhou",
        "AccessKeyId": identity.key,
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": str(time.monotonic_ns()),
        "Timestamp": moment(time.time()),
        "Format": "JSON",
        **more,
    }
    text = signature.rpc_text("GET", parameters)
    return {**parameters, "Signature": signature.rpc_signature(identity.secret, text)}


def moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def get(endpoint: ServedEndpoint, parameters: dict[str, str]) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{endpoint.url}/?{urlencode(parameters)}") as answer:
        body: dict[str, Any] = await answer.json()
        return body


async def test_the_older_signature_is_understood(account: Account, endpoint: ServedEndpoint) -> None:
    identity = account.add_identity()
    answer = await get(endpoint, rpc(identity, InstanceId="i-master"))
    assert len(answer["NetworkInterfaceSets"]["NetworkInterfaceSet"]) == 2
    answer = await get(endpoint, {**rpc(identity), "InstanceId": "i-master"})
    assert answer["Code"] == "SignatureDoesNotMatch"


async def test_a_refusal_has_the_shape_of_the_real_one(account: Account, endpoint: ServedEndpoint) -> None:
    answer = await get(endpoint, {**rpc(account.add_identity()), "Timestamp": moment(0)})
    assert answer.keys() == {"RequestId", "HostId", "Code", "Message", "Recommend"}
    assert answer["Code"] == "InvalidTimeStamp.Expired"


async def test_a_call_is_good_once(account: Account, endpoint: ServedEndpoint) -> None:
    parameters = rpc(account.add_identity())
    assert "Code" not in await get(endpoint, parameters)
    assert (await get(endpoint, parameters))["Code"] == "SignatureNonceUsed"


async def test_unknown_actions_and_unsigned_calls(account: Account, endpoint: ServedEndpoint) -> None:
    identity = account.add_identity()
    assert (await get(endpoint, rpc(identity, Action="DeleteEverything")))["Code"] == "InvalidAction.NotFound"
    assert (await get(endpoint, rpc(identity, Version="2000-01-01")))["Code"] == "InvalidAction.NotFound"
    assert (await get(endpoint, {"Action": "DescribeInstances"}))["Code"] == "MissingParameter"


async def test_parameters_are_checked(account: Account, clients: Clients, endpoint: ServedEndpoint) -> None:
    assert await refused(clients, "ecs", "AssignPrivateIpAddresses") == "MissingParameter"
    assert await refused(clients, "ecs", "DescribeNetworkInterfaces", Type="Third") == "InvalidParameter"
    assert await refused(clients, "ecs", "DescribeInstances", RegionId="mars-1") == "InvalidRegionId.NotFound"
    assert (await get(endpoint, rpc(account.add_identity(), Instanceid="i")))["Code"] == "InvalidParameter"


async def test_a_client_token_makes_a_call_happen_once(account: Account, clients: Clients) -> None:
    first = await clients.call("ecs", "AssignPrivateIpAddresses", **ASSIGN, ClientToken="t1")
    second = await clients.call("ecs", "AssignPrivateIpAddresses", **ASSIGN, ClientToken="t1")
    assert first["AssignedPrivateIpAddressesSet"] == second["AssignedPrivateIpAddressesSet"]
    other = {**ASSIGN, "NetworkInterfaceId": "eni-worker-0"}
    assert await refused(clients, "ecs", "AssignPrivateIpAddresses", **other, ClientToken="t1") == "IdempotentFailed"


async def test_every_second_call_is_throttled(account: Account, clients: Clients) -> None:
    account.set_fault(Fault(kind="throttle", actions="ecs:Describe*", every=2, seconds=1.5))
    await enis(clients)
    with pytest.raises(ThrottlingException) as caught:
        await enis(clients)
    assert (caught.value.code, caught.value.retry_after) == ("Throttling.User", 1500)
    await enis(clients)


async def test_a_limit_counts_in_minutes(account: Account, clients: Clients) -> None:
    clock = Clock(time.time() // 60 * 60 + 10)
    account.clock = clock
    account.limits["ecs:DescribeInstances"] = 2
    for _ in range(2):
        await clients.call("ecs", "DescribeInstances")
    with pytest.raises(ThrottlingException) as caught:
        await clients.call("ecs", "DescribeInstances")
    assert caught.value.retry_after == 50_000
    clock.now += 50
    await clients.call("ecs", "DescribeInstances")


async def test_a_dropped_call_does_nothing_and_a_lost_one_was_carried_out(account: Account, clients: Clients) -> None:
    for kind, assigned in (("drop", 0), ("lose", 1)):
        account.faults.add(Fault(kind=kind, times=1))  # type: ignore[arg-type]
        with pytest.raises(Exception, match=r"disconnected|reset|closed"):
            await clients.call("ecs", "AssignPrivateIpAddresses", **ASSIGN, ClientToken="t")
        eni = account.tables.enis.get("eni-master-0")
        assert eni is not None
        assert len(eni.secondaries) == assigned
    await clients.call("ecs", "AssignPrivateIpAddresses", **ASSIGN, ClientToken="t")
    assert account.call_counts()["ecs:AssignPrivateIpAddresses"] == 3
    assert [call.outcome for call in account.calls] == ["Dropped", "Dropped", "OK"]


async def test_stale_and_empty_answers(account: Account, clients: Clients) -> None:
    stale = account.set_fault(Fault(kind="stale", actions="ecs:DescribeNetworkInterfaces"))
    await clients.call("ecs", "AssignPrivateIpAddresses", **ASSIGN)
    assert len((await enis(clients))[0]["PrivateIpSets"]["PrivateIpSet"]) == 1
    account.faults.clear(stale)
    assert len((await enis(clients))[0]["PrivateIpSets"]["PrivateIpSet"]) == 2
    account.set_fault(Fault(kind="empty"))
    assert await enis(clients) == []
    await clients.call("ecs", "AssignPrivateIpAddresses", **ASSIGN)


async def test_a_refusal_of_any_kind(account: Account, clients: Clients) -> None:
    account.set_fault(Fault(kind="refuse", code="ServiceUnavailable", status=503, times=1))
    with pytest.raises(AlibabaCloudException) as caught:
        await enis(clients)
    assert (caught.value.code, caught.value.status_code) == ("ServiceUnavailable", 503)
    await enis(clients)


async def test_a_late_answer(account: Account, clients: Clients) -> None:
    account.set_fault(Fault(kind="delay", seconds=0.2, times=1))
    before = time.monotonic()
    await enis(clients)
    assert time.monotonic() - before >= 0.2


async def test_every_call_is_written_down(account: Account, clients: Clients) -> None:
    await enis(clients, InstanceId="i-master")
    await refused(clients, "ecs", "DeleteNetworkInterface", NetworkInterfaceId="eni-none")
    written = [(call.action, call.identity, call.outcome) for call in account.calls]
    assert written == [
        ("ecs:DescribeNetworkInterfaces", "cloud", "OK"),
        ("ecs:DeleteNetworkInterface", "cloud", "InvalidEniId.NotFound"),
    ]
    assert account.calls[0].parameters["InstanceId"] == "i-master"

"""What `spiderpoolctl ip release` believes, and what it leaves behind when it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import Node, NodeCondition, NodeSpec, NodeStatus, Pod, Taint
from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli import addresses
from spiderpool.cli.doctor.fix import mend
from spiderpool.cli.finding import Finding
from spiderpool.core.ipam.evidence import OUT_OF_SERVICE
from spiderpool.errors import ApiUnavailable, Refused
from spiderpool.kube.node_accounts import TRIES
from tests.support.answering_agent import AnsweringAgent, answering, sandbox
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

ADDRESS = "10.0.0.5"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """An API server with a node that is not ready, of which somebody says that it is stopped."""
    async with ApiServer(Node.KIND, Pod.KIND, SpiderIP.KIND, SpiderNode.KIND) as server:
        spec, conditions = NodeSpec(taints=[Taint(OUT_OF_SERVICE)]), [NodeCondition("Ready", "Unknown")]
        server.put(Node(metadata=ObjectMeta(name="n1"), spec=spec, status=NodeStatus(conditions)))
        record = IPSpec(f"{ADDRESS}/16", "p", "n1", "default", "a", "uid-of-a", "eth0")
        server.put(SpiderIP(metadata=ObjectMeta(name=ADDRESS, annotations={"theirs": "x"}), spec=record))
        yield server


@pytest.fixture
async def agent(server: ApiServer) -> AsyncIterator[AnsweringAgent]:
    """The agent of the node."""
    async with server.client() as client, answering(client, server.stored(Node)["n1"]) as agent:
        yield agent


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "TIMEOUT", 1.0)
    monkeypatch.setattr(addresses, "INTERVAL", 0.02)


async def release(server: ApiServer) -> str:
    async with server.client() as client:
        return await addresses.release(client, ADDRESS)


def notes(server: ApiServer) -> dict[str, str] | None:
    return server.stored(SpiderIP)[ADDRESS].metadata.annotations


@pytest.mark.parametrize("kept", [False, True])
async def test_a_record_that_was_not_judged_stays(server: ApiServer, agent: AnsweringAgent, *, kept: bool) -> None:
    """`doctor --fix` has judged one record, and another one of the address, or an owner of it, may be there by now."""
    stored = server.stored(SpiderIP)[ADDRESS]
    uid = stored.metadata.uid or ""
    if kept:
        owned = replace(stored.spec, owner=IPOwner("StatefulSet", "default", "db"))
        server.put(replace(stored, spec=owned))
    finding = Finding("record-leaked", "", "", release=ADDRESS, release_uid=uid if kept else "former")
    async with server.client() as client:
        (outcome,) = await mend(client, [finding])
        assert (outcome.done, ADDRESS in server.stored(SpiderIP)) == (False, True)
        said = "StatefulSet default/db keeps it by now" if kept else "its SpiderIP is another one by now"
        assert said in outcome.text
    assert notes(server) == {"theirs": "x"}


async def test_a_record_that_was_judged_goes(server: ApiServer, agent: AnsweringAgent) -> None:
    uid = server.stored(SpiderIP)[ADDRESS].metadata.uid
    async with server.client() as client:
        (outcome,) = await mend(client, [Finding("record-leaked", "", "", release=ADDRESS, release_uid=uid)])
    assert (outcome.done, server.stored(SpiderIP)) == (True, {})


async def test_a_record_that_says_nothing_is_released_by_its_name(server: ApiServer, agent: AnsweringAgent) -> None:
    stored = server.stored(SpiderIP)[ADDRESS]
    server.put(replace(stored, spec=replace(stored.spec, address="nonsense")))
    await release(server)
    assert server.stored(SpiderIP) == {}


async def test_an_answer_from_before_the_mark_says_nothing(server: ApiServer, agent: AnsweringAgent) -> None:
    """A pod that begins now would get the record as it is. Nor is the node stopped, since its agent answers."""
    agent.behind = True
    with pytest.raises(Refused, match="the agent of node n1 has not seen its SpiderIP yet"):
        await release(server)
    assert notes(server) == {"theirs": "x"}
    agent.behind = False
    assert "no sandbox of node n1 has it" in await release(server)
    assert server.stored(SpiderIP) == {}


async def test_an_agent_that_answers_is_believed_against_a_statement(server: ApiServer, agent: AnsweringAgent) -> None:
    agent.sandboxes = [sandbox("uid-of-a", "a")]
    with pytest.raises(Refused, match="still runs"):
        await release(server)
    assert notes(server) == {"theirs": "x"}
    agent.silent = True
    assert OUT_OF_SERVICE in await release(server)


async def test_an_agent_that_could_not_be_asked_is_not_silent(server: ApiServer, agent: AnsweringAgent) -> None:
    """It publishes all the time, so it runs, whatever somebody says of its node."""
    await eventually(lambda: server.stored(SpiderNode)["n1"].status, "its first account")
    server.inject(Fault("patch"), Fault("patch", times=TRIES, status=409))  # the mark, and the questions
    with pytest.raises(Refused, match="has not said what its sandboxes hold"):
        await release(server)
    assert notes(server) == {"theirs": "x"}


async def test_a_release_that_fails_takes_its_mark_away(server: ApiServer, agent: AnsweringAgent) -> None:
    server.inject(Fault("delete", times=10, lose_request=True))
    with pytest.raises(ApiUnavailable):
        await release(server)
    assert notes(server) == {"theirs": "x"}


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_record_that_somebody_else_has_deleted_or_changed_meanwhile(
    server: ApiServer, agent: AnsweringAgent, is_deleted: bool
) -> None:
    server.inject(Fault("delete", delay=0.3))
    releasing = asyncio.create_task(release(server))
    await eventually(lambda: server.requests["delete"] > 0)
    record = server.stored(SpiderIP)[ADDRESS]
    if is_deleted:
        server.remove(record)
    else:
        server.put(replace(record, metadata=replace(record.metadata, labels={"a": "b"})))
    said = "was released by somebody else meanwhile" if is_deleted else "its SpiderIP has changed meanwhile"
    with pytest.raises(Refused, match=said):
        await releasing
    if not is_deleted:
        assert notes(server) == {"theirs": "x"}

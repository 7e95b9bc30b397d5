"""Releases one address by hand, if no sandbox has it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import RELEASE_ANNOTATION, SpiderIP
from spiderpool.api.meta import revision
from spiderpool.api.spidernode import NodeAccount
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.evidence import AccountRequest, AddressUse, NodeEvidence, use_of, why_stopped
from spiderpool.errors import BadRequest, Refused, SpiderpoolError
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.node_accounts import read_evidence, request_account

TIMEOUT = 10.0
"""Seconds for each request, and for the answer of a node."""
IPV6_DASHES = 7
"""Dashes in the name of the SpiderIP of an IPv6 address."""
QUESTIONS = 5
"""Times that a node is asked whose agent has not seen the record yet that is to be deleted."""
INTERVAL = 0.2
"""Seconds between two looks for the answer of a node."""


async def release(client: Client, address: str, uid: str | None = None) -> str:
    """Delete the record of an address; a sentence about it. With ``uid`` that record alone, and not while it is kept.

    Raises Refused while a sandbox has the address or may get it, or while a node that could say so does not answer;
    BadRequest for what is no address, and errors of the API, among them Conflict when the record changes before it is
    marked.
    """
    record = await client.find(SpiderIP, _name(address), timeout=TIMEOUT)
    if record is None:
        raise Refused(f"{address} has no SpiderIP: no pod has it")
    if uid is not None and (reason := _why_another(record, uid)):
        raise Refused(f"{address} is not released: {reason}")
    if not record.spec.node:
        by_hand = f"kubectl annotate spiderip {record.name} {RELEASE_ANNOTATION}={record.metadata.uid}, then delete it"
        raise Refused(
            f"SpiderIP {record.name} names no node that could say whether a sandbox has it; if none: {by_hand}"
        )
    marked = await _mark(client, record)
    try:
        reasons = [await _why_unused(client, marked, node) for node in await _nodes(client, marked)]
        await _delete(client, marked)
    except BaseException:
        await _unmark(client, marked)
        raise
    pod = f"{record.spec.namespace}/{record.spec.pod}"
    return f"{record.spec.address} of pod {pod} is released: {'; '.join(reasons)}"


def _why_another(record: SpiderIP, uid: str) -> str | None:
    """Why a record is not the one that somebody has found to be left over; None when it is."""
    if record.metadata.uid != uid:
        return f"its SpiderIP is another one by now, of pod {record.spec.namespace}/{record.spec.pod}"
    if (owner := record.spec.owner) is not None:
        return f"{owner.kind} {owner.namespace}/{owner.name} keeps it by now"
    return None


async def _mark(client: Client, record: SpiderIP) -> SpiderIP:
    """Mark a record before anybody is asked. Raises Conflict when it has changed.

    An agent that has seen the mark before it says that no sandbox has the address writes the record anew before it
    grants it. So a pod that begins after the answer makes the deletion a Conflict.
    """
    meta = record.metadata
    body = {"metadata": {"resourceVersion": meta.resourceVersion, "annotations": {RELEASE_ANNOTATION: meta.uid}}}
    return await client.patch(SpiderIP, record.name, body, timeout=TIMEOUT)


async def _delete(client: Client, marked: SpiderIP) -> None:
    """Delete the version of a record that was marked. Raises Refused when it has changed or is gone."""
    meta = marked.metadata
    try:
        await client.delete(SpiderIP, marked.name, uid=meta.uid, resourceVersion=meta.resourceVersion, timeout=TIMEOUT)
    except (Conflict, NotFound) as error:
        found = await client.find(SpiderIP, marked.name, timeout=TIMEOUT)
        if found is not None and found.metadata.uid == meta.uid:
            what = "its SpiderIP has changed" if found.marked else "a pod has got it"
            raise Refused(f"{marked.spec.address} is not released: {what} meanwhile") from error
        raise Refused(f"{marked.spec.address} was released by somebody else meanwhile") from error


async def _unmark(client: Client, marked: SpiderIP) -> None:
    """Take the mark away, if the record still is there; where that fails, the next pod's ADD does."""
    body = {"metadata": {"uid": marked.metadata.uid, "annotations": {RELEASE_ANNOTATION: None}}}
    with suppress(SpiderpoolError):
        await client.patch(SpiderIP, marked.name, body, timeout=TIMEOUT)


def _name(address: str) -> str:
    """The name of the SpiderIP of an address; a name of a SpiderIP stands for itself."""
    if address.count("-") == IPV6_DASHES:
        return address
    try:
        return object_name(address)
    except ValueError as error:
        raise BadRequest(f"{address!r} is no IP address; write it without prefix length, as 172.31.199.187") from error


async def _nodes(client: Client, record: SpiderIP) -> list[str]:
    """The nodes on which a sandbox may have the address: that of the record, that of the pod, and former ones."""
    pod = await client.find(Pod, record.spec.pod, record.spec.namespace, timeout=TIMEOUT)
    there = pod.spec.nodeName if pod is not None and pod.metadata.uid == record.spec.podUID else None
    former = (each.node for each in record.spec.movedFrom or ())
    return list(dict.fromkeys(filter(None, (record.spec.node, there, *former))))


async def _why_unused(client: Client, record: SpiderIP, name: str) -> str:
    """Why no sandbox of a node has a record's address. Raises Refused when one has, or when nobody says so."""
    began = asyncio.get_running_loop().time()
    evidence = await _evidence(client, record, name)
    use, reason = use_of(record, evidence, began)
    if use is AddressUse.FREE and evidence.node and not _has_seen(evidence.answer(began), record, name):
        raise Refused(f"{record.spec.address} is not released: the agent of node {name} has not seen its SpiderIP yet")
    if use is AddressUse.FREE:
        return reason
    stopped = why_stopped(evidence.node, evidence.account) if evidence.node else None
    is_silent = evidence.account is None or evidence.request is not None  # else its agent published all the time
    if use is AddressUse.UNKNOWN and stopped and is_silent:
        return stopped
    remedy = "" if use is AddressUse.IN_USE else f"; if the node is lost: spiderpoolctl node fence {name}"
    raise Refused(f"{record.spec.address} is not released: {reason}{remedy}")


async def _evidence(client: Client, record: SpiderIP, name: str) -> NodeEvidence:
    """The evidence of a node after it was asked; again while its agent answers that has not seen the record yet."""
    evidence = await read_evidence(client, name, None, timeout=TIMEOUT)
    for _ in range(QUESTIONS):
        if evidence.account is None:
            break
        sent = await request_account(client, evidence.account, timeout=TIMEOUT)
        if sent is None:
            break
        evidence = await _answered(client, name, sent[0])
        answer = evidence.answer(sent[0].sent)
        if answer is None or _has_seen(answer, record, name):
            break
        await asyncio.sleep(INTERVAL)
    return evidence


def _has_seen(answer: NodeAccount | None, record: SpiderIP, name: str) -> bool:
    """Whether a node's agent had seen this version of a record before it answered, where it is a record of that node.

    Agents do not watch the records of other nodes: they read them, and write them before they grant them. So it is with
    records that say nothing of any address, which no cache has.
    """
    if record.defect():
        return True
    if name != record.spec.node:
        return True
    return answer is not None and revision(answer.recordVersion) >= revision(record.metadata.resourceVersion)


async def _answered(client: Client, name: str, request: AccountRequest) -> NodeEvidence:
    """The evidence of a node after it was asked, as soon as it has answered, or after TIMEOUT."""
    end = asyncio.get_running_loop().time() + TIMEOUT
    while True:
        evidence = await read_evidence(client, name, request, timeout=TIMEOUT)
        known = evidence.account
        if known is None or request.is_answered(known) or asyncio.get_running_loop().time() > end:
            return evidence
        await asyncio.sleep(INTERVAL)

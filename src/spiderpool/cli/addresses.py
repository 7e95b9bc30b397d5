"""Releases one address by hand, if no sandbox has it."""

from __future__ import annotations

import asyncio

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import RELEASE_ANNOTATION, SpiderIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.evidence import AddressUse, NodeEvidence, use_of, why_stopped
from spiderpool.errors import BadRequest, Refused
from spiderpool.kube.client import Client
from spiderpool.kube.node_accounts import read_evidence, request_account

TIMEOUT = 10.0
"""Seconds for each request, and for the answer of a node."""
IPV6_DASHES = 7
"""Dashes in the name of the SpiderIP of an IPv6 address."""
INTERVAL = 0.2
"""Seconds between two looks for the answer of a node."""


async def release(client: Client, address: str) -> str:
    """Delete the record of an address; a sentence about it.

    Raises Refused while a sandbox has the address, or while a node that could say so does not answer; BadRequest for
    what is no address, and errors of the API, among them Conflict when the record changes meanwhile.
    """
    record = await client.find(SpiderIP, _name(address), timeout=TIMEOUT)
    if record is None:
        raise Refused(f"{address} has no SpiderIP: no pod has it")
    if not record.spec.node:
        by_hand = f"kubectl annotate spiderip {record.name} {RELEASE_ANNOTATION}={record.metadata.uid}, then delete it"
        raise Refused(
            f"SpiderIP {record.name} names no node that could say whether a sandbox has it; if none: {by_hand}"
        )
    reasons = [await _why_unused(client, record, node) for node in await _nodes(client, record)]
    meta = record.metadata
    note = {"resourceVersion": meta.resourceVersion, "annotations": {RELEASE_ANNOTATION: meta.uid}}
    noted = await client.patch(SpiderIP, record.name, {"metadata": note}, timeout=TIMEOUT)
    version = noted.metadata.resourceVersion
    await client.delete(SpiderIP, record.name, uid=meta.uid, resourceVersion=version, timeout=TIMEOUT)
    pod = f"{record.spec.namespace}/{record.spec.pod}"
    return f"{record.spec.address} of pod {pod} is released: {'; '.join(reasons)}"


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
    evidence = await read_evidence(client, name, None, timeout=TIMEOUT)
    use, reason = use_of(record, evidence, began)
    if use is AddressUse.UNKNOWN and evidence.account is not None:
        evidence = await _answered(client, evidence.account)
        use, reason = use_of(record, evidence, began)
    if use is AddressUse.FREE:
        return reason
    stopped = why_stopped(evidence.node, evidence.account) if evidence.node else None
    if use is AddressUse.UNKNOWN and stopped:
        return stopped
    remedy = "" if use is AddressUse.IN_USE else f"; if the node is lost: spiderpoolctl node fence {name}"
    raise Refused(f"{record.spec.address} is not released: {reason}{remedy}")


async def _answered(client: Client, account: SpiderNode) -> NodeEvidence:
    """The evidence of a node after it was asked, as soon as it has answered, or after TIMEOUT."""
    sent = await request_account(client, account, timeout=TIMEOUT)
    request = sent[0] if sent else None
    end = asyncio.get_running_loop().time() + TIMEOUT
    while True:
        evidence = await read_evidence(client, account.name, request, timeout=TIMEOUT)
        known = evidence.account
        if request is None or known is None or request.is_answered(known) or asyncio.get_running_loop().time() > end:
            return evidence
        await asyncio.sleep(INTERVAL)

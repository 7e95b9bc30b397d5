"""Waits until the former pod of an owner does not use the owner's address any more, on whatever node that was."""

from __future__ import annotations

import asyncio

from spiderpool.agent.sandboxes import NodeSandboxes
from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import FormerPod, SpiderIP
from spiderpool.api.spidernode import NodeAccount, SpiderNode
from spiderpool.core.ipam import takeover
from spiderpool.core.ipam.allocation import as_held_by
from spiderpool.core.ipam.evidence import AccountRequest, NodeEvidence, sandbox_text, sandbox_using, why_stopped
from spiderpool.core.ipam.selection import AllocationRequest
from spiderpool.errors import Refused
from spiderpool.kube.client import Client
from spiderpool.kube.node_accounts import request_account

PATIENCE = 5.0
"""Seconds that an ADD waits for the end of the former sandbox; its DEL is seldom older than its pod's end."""
POLL = 0.5
"""Seconds between two looks."""
ANSWER_TIME = 30.0
"""Seconds that a node has to answer before it is believed that it is stopped; longer than one ADD waits."""
READ_TIMEOUT = 5.0
"""Seconds for one read of an object."""


class TakeOvers:
    """The take-overs of one node's pods.

    A node that was asked and has not answered after ``answer_time`` (seconds) counts as stopped if somebody who may
    know says so, and where time is evidence (``by_time``) in any case.
    """

    def __init__(
        self,
        client: Client,
        node: str,
        sandboxes: NodeSandboxes,
        *,
        answer_time: float = ANSWER_TIME,
        by_time: bool = False,
    ) -> None:
        self._client = client
        self._node = node
        self._sandboxes = sandboxes
        self._answer_time = answer_time
        self._by_time = by_time
        self._requests: dict[str, AccountRequest] = {}  # node → the last question that was sent to it

    async def until_given_up(self, record: SpiderIP, request: AllocationRequest) -> None:
        """Return once no sandbox of another pod has the address of its record. Raises Refused, or ApiUnavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while (reason := await self.why_not(record, but_for=request.pod_uid)) is not None:
            if loop.time() >= deadline:
                raise Refused(f"{request} waits for {record.spec.address}, which {reason}")
            await asyncio.sleep(POLL)

    async def why_not(self, record: SpiderIP, *, but_for: str = "") -> str | None:
        """Why a sandbox may have the address of a record now; None when none has, but for those of one pod (a UID).

        Raises errors of the API.
        """
        there = self._why_not_here if record.spec.node == self._node else self._why_not_there
        return await there(record) or await self.why_not_moved(record, but_for=but_for)

    async def why_not_moved(self, record: SpiderIP, *, but_for: str = "") -> str | None:
        """As `why_not`, of the pods alone from which the record's virtual machine was to move."""
        for former in record.spec.movedFrom or ():
            if former.podUID != but_for and (reason := await self._why_not_there(as_held_by(record, former))):
                return reason
        return None

    async def still_moving(self, record: SpiderIP) -> tuple[FormerPod, ...]:
        """The pods from which the record's virtual machine was to move and that may still have its address."""
        moved = record.spec.movedFrom or ()
        return tuple([each for each in moved if await self._why_not_there(as_held_by(record, each))])

    async def _why_not_here(self, record: SpiderIP) -> str | None:
        """By the files and the kernel of this node."""
        former = await self._sandboxes.of_pod(record.spec.podUID)
        sandbox = sandbox_using(NodeAccount(sandboxes=former), record)
        return f"{sandbox_text(sandbox)} on this node still has; it gets it when that has ended" if sandbox else None

    async def _why_not_there(self, record: SpiderIP) -> str | None:
        """By the account of the record's node, and what is known of the Node where the account is not enough."""
        name = record.spec.node
        account = await self._client.find(SpiderNode, name, timeout=READ_TIMEOUT)
        if takeover.is_given_up(record, account.status if account else None):
            return None
        node = await self._client.find(Node, name, timeout=READ_TIMEOUT)
        if node is None:
            self._requests.pop(name, None)
        reason = takeover.why_not_given_up(record, account, node)
        if reason is None:
            return None
        may_be_stopped = self._by_time or (node is not None and why_stopped(node, account) is not None)
        if may_be_stopped and await self._is_silent(name, account):
            return None
        return f"{reason}; {takeover.REMEDIES.format(node=name)}"

    async def _is_silent(self, name: str, account: SpiderNode | None) -> bool:
        """Whether a node that was asked has not answered in time, or cannot be asked; asks it if need be."""
        last, now = self._requests.get(name), asyncio.get_running_loop().time()
        if account is None or NodeEvidence(name, None, account, last).is_silent(0.0, now, self._answer_time):
            return True
        if last is not None and last.uid == account.metadata.uid and now - last.sent < self._answer_time:
            return False
        sent = await request_account(self._client, account, timeout=READ_TIMEOUT)  # also again: answers get old
        if sent is not None:
            self._requests[name] = sent[0]
        return False

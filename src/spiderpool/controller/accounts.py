"""Asks nodes what their sandboxes hold, and tells when one does not answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Node
from spiderpool.api.spidernode import SpiderNode
from spiderpool.core.ipam.evidence import AccountRequest, NodeEvidence, is_disproved
from spiderpool.core.ipam.gc import ReleaseCandidate, pod_key
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.events import Recorder, Reminders
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_accounts import read_evidence, request_account
from spiderpool.telemetry import COLLECTION_WAITING, logger

READ_TIMEOUT = 10.0
"""Seconds for each request."""
NAMED = 3
"""Addresses that an Event names; of the others it gives the number."""
REMEDY = (
    "if the node is lost, delete its Node, give it the taint node.kubernetes.io/out-of-service, or run "
    "`spiderpoolctl node fence {name}`"
)
"""What frees the addresses of a node whose agent does not answer."""

log = logger("accounts")


class NodeAccounts:
    """The evidence of each node, and the questions that were sent to it: one at a time, for all who wait for it."""

    def __init__(self, client: Client, nodes: Informer[Node], accounts: Informer[SpiderNode]) -> None:
        self._client = client
        self._nodes = nodes
        self._accounts = accounts
        self._requests: dict[str, AccountRequest] = {}  # node → the last question that was sent to it

    def get(self, name: str, /) -> NodeEvidence:
        """The evidence of a node as the caches have it."""
        return NodeEvidence(name, self._nodes.get(name), self._accounts.get(name), self._requests.get(name))

    async def read(self, name: str) -> NodeEvidence:
        """The evidence of a node by fresh reads. Raises SpiderpoolError."""
        return await read_evidence(self._client, name, self._requests.get(name), timeout=READ_TIMEOUT)

    async def request(self, name: str, since: float) -> None:
        """Have a node asked at ``since`` or later, unless an earlier question waits for its answer.

        Raises SpiderpoolError. Changes of the account that the node publishes meanwhile are no reason to give up.
        """
        account, known = self._accounts.get(name), self._requests.get(name)
        if account is None:
            return
        same = known is not None and known.uid == account.metadata.uid
        if same and known is not None and (known.sent >= since or not known.is_answered(account)):
            return
        sent = await request_account(self._client, account, timeout=READ_TIMEOUT)
        if sent is not None:
            self._requests[name], stored = sent
            self._accounts.note(stored)
            log.info("node asked for its account", node=name, generation=sent[0].generation)

    def disproved_fences(self) -> dict[str, SpiderNode]:
        """The SpiderNodes with a fence that is wrong, by node, as the caches have them."""
        return {each.name: each for each in self._accounts.items() if is_disproved(self._nodes.get(each.name), each)}

    async def lift_fence(self, account: SpiderNode) -> None:
        """Take back the fence of a SpiderNode, if a fresh read of its Node disproves it. Raises SpiderpoolError."""
        node = await self._client.find(Node, account.name, timeout=READ_TIMEOUT)
        if not is_disproved(node, account):
            return
        body = {"metadata": {"resourceVersion": account.metadata.resourceVersion}, "spec": {"fencedBootID": None}}
        with suppress(Conflict, NotFound):  # the next check sees how it has changed
            self._accounts.note(await self._client.patch(SpiderNode, account.name, body, timeout=READ_TIMEOUT))
            log.warning("fence taken back: the boot that it was about is ready", node=account.name)

    def retain(self, names: Collection[str]) -> None:
        """Forget the questions to all nodes but these."""
        self._requests = {name: request for name, request in self._requests.items() if name in names}


class SilenceReport:
    """Says by an Event on the Node which addresses wait for a node that does not answer, and again while they do."""

    def __init__(self, recorder: Recorder, nodes: Informer[Node]) -> None:
        self._recorder = recorder
        self._nodes = nodes
        self._silent: set[str] = set()  # nodes that the last update had
        self._reminders: Reminders[str] = Reminders()  # of nodes

    def update(self, waiting: Mapping[str, Sequence[ReleaseCandidate]], now: float) -> None:
        """Report what waits now, by node; ``now`` in seconds. A node that is no longer among them is soon told anew."""
        COLLECTION_WAITING.set(len({each.record.name for candidates in waiting.values() for each in candidates}))
        self._reminders.retain(waiting)
        for name in waiting.keys() - self._silent:
            log.warning("node does not answer", node=name, addresses=len(waiting[name]))
        self._silent = set(waiting)
        for name in waiting:
            if (node := self._nodes.get(name)) is None or not self._reminders.due(name, now):
                continue
            text = f"{_addresses(waiting[name])} wait for the agent of this node to say what its sandboxes hold"
            if self._recorder.event(node, event_reasons.ACCOUNT_MISSING, f"{text}; {REMEDY.format(name=name)}"):
                self._reminders.note(name, now)


def _addresses(candidates: Sequence[ReleaseCandidate]) -> str:
    """The first addresses, with their pods, and how many there are beside."""
    named = [f"{each.record.spec.address} of {pod_key(each.record)}" for each in candidates[:NAMED]]
    rest = len(candidates) - len(named)
    return "addresses " + ", ".join(named) + (f" and {rest} more" if rest else "")

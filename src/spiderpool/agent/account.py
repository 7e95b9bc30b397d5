"""Publishes the account of this node: a SpiderNode whose status says what the node's sandboxes really hold.

Nobody waits for it. What calls have changed is read half a second later, all of it when the controller asks (it raises
``metadata.generation`` by changing the spec) and once a minute, and only what is new is written, at most once a second.

A sandbox has its file before its pod is granted an address, and a pod that begins to be granted one while an account is
being taken is added to it. So a pod that an account lacks gets nothing without `must_confirm` having said so first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.sandboxes import NodeSandboxes, SandboxOnFile
from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import revision
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, ObservedPool, SpiderNode
from spiderpool.errors import BadConfig, is_bug
from spiderpool.kube.client import AlreadyExists, Client
from spiderpool.kube.informer import Informer
from spiderpool.telemetry import ACCOUNT_WRITES, logger

DEBOUNCE = 0.5
"""Seconds between a change and the account that has it: changes that come together are written together."""
SPACING = 1.0
"""Seconds between two writes at least."""
PERIOD = 60.0
"""Seconds after which everything is read again, for what no call has told."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries at most; the first pause is SPACING, and each failure doubles it."""
MOST_CHANGES = 10_000
"""Changed sandboxes that are remembered while nothing can be published; beyond that everything is read again."""
FIRST_LIST = 5.0
"""Seconds that one try waits for the first look at the own SpiderNode."""

log = logger("account")


class AccountPublisher:
    """The account of one node. ``boot_id`` is that of the node's present boot, ``clock`` has the seconds since 1970."""

    def __init__(
        self,
        client: Client,
        cluster: ClusterCache,
        sandboxes: NodeSandboxes,
        boot_id: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._clock = clock
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._boot_id = boot_id
        self._node = cluster.node_name
        self._own = Informer(client, SpiderNode, fields=f"metadata.name={self._node}", optional=True)
        self._wake = asyncio.Event()  # set when there may be something to write
        self._requested = asyncio.Event()  # set when the controller asks
        self._readings: dict[str, NodeSandbox | None] = {}  # container ID → what was seen last; None: it is gone
        self._changed: set[str] = set()  # container IDs that must be read again
        # Container ID → sandbox of an ADD that has begun since the account that is being taken; None: none is
        self._begun: dict[str, SandboxOnFile] | None = None
        self._stored: list[NodeSandbox] | None = None  # as the API server has them from us; None: unknown
        self._is_writing = False  # then an event may show our own write before its answer
        self._next_full = 0.0  # time of the event loop's clock from which everything is read again
        self._record_version = 0  # newest SpiderIP of this node that was ever cached
        self._named: frozenset[str] | None = None  # UIDs in every account that may be the published one; None: unknown
        self._absent: set[str] = set()  # UIDs of holders that an answer did not name and that were not seen alive since
        self._readers: list[Callable[[list[NodeSandbox]], None]] = []
        cluster.records.informer.subscribe(self._record_changed)
        cluster.nodes.subscribe(self._node_changed)
        cluster.subscribe_to_pools(self._pool_changed)
        self._own.subscribe(self._own_changed)

    # --- told by ADD and DEL

    def begin(self, sandbox: SandboxOnFile) -> None:
        """Tell that a sandbox has its file now, and is about to be granted addresses."""
        if self._begun is not None:
            self._begun[sandbox.target.container_id] = sandbox

    def change(self, container_id: str) -> None:
        """Tell that something may have changed in a sandbox."""
        if len(self._changed) >= MOST_CHANGES:
            self._changed.clear()
            self._next_full = 0.0
        self._changed.add(container_id)
        self._wake.set()

    def must_confirm(self, record: SpiderIP) -> bool:
        """Whether somebody may judge by an account that the pod of a record has no sandbox.

        Then the pod must be seen alive, by a fresh read, before it goes on to use what it holds; see `confirmed`.
        """
        if self._named is None:
            return True
        uid = record.spec.podUID
        return uid in self._absent or (record.spec.owner is not None and uid not in self._named)

    def confirmed(self, pod_uid: str) -> None:
        """Tell that a pod was seen alive: whoever has judged before that it has gone, has judged another one."""
        self._absent.discard(pod_uid)

    # --- told to others

    def subscribe(self, reader: Callable[[list[NodeSandbox]], None]) -> None:
        """Call ``reader`` with all sandboxes each time that all have been read."""
        self._readers.append(reader)

    def sandboxes(self) -> list[NodeSandbox]:
        """All sandboxes as they were seen last."""
        return [each for each in self._readings.values() if each is not None]

    # --- the publishing

    async def run(self) -> None:
        """Publish until cancelled. The caches must be filled before."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._own.run())
            group.create_task(self._keep_published())

    async def _keep_published(self) -> None:
        pause = SPACING
        while True:
            try:
                await self._publish()
                pause = SPACING
                failed = False
            except Exception as error:  # also a bug: the next account may be right
                log.warning("account not published", error=str(error), pause=pause, exc_info=is_bug(error))
                self._wake.set()
                failed = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE) if failed else pause
            await self._until_due()

    async def _until_due(self) -> None:
        """Wait for a change, half a second longer for what comes with it, or for a request, which does not wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PERIOD):
                await self._wake.wait()
        if not self._requested.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(DEBOUNCE):
                    await self._requested.wait()
        self._wake.clear()
        self._requested.clear()

    async def _publish(self) -> None:
        """Take an account and write it, if there is something new in it or somebody waits for it."""
        await self._own.synced(FIRST_LIST)
        node = self._cluster.nodes.get(self._node)
        if node is None:
            return  # without its Node the account would be deleted at once
        stored = self._own.get(self._node) or await self._create(node)
        now = asyncio.get_running_loop().time()
        whole = not stored.answered or now >= self._next_full
        account = await self._take(stored, whole=whole)
        if not stored.answered or _differs(account, stored.status):
            await self._write(stored, account)
        else:
            self._stored = stored.sandboxes
        if whole:
            self._next_full = now + PERIOD
            for reader in self._readers:
                reader(self.sandboxes())

    async def _create(self, node: Node) -> SpiderNode:
        try:
            made = await self._client.create(SpiderNode.of(node))
        except AlreadyExists:
            made = await self._client.get(SpiderNode, self._node)
        self._own.note(made)
        return made

    async def _take(self, stored: SpiderNode, *, whole: bool) -> NodeAccount:
        """The account as of now; what it says of time and order is from before the first reading.

        One that is not ``whole`` is taken only while the last question has its answer, by a whole one: so both name it.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        version, moment = self._newest_seen(), now.strftime("%Y-%m-%dT%H:%M:%SZ")
        begun = self._begun = {}
        try:
            await self._read(whole=whole)
        finally:
            self._begun = None
        seen = self.sandboxes()
        named = {each.containerID for each in seen}
        late = (each.seen(None) for container, each in begun.items() if container not in named)
        sandboxes = sorted((*seen, *late), key=lambda each: (each.namespace, each.pod, each.containerID))
        pools = self._of_enis(self._cluster.pools())
        return NodeAccount(stored.metadata.generation or 0, moment, self._boot_id, str(version), sandboxes, pools)

    async def _read(self, *, whole: bool) -> None:
        """Read all sandboxes, or those that have changed and new ones."""
        changed, self._changed = self._changed, set()
        try:
            on_file = self._sandboxes.on_file()
            known = {} if whole else {name: one for name, one in self._readings.items() if name not in changed}
            chosen = [each for name, each in on_file.items() if name not in known]
            read = await self._sandboxes.read(chosen)
        except BaseException:
            self._changed |= changed
            raise
        kept = {name: one for name, one in known.items() if name in on_file}
        gone = {each.target.container_id: None for each in chosen}
        self._readings = {**kept, **gone, **{each.containerID: each for each in read}}

    async def _write(self, stored: SpiderNode, account: NodeAccount) -> None:
        """Write the account. What it does not name is noted first: it counts as soon as somebody may read it."""
        named = frozenset(each.podUID for each in account.sandboxes or ())
        # Once the controller has asked, each account answers it: it judges by the newest one.
        if self._named is None or stored.spec.accountRequest is not None:
            holders = self._holders()
            self._absent = (self._absent & holders) | (holders - named)
        self._named = self._named and named & self._named
        body = {"metadata": {"uid": stored.metadata.uid}, "status": msgspec.to_builtins(account)}
        ACCOUNT_WRITES.inc()
        self._is_writing = True
        try:
            written = await self._client.patch(SpiderNode, self._node, body, sub="status")
        finally:
            self._is_writing = False
        self._stored = written.sandboxes
        self._own.note(written)
        self._named = named
        if written.metadata.generation == account.observedGeneration and not written.answered:
            raise BadConfig("the API server drops status.observedGeneration: apply the CRDs of this version")

    def _holders(self) -> set[str]:
        """UIDs of the pods that hold records of this node."""
        records = self._cluster.records.informer.items()
        return {record.spec.podUID for record in records if not record.spec.releasedAt}

    # --- changes of objects

    def _own_changed(self, _: SpiderNode | None, new: SpiderNode | None) -> None:
        if new is None:
            self._wake.set()
        elif not new.answered:
            self._requested.set()
            self._wake.set()
        elif self._stored is not None and not self._is_writing and new.sandboxes != self._stored:
            self._next_full = 0.0  # somebody else has written: a person, or the agent before or after this one
            self._wake.set()

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is not None and (old is None or old.metadata.uid != new.metadata.uid):
            self._wake.set()

    def _pool_changed(self, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if self._of_enis((old,) if old else ()) != self._of_enis((new,) if new else ()):
            self._wake.set()

    def _of_enis(self, pools: Iterable[SpiderIPPool]) -> list[ObservedPool]:
        """Those of pools that were made from ENIs of this node, by name."""
        found = (
            ObservedPool(pool.name, pool.metadata.generation or 0)
            for pool in pools
            if pool.eni is not None and self._node in (pool.spec.nodeName or ())
        )
        return sorted(found, key=lambda each: each.name)

    def _newest_seen(self) -> int:
        """The version of which, and of earlier ones, no record of this node was missed.

        Also of those that have gone to another node since, which a list no longer has.
        """
        return max(self._record_version, revision(self._cluster.records.informer.listed_version))

    def _record_changed(self, _: SpiderIP | None, new: SpiderIP | None) -> None:
        if new is not None:
            self._record_version = max(self._record_version, revision(new.metadata.resourceVersion))


def _differs(account: NodeAccount, published: NodeAccount | None) -> bool:
    """Whether an account says what the published one does not, but for the time."""
    fields = ("sandboxes", "bootID", "recordVersion", "pools")
    return published is None or any(getattr(account, name) != getattr(published, name) for name in fields)

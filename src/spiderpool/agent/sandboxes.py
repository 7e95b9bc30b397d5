"""The sandboxes of this node whose pods have addresses: which there are by the agent's files, what the kernel shows.

Nothing here is derived from SpiderIPs, so that these can be judged by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from spiderpool.agent.attachment_store import AttachmentStore, SandboxRecord
from spiderpool.agent.containers import Containers, PodContainers
from spiderpool.api.cni import PodArgs
from spiderpool.api.nad import NetworkStatusEntry
from spiderpool.api.spidernode import NodeSandbox, SandboxInterface
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.kernel.sandboxes import Readings, read_namespaces

NOBODY = PodArgs("", "", "")
"""The pod of a sandbox whose file does not name it."""


@dataclass(frozen=True, slots=True)
class SandboxOnFile:
    """A sandbox that the agent has given addresses, or is about to."""

    pod: PodArgs
    """By the UID by which it holds addresses."""
    target: SandboxTarget
    """Its network namespace is empty where no call has told it."""
    interfaces: frozenset[str] = frozenset()
    """The interfaces that are given addresses; programs in the pod may make others."""
    status: tuple[NetworkStatusEntry, ...] = ()
    """What the pod is told of its networks."""
    attached_at: float = 0.0
    """When its last ADD began, in seconds since the node's start."""

    def seen(self, interfaces: list[SandboxInterface] | None) -> NodeSandbox:
        """Its entry in the account of the node."""
        networks = list(self.status) or None
        return NodeSandbox(
            self.pod.uid, self.pod.namespace, self.pod.name, self.target.container_id, interfaces, networks
        )


class NodeSandboxes:
    """The sandboxes of one node.

    ``attached`` are those that the agent attaches, ``chained`` those for which it only coordinates, ``addressed`` those
    for which it only gives addresses. ``read`` reads the kernel.
    """

    def __init__(
        self,
        attached: AttachmentStore,
        chained: AttachmentStore,
        addressed: Containers,
        read: Callable[[Collection[str]], Awaitable[Readings]] = read_namespaces,
    ) -> None:
        self._attached = attached
        self._chained = chained
        self._addressed = addressed
        self._read = read

    def on_file(self) -> dict[str, SandboxOnFile]:
        """All sandboxes, also those that are gone, by container ID.

        Raises IOFailure, also for a file that cannot be parsed: without it the account would not be whole.
        """
        chained = {each.container_id: each for each in self._chained.all()}
        addressed = (each for pod in self._addressed.all(strict=True) for each in _addressed(pod, chained))
        attached = _status_of_last(map(on_file, self._attached.all(strict=True)))
        return {each.target.container_id: each for each in (*addressed, *attached)}

    async def read(self, chosen: Collection[SandboxOnFile]) -> list[NodeSandbox]:
        """What the kernel shows of some sandboxes now, without those that are gone. Raises KernelFailure."""
        readings = await self._read([each.target.netns for each in chosen if each.target.netns])
        return [
            each.seen(readings.get(each.target.netns))
            for each in chosen
            if not each.target.netns or each.target.netns in readings
        ]

    def interfaces(self) -> dict[str, frozenset[str]]:
        """The interfaces of each sandbox that are given addresses, by container ID. Raises IOFailure."""
        return {container: each.interfaces for container, each in self.on_file().items()}

    async def of_pod(self, pod_uid: str) -> list[NodeSandbox]:
        """What the kernel shows now of all sandboxes of a pod. Raises KernelFailure or IOFailure."""
        return await self.read([each for each in self.on_file().values() if each.pod.uid == pod_uid])


def on_file(record: SandboxRecord) -> SandboxOnFile:
    """A sandbox that the agent attaches."""
    pod = record.pod or NOBODY
    uid = record.pod_uid or pod.uid
    names = frozenset(each.name for each in record.interfaces)
    args, target = PodArgs(pod.namespace, pod.name, uid), SandboxTarget(record.container_id, record.netns)
    return SandboxOnFile(args, target, names, record.status, record.attached_at)


def _status_of_last(sandboxes: Iterable[SandboxOnFile]) -> list[SandboxOnFile]:
    """Sandboxes of which a pod is told only of its last one; the runtime removes former ones late."""
    listed = list(sandboxes)
    last: dict[str, SandboxOnFile] = {}
    for each in listed:
        if each.pod.uid not in last or each.attached_at > last[each.pod.uid].attached_at:
            last[each.pod.uid] = each
    return [each if each is last[each.pod.uid] else replace(each, status=()) for each in listed]


def _addressed(pod: PodContainers, chained: dict[str, SandboxRecord]) -> Iterator[SandboxOnFile]:
    """A pod's sandboxes that others attach; what its file lacks may be known from the call for their coordination."""
    for container in set(pod.by_interface.values()):
        coordinated = chained.get(container)
        named = (coordinated.pod if coordinated else None) or NOBODY
        args = PodArgs(pod.namespace or named.namespace, pod.pod or named.name, pod.pod_uid)
        netns = pod.netns.get(container) or (coordinated.netns if coordinated else "")
        names = frozenset(name for name, each in pod.by_interface.items() if each == container)
        yield SandboxOnFile(args, SandboxTarget(container, netns), names)

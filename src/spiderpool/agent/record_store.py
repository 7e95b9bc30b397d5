"""The protocol by which the allocator reads and writes SpiderIP records; `kube.records.NodeRecords` implements it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import FormerPod, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam.allocation import family
from spiderpool.core.ipam.candidates import RequestKey
from spiderpool.core.ipam.selection import AllocationRequest

Holder = tuple[str, str]
"""Who holds an address: pod UID and interface."""


class RecordStore(Protocol):
    """SpiderIP records: those of this node from a cache, those of other nodes by reads from the API server.

    Every write goes to the API server and changes the cache at once. ``timeout`` is in seconds; ApiUnavailable
    means that the outcome of a call is unknown.
    """

    node: str
    """The name of this node."""

    def of(self, pod_uid: str, interface: str) -> list[SpiderIP]:
        """Cached records that one interface of a pod holds, in the order in which they were written."""

    def of_pod(self, pod_uid: str) -> list[SpiderIP]:
        """Cached records that a pod holds, in the order in which they were written."""

    def released(self) -> list[SpiderIP]:
        """Cached records of this node that are in their cooldown."""

    def addresses(self, pool: str) -> Collection[int]:
        """Addresses of a pool that have a cached record of this node."""

    async def create(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Create a record. Raises AlreadyExists when the address has one."""

    async def replace(self, record: SpiderIP, *, timeout: float) -> SpiderIP:
        """Replace the version of a record that was read. Raises Conflict or NotFound when it has changed."""

    async def delete(self, record: SpiderIP, *, timeout: float) -> None:
        """Delete the version of a record that was read. Raises Conflict when it has changed."""

    async def get(self, name: str, *, timeout: float) -> SpiderIP | None:
        """A record, read from the API server."""

    def adopt(self, record: SpiderIP) -> None:
        """Cache a record of this node that a fresh read found."""

    def forget(self, record: SpiderIP) -> None:
        """Drop a cached record that a fresh read did not find, or found on another node."""

    async def of_owner(self, label: str, *, timeout: float) -> list[SpiderIP]:
        """The records of a sticky owner, on any node, read from the API server."""

    async def labelled(self, label: str | None, *, timeout: float) -> list[SpiderIP]:
        """All records whose label names a pool so, or that have no such label (None), read from the API server."""


@dataclass(frozen=True, slots=True)
class ClusterReads:
    """What is read from the API server before a record that somebody may need is given to somebody else, or ended."""

    is_needed: Callable[[SpiderIP], Awaitable[bool]]
    """Whether the sticky owner of a record still needs it though its pod is gone."""
    is_held: Callable[[SpiderIP], Awaitable[bool]]
    """Whether the pod that a record names exists, has not finished, and holds the record."""
    until_given_up: Callable[[SpiderIP, AllocationRequest], Awaitable[None]]
    """Returns once no sandbox of the record's pod has its address, so that the pod of a request may take it over.

    Raises Refused, with what ends the wait.
    """
    why_not_given_up: Callable[[SpiderIP], Awaitable[str | None]]
    """Why a sandbox of the record's pod may still have its address, as of now; None when none has."""
    why_not_moved: Callable[[SpiderIP], Awaitable[str | None]]
    """As ``why_not_given_up``, of the pods alone from which the record's virtual machine was to move."""
    still_moving: Callable[[SpiderIP], Awaitable[tuple[FormerPod, ...]]]
    """The pods from which the record's virtual machine was to move and that may still have its address."""
    pool: Callable[[str], Awaitable[SpiderIPPool | None]]
    """A pool by name, also one that this node may not use; None when it does not exist."""
    node: Callable[[str], Awaitable[Node | None]]
    """A Node by name; None when it does not exist."""


def holder_of(record: SpiderIP) -> Holder | None:
    """Who holds a record; None once it is released."""
    return None if record.spec.releasedAt else (record.spec.podUID, record.spec.interface)


def is_same_holding(one: SpiderIP, other: SpiderIP) -> bool:
    """Whether two versions of a record are the same object with the same holder."""
    return (one.metadata.uid, holder_of(one)) == (other.metadata.uid, holder_of(other))


def request_key(record: SpiderIP) -> RequestKey:
    """The (interface, family) for which a record is held: the key of the request that it answers."""
    return record.spec.interface, family(record)

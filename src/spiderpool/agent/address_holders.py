"""Who has which addresses on this node: by its SpiderIPs, and by the files of sandboxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from ipaddress import ip_interface

from spiderpool.agent.attachment_store import AttachmentStore, SandboxRecord
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.failures import noted
from spiderpool.core.network.plumbing.values import Address


class AddressHolders:
    """The holders of the addresses of one node. ``stores`` hold its sandboxes."""

    def __init__(self, cluster: ClusterCache, stores: Sequence[AttachmentStore]) -> None:
        self._cluster = cluster
        self._stores = stores

    def granted(self, pod_uid: str, interface: str) -> frozenset[Address]:
        """The addresses that Spiderpool has given to a pod's interface."""
        records = self._cluster.records.of(pod_uid, interface) if pod_uid else ()
        return frozenset(ip_interface(each.spec.address).ip for each in records)

    def snapshot(self) -> HeldAddresses:
        """What all pods of the node have at the first question; reads every file, so make one for many questions."""
        return HeldAddresses(self._holders)

    def _holders(self) -> Iterator[tuple[Address, _Holder]]:
        for record in self._cluster.records.informer.items():
            spec = record.spec
            if not spec.releasedAt:
                yield ip_interface(spec.address).ip, _Holder((spec.namespace, spec.pod), pod_uid=spec.podUID)
        for store in self._stores:
            for sandbox in store.all():
                with noted([]):  # a file that cannot be understood keeps nobody else from being attached
                    pod = (sandbox.pod.namespace, sandbox.pod.name) if sandbox.pod else None
                    is_gone = partial(store.is_gone, sandbox)
                    holder = _Holder(pod, sandbox.container_id, attached_at=sandbox.attached_at, is_gone=is_gone)
                    yield from [(address, holder) for each in sandbox.interfaces for address in each.given]


class HeldAddresses:
    """The addresses of a node's pods at one moment. ``read`` yields addresses and who has them."""

    def __init__(self, read: Callable[[], Iterator[tuple[Address, _Holder]]]) -> None:
        self._read = read

    def taken(self, addresses: Iterable[Address], pod_uid: str, sandbox: SandboxRecord) -> dict[Address, str]:
        """Those of ``addresses`` that other pods had before a sandbox was attached → the pod, in words.

        Not every runtime tells the UID of a pod, so one of the same name is none of the others.
        """
        found: dict[Address, str] = {}
        for address in addresses:
            for holder in self._holders.get(address, ()):
                with noted([]):  # as where files are read: the path of a namespace may be any text
                    if holder.precedes(pod_uid, sandbox):
                        found[address] = holder.words
        return found

    @cached_property
    def _holders(self) -> dict[Address, list[_Holder]]:
        holders: dict[Address, list[_Holder]] = {}
        for address, holder in self._read():
            holders.setdefault(address, []).append(holder)
        return holders


@dataclass(frozen=True, slots=True)
class _Holder:
    """A pod, as (Namespace, name) if it is known, that has an address: by a SpiderIP or by the file of a sandbox."""

    pod: tuple[str, str] | None
    container_id: str = ""
    pod_uid: str = ""
    attached_at: float = 0.0
    is_gone: Callable[[], bool] = lambda: False

    @property
    def words(self) -> str:
        return "pod {}/{}".format(*self.pod) if self.pod else "another sandbox"

    def precedes(self, pod_uid: str, sandbox: SandboxRecord) -> bool:
        """Whether it is another pod than that of a sandbox, and has had the address longer."""
        own = (sandbox.pod.namespace, sandbox.pod.name) if sandbox.pod else None
        if self.attached_at > sandbox.attached_at or (own and own == self.pod):
            return False
        is_same = self.container_id == sandbox.container_id if self.container_id else self.pod_uid == pod_uid
        return not is_same and not self.is_gone()

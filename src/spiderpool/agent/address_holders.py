"""Who has which addresses on this node: by its SpiderIPs, and by the files of sandboxes."""

from __future__ import annotations

from collections.abc import Sequence
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

    def taken(self, pod_uid: str, sandbox: SandboxRecord) -> dict[Address, str]:
        """Addresses that other pods of the node had before a sandbox was attached → the pod, in words.

        Not every runtime tells the UID of a pod, so one of the same name is none of the others.
        """
        held = [each.spec for each in self._cluster.records.informer.items() if not each.spec.releasedAt]
        own = (sandbox.pod.namespace, sandbox.pod.name) if sandbox.pod else None
        found = {
            ip_interface(each.address).ip: f"pod {each.namespace}/{each.pod}"
            for each in held
            if each.podUID != pod_uid and (each.namespace, each.pod) != own
        }
        for store in self._stores:
            for other in store.all():
                with noted([]):  # a file that cannot be understood keeps nobody else from being attached
                    if _is_earlier(other, sandbox) and not store.is_gone(other):
                        words = f"pod {other.pod.namespace}/{other.pod.name}" if other.pod else "another sandbox"
                        found |= {address: words for each in other.interfaces for address in each.given}
        return found


def _is_earlier(other: SandboxRecord, sandbox: SandboxRecord) -> bool:
    """Whether another sandbox, not of the same pod, was attached earlier."""
    if other.container_id == sandbox.container_id or other.attached_at > sandbox.attached_at:
        return False
    if other.pod is None or sandbox.pod is None:
        return True
    return (other.pod.namespace, other.pod.name) != (sandbox.pod.namespace, sandbox.pod.name)

"""Decides what Spiderpool's own agent, in Go, has to find when it gets nodes back: what pods got meanwhile.

What it wrote itself has not been touched, so for pods that run since before there is nothing to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.meta import FORMER_FINALIZER, ObjectMeta
from spiderpool.core.ipam.allocation import address_text
from spiderpool.core.ipam.endpoints import PoolLister, endpoint
from spiderpool.core.ipam.go_records import endpoint_addresses
from spiderpool.core.ipam.owners import MACHINE_INSTANCE, Controller


def go_endpoint(
    pod: Pod, records: Iterable[SpiderIP], pools: PoolLister, top: Controller | None
) -> SpiderEndpoint | None:
    """The SpiderEndpoint of a pod as the agent in Go writes it; None for a pod that holds nothing.

    That of a fixed address outlives its pod, and has the name of its virtual machine.
    """
    held = [each for each in records if each.spec.releasedAt is None]
    made = endpoint(pod, held, pools, top)
    if made is None:
        return None
    owner = next((each.spec.owner for each in held if each.spec.owner), None)
    name = owner.name if owner and owner.kind == MACHINE_INSTANCE else pod.name
    references = None if owner else made.metadata.ownerReferences
    metadata = replace(made.metadata, name=name, finalizers=[FORMER_FINALIZER], ownerReferences=references)
    status = made.status
    if status and owner:
        status = replace(status, ownerControllerType=owner.kind, ownerControllerName=owner.name)
    return replace(made, metadata=metadata, status=status)


def kept_endpoint(records: Sequence[SpiderIP], pools: PoolLister) -> SpiderEndpoint | None:
    """The SpiderEndpoint of the fixed addresses of one pod that is gone, by which its successor gets them again."""
    spec = records[0].spec
    metadata = ObjectMeta(name=spec.pod, namespace=spec.namespace, uid=spec.podUID)
    return go_endpoint(Pod(metadata=metadata, spec=PodSpec(nodeName=spec.node)), records, pools, None)


def is_complete(stored: SpiderEndpoint | None, records: Iterable[SpiderIP]) -> bool:
    """Whether a stored SpiderEndpoint names all that a pod holds, so that it may stay as it is."""
    if stored is None or stored.terminating:
        return False
    named = {(each.uid, each.interface, each.address) for each in endpoint_addresses([stored])[0]}
    held = (each for each in records if each.spec.releasedAt is None)
    return named >= {(each.spec.podUID, each.spec.interface, address_text(each)) for each in held}

"""Free addresses as extended resources: their names and quantities, and the parts of Pod and Node that hold them.

Of all resources only ours are kept when an object is decoded: a cluster has very many pods, and each names others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from spiderpool.api.core_v1 import Node, NodeStatus, Pod, PodSpec

DOMAIN = "addresses.spidernet.io"
"""Domain of the resources' names. What follows is the network, or stands for a list of pools."""
SUFFIXES = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
"""By which the API server shortens whole quantities."""


def is_ours(resource: str) -> bool:
    """Whether a resource stands for free addresses."""
    return resource.startswith(f"{DOMAIN}/")


def whole(quantity: str) -> int:
    """A quantity as an integer; 0 for what is none, which the API server admits of no extended resource."""
    factor = SUFFIXES.get(quantity[-1:], 1)
    digits = quantity[:-1] if factor > 1 else quantity
    return int(digits) * factor if digits.isascii() and digits.isdigit() else 0


def _ours(quantities: dict[str, str] | None) -> dict[str, str] | None:
    return {name: text for name, text in (quantities or {}).items() if is_ours(name)} or None


class RequestedResources(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 ResourceRequirements, in part."""

    requests: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self.requests = _ours(self.requests)


class RequestingContainer(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 Container, in part."""

    resources: RequestedResources = msgspec.field(default_factory=RequestedResources)


class RequestingPodSpec(PodSpec, omit_defaults=True, gc=False):
    """core/v1 PodSpec with the containers that request addresses."""

    containers: list[RequestingContainer] | None = None
    initContainers: list[RequestingContainer] | None = None

    def __post_init__(self) -> None:
        self.containers = _requesting(self.containers)
        self.initContainers = _requesting(self.initContainers)


class RequestingPod(Pod, kw_only=True):
    """core/v1 Pod with what it requests of our resources."""

    spec: RequestingPodSpec = msgspec.field(default_factory=RequestingPodSpec)

    @property
    def address_requests(self) -> Mapping[str, int]:
        """How many of each resource the scheduler reserves for the pod: all containers run at once, after the others.

        An init container that goes on (a sidecar) is counted as one that ends.
        """
        needed: Counter[str] = Counter()
        for container in self.spec.containers or ():
            needed.update(_whole(container))
        for container in self.spec.initContainers or ():
            needed |= Counter(_whole(container))
        return needed


class AdvertisedStatus(NodeStatus, omit_defaults=True, gc=False):
    """core/v1 NodeStatus with our resources."""

    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self.capacity, self.allocatable = _ours(self.capacity), _ours(self.allocatable)


class AdvertisingNode(Node, kw_only=True):
    """core/v1 Node with our resources."""

    status: AdvertisedStatus = msgspec.field(default_factory=AdvertisedStatus)


def _requesting(containers: Iterable[RequestingContainer] | None) -> list[RequestingContainer] | None:
    return [each for each in containers or () if each.resources.requests] or None


def _whole(container: RequestingContainer) -> dict[str, int]:
    return {name: whole(text) for name, text in (container.resources.requests or {}).items()}

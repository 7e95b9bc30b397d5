"""Free addresses as extended resources: their names and quantities, and the parts of Pod and Node that hold them.

Of all resources only ours are kept when an object is decoded: a cluster has very many pods, and each names others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal

import msgspec

from spiderpool.api.core_v1 import Node, NodeStatus, Pod, PodSpec

DOMAIN = "addresses.spidernet.io"
"""Domain of the resources' names. What follows is the network, or stands for a list of pools."""
OTHERS = f"{DOMAIN}/"
"""Stands for the resources of a pod beyond `MOST_NAMES`; no resource has this name."""
MOST_NAMES = 34
"""Resources of a pod whose names are kept: one for each interface that it may have, and the node's first."""
LARGEST = 2**63 - 1
"""The largest quantity that the API server knows."""
DIGITS = 18
"""Digits of a number that is smaller in any case."""
DECIMAL, BINARY = "kMGTPE", "KMGTPE"
FACTORS = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(DECIMAL, 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate(BINARY, 1)},
    **{suffix: Decimal(1000) ** -power for power, suffix in enumerate("mun", 1)},
}
"""By suffix of a quantity."""
QUANTITY = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?", re.ASCII)


def is_ours(resource: str) -> bool:
    """Whether a resource stands for free addresses."""
    return resource.startswith(f"{DOMAIN}/")


def whole(quantity: str) -> int:
    """A quantity as an integer, rounded up as the scheduler does; 0 for what is none, or negative."""
    if len(quantity) <= DIGITS and quantity.isascii() and quantity.isdigit():
        return int(quantity)
    match = QUANTITY.fullmatch(quantity)
    if match is None:
        return 0
    number, suffix, exponent = match.groups()
    factor = FACTORS[suffix] if suffix else Decimal(f"1e{exponent or 0}")
    return int(min(Decimal(number) * factor, Decimal(LARGEST)).to_integral_value(ROUND_CEILING))


def _ours(quantities: dict[str, str] | None) -> dict[str, str] | None:
    return {name: text for name, text in (quantities or {}).items() if is_ours(name)} or None


class AddressResourceRequirements(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 ResourceRequirements, in part."""

    requests: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self.requests = _ours(self.requests)


class RequestingContainer(msgspec.Struct, omit_defaults=True, gc=False):
    """core/v1 Container, in part."""

    resources: AddressResourceRequirements = msgspec.field(default_factory=AddressResourceRequirements)
    restartPolicy: str | None = None

    @property
    def is_sidecar(self) -> bool:
        """Whether it, an init container, goes on beside the others."""
        return self.restartPolicy == "Always"


class RequestingPodSpec(PodSpec, omit_defaults=True, gc=False):
    """core/v1 PodSpec with the containers that request addresses."""

    containers: list[RequestingContainer] | None = None
    initContainers: list[RequestingContainer] | None = None

    def __post_init__(self) -> None:
        self.containers = _requesting(self.containers)
        self.initContainers = _requesting(self.initContainers)
        _limit_names([*(self.containers or ()), *(self.initContainers or ())])


class RequestingPod(Pod, kw_only=True):
    """core/v1 Pod with what it requests of our resources."""

    spec: RequestingPodSpec = msgspec.field(default_factory=RequestingPodSpec)

    @property
    def address_requests(self) -> Mapping[str, int]:
        """How many of each resource the scheduler reserves for the pod.

        All containers and sidecars run at once, after the other init containers, each of which runs beside the sidecars
        that come before it.
        """
        together: Counter[str] = Counter()
        for container in self.spec.containers or ():
            together.update(_whole(container))
        sidecars: Counter[str] = Counter()
        first: Counter[str] = Counter()
        for container in self.spec.initContainers or ():
            own = Counter(_whole(container))
            first |= sidecars + own
            if container.is_sidecar:
                sidecars += own
        return (together + sidecars) | first


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


def _limit_names(containers: Iterable[RequestingContainer]) -> None:
    """Keep the names of so many resources of a pod: whoever makes pods can name very many.

    What it requests of others is kept as one sum, as the scheduler may subtract it from any resource.
    """
    kept: set[str] = set()
    for container in containers:
        found: Counter[str] = Counter()
        texts: dict[str, str] = {}
        for name, text in (container.resources.requests or {}).items():
            if name in kept or len(kept) < MOST_NAMES:
                kept.add(name)
                texts[name] = text
            else:
                found[OTHERS] += whole(text)
        if found:
            container.resources.requests = texts | {OTHERS: str(min(found[OTHERS], LARGEST))}


def _whole(container: RequestingContainer) -> dict[str, int]:
    return {name: whole(text) for name, text in (container.resources.requests or {}).items()}

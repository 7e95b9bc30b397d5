"""Whom a Service admits: the ranges of client addresses that its spec, or an older annotation, lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_network

from spiderpool.api.core_v1 import Service
from spiderpool.core.addresses import AddressSet, Interval

FIELD = "spec.loadBalancerSourceRanges"
ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"
"""Kubernetes' older spelling of the field, which counts where that is empty."""
EVERYBODY = {4: "0.0.0.0/0", 6: "::/0"}
"""IP version → the range of all addresses."""


@dataclass(frozen=True, slots=True)
class SourceRanges:
    """The ranges that a Service lists; without any it admits everybody."""

    key: str
    """The field or the annotation that lists them, for messages."""
    ranges: frozenset[str] = frozenset()
    """In canonical form."""
    invalid: tuple[str, ...] = ()
    """What is listed and is no range."""


def source_ranges(service: Service) -> SourceRanges:
    """Returns the ranges that a Service lists."""
    listed, key = service.spec.loadBalancerSourceRanges, FIELD
    if not listed:
        listed, key = (service.metadata.annotations or {}).get(ANNOTATION, "").split(","), ANNOTATION
    ranges: set[str] = set()
    invalid: list[str] = []
    for text in filter(None, (each.strip() for each in listed)):
        try:
            ranges.add(canonical_range(text))
        except ValueError:
            invalid.append(text)
    return SourceRanges(key, frozenset(ranges), tuple(invalid))


def canonical_range(text: str) -> str:
    """Returns a range in canonical form, as clouds answer with it. Raises ValueError."""
    return str(ip_network(text, strict=False))


def recognised(text: str) -> str:
    """Returns a range in canonical form; what is none as it is."""
    with suppress(ValueError):
        return canonical_range(text)
    return text


def version_of_range(text: str) -> int:
    """Returns the IP version, 4 or 6, of a range."""
    return 6 if ":" in text else 4


def by_clients(entries: Iterable[str]) -> list[str]:
    """Returns entries of a list, ``range`` or ``policy range``, by their policies and in the order of addresses."""
    return sorted(entries, key=lambda entry: (_policy(entry), *_clients(entry)))


def by_use(entries: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Returns them in the same order, but of each policy those first that are about no client of its wanted ones."""
    listed: defaultdict[tuple[str, int], list[Interval]] = defaultdict(list)
    for each in wanted:
        version, clients = _clients(each)
        listed[_policy(each), version].append(clients)
    kept = {key: AddressSet.of(key[1], found) for key, found in listed.items()}

    def place(entry: str) -> tuple[str, bool, int, Interval]:
        version, clients = _clients(entry)
        same = kept.get((_policy(entry), version), AddressSet(version))
        return _policy(entry), bool(AddressSet(version, (clients,)) & same), version, clients

    return sorted(entries, key=place)


def _policy(entry: str) -> str:
    return entry.split(" ")[0] if " " in entry else ""


def _clients(entry: str) -> tuple[int, Interval]:
    """Returns the IP version and the addresses of an entry's range; zeros for one that is none that we know."""
    for word in entry.split(" "):
        with suppress(ValueError):
            network = ip_network(word)
            return network.version, (int(network.network_address), int(network.broadcast_address))
    return 0, (0, 0)


def admitted(ranges: Iterable[str], versions: Collection[int]) -> frozenset[str]:
    """Returns the ranges by which a balancer with addresses of some IP versions keeps others out; none: nobody."""
    fitting = frozenset(each for each in ranges if version_of_range(each) in versions)
    return frozenset() if {EVERYBODY[version] for version in versions} <= fitting else fitting

"""What the agent of Spiderpool's own releases, in Go, keeps of addresses: texts in pools, and SpiderEndpoints.

A pool's ``status.allocatedIPs`` is the JSON text ``{address: {"pod": "namespace/name", "podUid": uid}}``. It tells no
interface; the SpiderEndpoint of the pod does. Both are read here as they were written, and nothing is made up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from spiderpool.api.endpoint import InterfaceDetail, SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.addresses import canonical, to_int, version_of_text
from spiderpool.core.ipam.allocation import address_text
from spiderpool.core.ipam.owners import MACHINES


class UnreadableRecords(ValueError):
    """The records of a pool cannot be read at all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a pool."""

    pool: SpiderIPPool
    address: str
    """As canonical text."""
    pod: str
    """``namespace/name``; of a virtual machine with a fixed address the name of its VirtualMachineInstance."""
    uid: str

    def __str__(self) -> str:
        return f"pool {self.pool.name} for pod {self.pod}"


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """One address that a SpiderEndpoint names."""

    endpoint: SpiderEndpoint
    interface: str
    pool: str
    address: str
    """As canonical text."""
    cidr: str
    """As written, with the prefix length of the subnet."""

    @property
    def uid(self) -> str:
        """UID of the pod."""
        return self.endpoint.status.current.uid if self.endpoint.status else ""

    @property
    def node(self) -> str:
        """Node of the pod."""
        return self.endpoint.status.current.node if self.endpoint.status else ""

    def __str__(self) -> str:
        return f"SpiderEndpoint {self.endpoint.key}"


def number(address: str) -> int:
    """An address as canonical text, as an integer."""
    return to_int(address, version_of_text(address))


def entries(pool: SpiderIPPool) -> tuple[list[Entry], list[str]]:
    """The records of a pool, and a sentence for each that cannot be read. Raises UnreadableRecords."""
    text = pool.status.allocatedIPs if pool.status else None
    found: list[Entry] = []
    faults: list[str] = []
    for key, value in _pairs(text) if text else ():
        try:
            found.append(_entry(pool, key, value))
        except ValueError as error:
            faults.append(f"{key[:60]!r}: {error}")
    return found, faults


def _pairs(text: str) -> list[tuple[str, Any]]:
    """The members of a JSON object, also those of which the name occurs twice."""
    try:
        found = json.loads(text, object_pairs_hook=_Members)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecords(f"status.allocatedIPs is no JSON: {error}") from error
    if not isinstance(found, _Members):
        raise UnreadableRecords("status.allocatedIPs is no JSON object")
    return found


class _Members(list[tuple[str, Any]]):
    """The members of one JSON object, in order."""


def _entry(pool: SpiderIPPool, key: str, value: Any) -> Entry:
    address = canonical(key)
    members = dict(value) if isinstance(value, _Members) else {}
    pod, uid = members.get("pod"), members.get("podUid")
    if not (isinstance(pod, str) and isinstance(uid, str) and uid and pod.count("/") == 1 and all(pod.split("/"))):
        raise ValueError("does not say which pod has it")
    return Entry(pool, address, pod, uid)


def endpoint_addresses(endpoints: Iterable[SpiderEndpoint]) -> tuple[list[EndpointAddress], list[str]]:
    """The addresses that SpiderEndpoints name, and a sentence for each that cannot be read."""
    found: list[EndpointAddress] = []
    faults: list[str] = []
    for endpoint in endpoints:
        for detail in endpoint.status.current.ips if endpoint.status else ():
            for cidr, pool in _named(detail):
                try:
                    address = canonical(cidr.partition("/")[0])
                except ValueError as error:
                    faults.append(f"SpiderEndpoint {endpoint.key} names {cidr[:60]!r}: {error}")
                else:
                    found.append(EndpointAddress(endpoint, detail.interface, pool, address, cidr))
    return found, faults


def _named(detail: InterfaceDetail) -> Iterator[tuple[str, str]]:
    for cidr, pool in ((detail.ipv4, detail.ipv4Pool), (detail.ipv6, detail.ipv6Pool)):
        if cidr:
            yield cidr, pool or ""


def pod_name(record: SpiderIP) -> str:
    """The pod of a SpiderIP as the agent in Go names it."""
    owner = record.spec.owner
    name = owner.name if owner is not None and owner.kind in MACHINES else record.spec.pod
    return f"{record.spec.namespace}/{name}"


def written(text: str | None, records: Iterable[SpiderIP]) -> str | None:
    """The text of a pool's records with those of SpiderIPs; the same text where it has them all already.

    Records without a SpiderIP stay: the controller in Go releases those of pods that are gone.
    """
    before: dict[str, Any] = {key: _plain(value) for key, value in _pairs(text)} if text else {}
    after = before | {
        address_text(each): {"pod": pod_name(each), "podUid": each.spec.podUID}
        for each in records
        if each.spec.releasedAt is None
    }
    if after == before:
        return text
    return json.dumps(dict(sorted(after.items())), separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A JSON value as it was, with objects as dictionaries."""
    if isinstance(value, _Members):
        return {key: _plain(each) for key, each in value}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def count(text: str | None) -> int:
    """How many records a text has."""
    return len(_pairs(text)) if text else 0

"""Whether addresses are in order: what records say, what the nodes' kernels have, and what CNI calls gave and took.

Records are SpiderIPs. A pod's possession of an address lasts from the end of its ADD until the start of its first
DEL that succeeds, or until its node loses its power.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.cni_calls import CniRecord

_LIST_ADDRESSES = """
for netns in /run/netns/*; do
    [ -e "$netns" ] || continue
    echo "$netns"
    nsenter --net="$netns" ip -json address || echo '[]'
done
"""
_NOT_A_PODS = ("lo", "veth0")


@dataclass(frozen=True, slots=True)
class KernelAddress:
    """An address in a pod's network namespace."""

    address: str
    node: str
    netns: str


@dataclass(frozen=True, slots=True)
class Possession:
    """A container has an address from one moment until another, in seconds since the epoch."""

    address: str
    container: str
    pod: str
    since: float
    until: float


def kernel_addresses(cluster: LabCluster) -> list[KernelAddress]:
    """The addresses in all network namespaces of all nodes. Raises IOFailure if one does not answer."""
    nodes = [node.name for node in cluster.fabric.topology.nodes]
    return [found for node in nodes for found in _of_node(cluster, node)]


def _of_node(cluster: LabCluster, node: str) -> Iterator[KernelAddress]:
    lines = cluster.machines.client(node).exec(["sh", "-c", _LIST_ADDRESSES], timeout=60).stdout.splitlines()
    netns = ""
    for line in lines:
        if line.startswith("/"):
            netns = line
            continue
        for address in parse_links(line):
            yield KernelAddress(address, node, netns)


def parse_links(text: str) -> list[str]:
    """The addresses in the output of ``ip -json address`` that only a pod has."""
    links = [link for link in json.loads(text) if link.get("ifname") not in _NOT_A_PODS]
    entries = [entry for link in links for entry in link.get("addr_info", [])]
    return [entry["local"] for entry in entries if entry.get("scope") == "global"]


def twice_in_kernels(found: Iterable[KernelAddress]) -> list[str]:
    """Sentences about addresses that are in two namespaces."""
    places = defaultdict(set)
    for each in found:
        places[each.address].add(f"{each.node} {each.netns}")
    return [f"{address} is in {' and '.join(sorted(where))}" for address, where in places.items() if len(where) > 1]


def unlike_records(records: set[str], found: Iterable[KernelAddress]) -> list[str]:
    """Sentences about addresses that a pod has without a record, and records without a pod."""
    kernels = {each.address: f"{each.node} {each.netns}" for each in found}
    taken = [f"{address} is in {kernels[address]} without a record" for address in sorted(kernels.keys() - records)]
    return taken + [f"{address} has a record but is in no namespace" for address in sorted(records - kernels.keys())]


def possessions(calls: Iterable[CniRecord], cuts: Iterable[float] = (), end: float = float("inf")) -> list[Possession]:
    """Who had which address when, by the calls of one node that lost its power at ``cuts``."""
    ordered = sorted(calls, key=lambda call: call.started)
    ends = {call.container: call.started for call in reversed(ordered) if call.command == "DEL" and not call.status}
    given = [call for call in ordered if call.command == "ADD" and not call.status]
    return [
        Possession(address, call.container, call.pod, call.ended, _until(call, ends, cuts, end))
        for call in given
        for address in call.addresses
    ]


def _until(call: CniRecord, ends: Mapping[str, float], cuts: Iterable[float], end: float) -> float:
    return min([ends.get(call.container, end), *(cut for cut in cuts if cut > call.ended)])


def overlaps(found: Iterable[Possession]) -> list[str]:
    """Sentences about addresses that two containers had at once. Several plugins of a chain may report those of one."""
    by_address = defaultdict(list)
    for each in sorted(found, key=lambda one: one.since):
        by_address[each.address].append(each)
    return [
        f"{address} was given to {later.pod} {earlier.until - later.since:.1f} s before {earlier.pod} had its DEL"
        for address, holders in by_address.items()
        for earlier, later in pairwise(holders)
        if later.since < earlier.until and later.container != earlier.container
    ]


def in_progress(calls: Iterable[CniRecord], moment: float) -> list[CniRecord]:
    """The calls that had begun at a moment and not ended."""
    return [call for call in calls if call.started < moment < call.ended]


def first_add(calls: Iterable[CniRecord], former: Container[str]) -> float:
    """When the first pod that is not one of the former had its addresses. Raises ValueError if none had."""
    return min(call.ended for call in calls if call.command == "ADD" and not call.status and _name(call) not in former)


def last_del(calls: Iterable[CniRecord], former: Container[str]) -> float:
    """When the last of the former pods began to lose its addresses. Raises ValueError if none did."""
    starts: dict[str, float] = {}
    for call in calls:
        if call.command == "DEL" and _name(call) in former:
            starts[call.pod] = min(call.started, starts.get(call.pod, call.started))
    return max(starts.values())


def _name(call: CniRecord) -> str:
    return call.pod.partition("/")[2]


def record_addresses(cluster: LabCluster) -> set[str]:
    """The addresses of all records that are not cooling down."""
    specs = [record["spec"] for record in cluster.objects("spiderips")]
    return {spec["address"].partition("/")[0] for spec in specs if not spec.get("releasedAt")}

"""A story of NICs with a larger MTU: the largest packets pass wherever pods send them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, STATUS_ANNOTATION
from spiderpool.core.network.coordinator import VETH_MTU
from spiderpool_lab.cluster import OUR_NAMESPACE
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.stories.stage import Stage, container, pod
from spiderpool_lab.stories.story import expect, story
from spiderpool_lab.topology import ENI

_HTTP, _UDP, _FILES = 80, 53, 8099
"""Ports of pods: HTTP and UDP of each pod's own server, and a server of a large file that runs beside it."""
_LARGE = 200_000
"""Bytes of the file: what a TCP connection carries from server to client."""
_LONG_PATH = "/" + 60_000 * "x"
"""What a TCP connection carries from client to server. The servers take a little more."""
_SERVE_FILES = f"""
mkdir -p /run/tmp/large
head -c {_LARGE} /dev/zero | tr '\\0' x > /run/tmp/large/file
{sys.executable} -m http.server {_FILES} --bind :: --directory /run/tmp/large >/dev/null 2>&1 &
echo $!
"""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A pod on each node, on the ENI of that name there. ``veth`` is the MTU of their veth pairs."""

    eni: ENI
    veth: int

    @property
    def network(self) -> str:
        return f"ipvlan-{self.eni.name}"

    @property
    def names(self) -> tuple[str, str]:
        return f"a-{self.eni.name}-{self.veth}", f"b-{self.eni.name}-{self.veth}"

    def objects(self, nodes: Iterable[str]) -> Iterator[Json]:
        """Both pods, and a Service of the second, which its node passes on with the client's address."""
        notes = {DEFAULT_NETWORK_ANNOTATION: f"{OUR_NAMESPACE}/{self.network}"}
        own = container(ports=[{"containerPort": _HTTP}, {"containerPort": _UDP, "protocol": "UDP"}])
        for name, node in zip(self.names, nodes, strict=True):
            yield pod(name, node, annotations=notes, containers=[own])
        ports = [("TCP", _HTTP), ("UDP", _UDP), ("TCP", _FILES)]
        spec = {
            "type": "NodePort",
            "externalTrafficPolicy": "Local",
            "selector": {"app": self.names[1]},
            "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"name": f"p{number}", "port": number, "protocol": protocol} for protocol, number in ports],
        }
        yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.names[1]}, "spec": spec}


@dataclass(frozen=True, slots=True)
class _Way:
    """From a pod, or with None from a node, to some targets, by links of which the smallest MTU is ``mtu``."""

    source: str | None
    targets: Sequence[str]
    mtu: int
    kinds: tuple[Literal["ping", "udp"], ...] = ("ping", "udp")
    port: int = _UDP

    def probes(self, size: int) -> list[TrafficProbe]:
        return [
            TrafficProbe(kind=kind, target=target, source=self.source, port=self.port, packet=size)
            for kind in self.kinds
            for target in self.targets
        ]


@dataclass(frozen=True, slots=True)
class _Place:
    """An address and ports at which a pod is reached: of its own server for HTTP and UDP, of the server of the file."""

    address: str
    http: int = _HTTP
    udp: int = _UDP
    files: int = _FILES

    def request(self, source: str | None) -> TrafficProbe:
        """Much from client to server."""
        target, path = self.address, _LONG_PATH
        return TrafficProbe(kind="http", target=target, source=source, port=self.http, path=path, timeout=5.0)

    def download(self, source: str | None) -> TrafficProbe:
        """Much from server to client."""
        target, path = self.address, "/file"
        return TrafficProbe(kind="http", target=target, source=source, port=self.files, path=path, timeout=5.0)


@story()
def largest_packets(stage: Stage) -> None:
    """NICs with an MTU of 1500, 8500 and 9000: the largest packets pass between pods, Services and nodes.

    First with veth pairs of 1500 bytes, as by default, then with ``vethMTU`` as large as the NIC's MTU.
    """
    enis = stage.cluster.fabric.topology.nodes[0].enis
    expect([eni.mtu for eni in enis] == [VETH_MTU, 8500, 9000], f"MTUs of the NICs: {enis}")
    plain = [_Pair(eni, VETH_MTU) for eni in enis]
    _check(stage, plain)
    _check_between(stage, plain)
    with ExitStack() as undo:
        large = [_Pair(eni, eni.mtu) for eni in enis if eni.mtu > VETH_MTU]
        for pair in large:
            undo.enter_context(_veth_mtu(stage, pair))
        _check(stage, large)


@contextmanager
def _veth_mtu(stage: Stage, pair: _Pair) -> Iterator[None]:
    """Give veth pairs of a network an MTU, and take it away at the end."""
    try:
        _set_veth_mtu(stage, pair.network, pair.veth)
        yield
    finally:
        _set_veth_mtu(stage, pair.network, None)


def _set_veth_mtu(stage: Stage, network: str, mtu: int | None) -> None:
    where, plane = (network, "--namespace", OUR_NAMESPACE), stage.cluster.plane
    patch = json.dumps({"spec": {"coordinator": {"vethMTU": mtu}}})
    plane.kubectl("patch", "spidermultusconfig", *where, "--type=merge", "-p", patch)

    def found() -> int | None:
        config = json.loads(plane.kubectl("get", "net-attach-def", *where, "-o", "jsonpath={.spec.config}"))
        values: list[int | None] = [plugin.get("vethMTU") for plugin in config["plugins"]]
        return values[-1]

    stage.wait(f"{network} has vethMTU {mtu}", lambda: found() == mtu)


def _check(stage: Stage, pairs: list[_Pair]) -> None:
    stage.apply(*(one for pair in pairs for one in pair.objects(stage.nodes)))
    stage.ready(*(name for pair in pairs for name in pair.names), timeout=180)
    wrong = [fault for pair in pairs for fault in (*_link_faults(stage, pair), *_traffic_faults(stage, pair))]
    expect(not wrong, f"the largest packets pass: {'; '.join(wrong)}")


# --- links


def link_mtus(pod_links: str, node_links: str) -> dict[str, int]:
    """The MTUs of a pod's eth0, of its veth0 and of the node's end of that, by the output of ``ip -json link``."""
    pod_by_name = {link["ifname"]: link for link in json.loads(pod_links)}
    node_by_index = {link["ifindex"]: link for link in json.loads(node_links)}
    far = node_by_index[pod_by_name["veth0"]["link_index"]]
    return {"eth0": pod_by_name["eth0"]["mtu"], "veth0": pod_by_name["veth0"]["mtu"], "node": far["mtu"]}


def _link_faults(stage: Stage, pair: _Pair) -> Iterator[str]:
    """What is wrong with the MTUs of links, and with the MTU that the pod's status names."""
    wanted = {"eth0": pair.eni.mtu, "veth0": pair.veth, "node": pair.veth}
    for name, node in zip(pair.names, stage.nodes, strict=True):
        listing, client = ["ip", "-json", "link"], stage.client(node)
        found = link_mtus(client.exec(listing, pod=f"{stage.namespace}/{name}").stdout, client.exec(listing).stdout)
        if found != wanted:
            yield f"MTUs of {name}: {found} instead of {wanted}"
        status = json.loads(stage.wait(f"{name} has its network status", partial(_status, stage, name)))
        if [one.get("mtu") for one in status] != [pair.eni.mtu]:
            yield f"the status of {name} names no MTU of {pair.eni.mtu}: {status}"


def _status(stage: Stage, name: str) -> str:
    """The annotation with a pod's networks; empty as long as it is not written."""
    text: str = stage.pod(name)["metadata"].get("annotations", {}).get(STATUS_ANNOTATION, "")
    return text


# --- packets


def _traffic_faults(stage: Stage, pair: _Pair) -> Iterator[str]:
    """What does not pass between the pods, from the nodes and by the Service; and what is not refused as too large."""
    first, second = stage.nodes
    one, other = (stage.addresses(name) for name in pair.names)
    source, back = (f"{stage.namespace}/{name}" for name in pair.names)
    places = [*_places(stage, pair)]
    standard = [place.address for place in places if place.http == _HTTP]
    stage.wait("the Service answers", lambda: not stage.reach(first, standard))
    nic, veth = pair.eni.mtu, pair.veth
    own = stage.cluster.fabric.topology.node(first).enis[0].own_addresses
    yield from _size_faults(stage, first, _Way(source, other, nic))
    yield from _size_faults(stage, first, _Way(source, own, veth, ("ping",)))
    yield from _size_faults(stage, second, _Way(back, one, nic))
    yield from _size_faults(stage, first, _Way(None, one, veth))
    yield from _size_faults(stage, first, _Way(None, other, nic))
    for place in places[len(other) :]:
        yield from _size_faults(stage, first, _Way(source, [place.address], veth, ("udp",), place.udp))
    yield from stage.unanswered(first, [place.request(sender) for sender in (source, None) for place in places])
    yield from stage.unanswered(second, [_Place(address).request(sender) for sender in (back, None) for address in one])
    yield from _download_faults(stage, pair, places)


def _places(stage: Stage, pair: _Pair) -> Iterator[_Place]:
    """Where the second pod is reached: at its addresses, those of its Service, and those of its node's NIC."""
    yield from map(_Place, stage.addresses(pair.names[1]))
    (spec,) = (one["spec"] for one in stage.objects("services") if one["metadata"]["name"] == pair.names[1])
    yield from map(_Place, spec["clusterIPs"])
    ports = {port["port"]: port["nodePort"] for port in spec["ports"]}
    enis = {eni.name: eni for eni in stage.cluster.fabric.topology.node(stage.nodes[1]).enis}
    for address in enis[pair.eni.name].own_addresses:
        yield _Place(address, ports[_HTTP], ports[_UDP], ports[_FILES])


def _size_faults(stage: Stage, node: str, way: _Way) -> Iterator[str]:
    """Which of the largest packets is lost on a way, and which larger one is not refused."""
    yield from stage.unanswered(node, way.probes(way.mtu))
    larger = way.probes(way.mtu + 1)
    for probe, answer in zip(larger, stage.client(node).probe(larger), strict=True):
        if "Message too long" not in answer.error:
            yield f"{way.source or node} → {probe.target} ({probe.kind}): {probe.packet} bytes not refused: {answer}"


def _download_faults(stage: Stage, pair: _Pair, places: Sequence[_Place]) -> Iterator[str]:
    """What is wrong with a large file that the first pod, and its node, get from the second pod."""
    first, second = stage.nodes
    source, server = (f"{stage.namespace}/{name}" for name in pair.names)
    process = stage.client(second).exec(["sh", "-ec", _SERVE_FILES], pod=server).stdout.strip()
    try:
        probes = [place.download(sender) for sender in (source, None) for place in places]
        stage.wait("the server of files answers", lambda: not stage.unanswered(first, probes[:1]))
        for probe, answer in zip(probes, stage.client(first).probe(probes), strict=True):
            if len(answer.body) != _LARGE:
                got = f"{len(answer.body)} of {_LARGE} bytes"
                yield f"{probe.source or first} → {probe.target}:{probe.port}: {got}, {answer.error}"
    finally:
        stage.run(second, f"kill {process}")


def _check_between(stage: Stage, pairs: list[_Pair]) -> None:
    """Pods on NICs of different MTUs, which other subnets have: TCP agrees on the smaller, in both directions."""
    for sender in pairs:
        targets = [address for pair in pairs if pair != sender for address in stage.addresses(pair.names[1])]
        source = f"{stage.namespace}/{sender.names[0]}"
        wrong = stage.unanswered(stage.nodes[0], [_Place(target).request(source) for target in targets])
        expect(not wrong, f"long requests pass between NICs: {'; '.join(wrong)}")

"""The cloud of a lab: vSwitches, a router and ports that drop what the real cloud would drop.

Everything is in two network namespaces, ``spl-<name>-vpc`` for the cloud and ``spl-<name>-mgmt`` for the
lab's own network, and in one more per node where nodes are namespaces. The namespace that the caller is in
keeps its links, addresses, routes and sysctls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from spiderpool.errors import BadConfig
from spiderpool.lab import namespaces
from spiderpool.lab.backend import Backend, choose
from spiderpool.lab.topology import Card, Node, Topology

RULES = ("spoof_mac", "spoof_arp", "spoof_ip", "spoof_ip6")
"""Why a port drops a frame: foreign source MAC, foreign sender in ARP, foreign IPv4, foreign IPv6 source."""

MANAGEMENT = "mgmt"
_LINK_NAME_MAX = 15  # IFNAMSIZ - 1
_ROUTER_SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/accept_dad": "0",
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
    "bridge/bridge-nf-call-arptables": "0",
}


class Fabric:
    """The cloud network of one lab. ``name`` keeps the labs of a machine apart."""

    def __init__(self, topology: Topology, name: str, *, backend: Backend | None = None) -> None:
        self.topology = topology
        self.name = name
        self.backend = backend or choose()
        self.vpc = f"spl-{name}-vpc"
        self.management = f"spl-{name}-mgmt"
        for node in topology.nodes:
            _check_names(node)

    def node_namespace(self, node: Node) -> str:
        """The namespace that is the node, where nodes are namespaces."""
        return f"spl-{self.name}-{node.name}"

    def up(self) -> None:
        """Make the network; what a killed run of the same name left is removed first."""
        self.down()
        try:
            self._make()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End every process in the lab's namespaces and remove them; nothing happens if they are gone."""
        for name in self._namespaces():
            netns = namespaces.path(name)
            namespaces.end_processes(netns)
            if netns.exists():
                namespaces.run_tool(["ip", "netns", "delete", name])

    def counters(self) -> dict[str, dict[str, int]]:
        """Dropped frames by ``<node>/<card>`` and rule (see :data:`RULES`) since the network was made."""
        listing = json.loads(
            namespaces.run_tool(_in(self.vpc, "nft", "-j", "list", "counters", "table", "bridge", "vpc"))
        )
        found = {
            entry["counter"]["name"]: entry["counter"]["packets"] for entry in listing["nftables"] if "counter" in entry
        }
        return {
            f"{node.name}/{card.name}": {rule: int(found[_counter(node, card, rule)]) for rule in RULES}
            for node in self.topology.nodes
            for card in node.cards
        }

    def _namespaces(self) -> list[str]:
        nodes = self.topology.nodes if self.backend is Backend.NATIVE else ()
        return [*(self.node_namespace(node) for node in nodes), self.vpc, self.management]

    def _make(self) -> None:
        namespaces.ip_batch(f"netns add {name}" for name in self._namespaces())
        namespaces.call_in(namespaces.path(self.vpc), lambda: _write_sysctls(_ROUTER_SYSCTLS))
        namespaces.run_tool(_in(self.vpc, "nft", "-f", "-"), "\n".join(_anti_spoof(self.topology)))
        namespaces.ip_batch(self._links(), netns=self.vpc)
        namespaces.ip_batch(self._forwarding(), netns=self.vpc, tool="bridge")
        namespaces.ip_batch(self._host_end(), netns=self.management)

    def _links(self) -> Iterator[str]:
        yield "link set lo up"
        for vswitch in self.topology.vswitches:
            yield f"link add {vswitch.name} type bridge"
            yield f"address add {vswitch.gateway}/{vswitch.prefix_length} dev {vswitch.name}"
            yield f"link set {vswitch.name} up"
        yield f"link add {MANAGEMENT} type bridge"
        yield f"link set {MANAGEMENT} up addrgenmode none"
        yield f"link add host type veth peer name {MANAGEMENT} netns {self.management}"
        yield f"link set host master {MANAGEMENT} up"
        for node in self.topology.nodes:
            yield from self._ports(node)

    def _ports(self, node: Node) -> Iterator[str]:
        for card in node.cards:
            yield from self._port(node, card.name, card.vswitch.name, card.mac)
            yield f"link set {node.port(card.name)} type bridge_slave learning off flood off"
        yield from self._port(node, MANAGEMENT, MANAGEMENT, node.management_mac)

    def _port(self, node: Node, link: str, bridge: str, mac: str) -> Iterator[str]:
        port = node.port(link)
        if self.backend is Backend.UML:
            yield f"tuntap add {port} mode tap vnet_hdr"
        else:
            yield f"link add {port} type veth peer name {link} address {mac} netns {self.node_namespace(node)}"
        yield f"link set {port} master {bridge} up addrgenmode none"

    def _forwarding(self) -> Iterator[str]:
        """One fixed entry per card: frames to any other MAC go nowhere, whatever cards send."""
        for node in self.topology.nodes:
            for card in node.cards:
                yield f"fdb add {card.mac} dev {node.port(card.name)} master static"

    def _host_end(self) -> Iterator[str]:
        yield "link set lo up"
        yield f"address add {self.topology.host}/{self.topology.management_prefix_length} dev {MANAGEMENT}"
        yield f"link set {MANAGEMENT} up"


def _anti_spoof(topology: Topology) -> Iterator[str]:
    cards = [(node, card) for node in topology.nodes for card in node.cards]
    yield "table bridge vpc {"
    for node, card in cards:
        yield from _port_chain(node, card)
    ports = ", ".join(f'"{node.port(card.name)}" : jump {node.port(card.name)}' for node, card in cards)
    yield "chain prerouting {"
    yield "type filter hook prerouting priority -300; policy accept;"
    yield f"iifname vmap {{ {ports} }}"
    yield "}"
    yield "}"


def _port_chain(node: Node, card: Card) -> Iterator[str]:
    port = node.port(card.name)
    for rule in RULES:
        yield f"counter {_counter(node, card, rule)} {{ }}"
    ipv4, ipv6 = _by_family(card)
    yield f"set {port}-ipv4 {{ type ipv4_addr; elements = {{ {', '.join(ipv4)} }}; }}"
    yield f"set {port}-ipv6 {{ type ipv6_addr; flags interval; elements = {{ {', '.join(ipv6)} }}; }}"
    yield f"chain {port} {{"
    for match, rule in (
        (f"ether saddr != {card.mac}", "spoof_mac"),
        (f"arp saddr ether != {card.mac}", "spoof_arp"),
        (f"arp saddr ip != @{port}-ipv4", "spoof_arp"),
        (f"ip saddr != @{port}-ipv4", "spoof_ip"),
        (f"ip6 saddr != @{port}-ipv6", "spoof_ip6"),
    ):
        yield f"{match} counter name {_counter(node, card, rule)} drop"
    yield "}"


def _by_family(card: Card) -> tuple[list[str], list[str]]:
    """Registered addresses; for IPv6 also what neighbour discovery sends from (RFC 4861): ``::`` and link-local."""
    addresses = [ip_address(text) for text in card.registered]
    ipv4 = [str(address) for address in addresses if address.version == 4]
    return ipv4, ["::", "fe80::/10", *(str(address) for address in addresses if address.version == 6)]


def _counter(node: Node, card: Card, rule: str) -> str:
    return f"{node.port(card.name)}-{rule}"


def _in(netns: str, *argv: str) -> list[str]:
    return ["ip", "netns", "exec", netns, *argv]


def _write_sysctls(values: dict[str, str]) -> None:
    """Set those that this kernel has: bridge filtering and IPv6 may be missing."""
    for name, value in values.items():
        file = Path("/proc/sys/net") / name
        if file.exists():
            file.write_text(value)


def _check_names(node: Node) -> None:
    for link in (*(card.name for card in node.cards), MANAGEMENT):
        if len(node.port(link)) > _LINK_NAME_MAX:
            raise BadConfig(
                f"node {node.name}: {node.port(link)!r} is longer than a link name may be; shorten the node's name"
            )

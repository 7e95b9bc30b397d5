"""The cloud's network: vSwitches, a router, and ports that drop the frames that the real cloud drops.

It lives in three network namespaces, ``spl-<name>-vpc`` for the cloud, ``spl-<name>-inet`` for the internet and
``spl-<name>-mgmt`` for the control plane's server and the management network, and in one more per node where nodes are
namespaces. Nothing is added to the caller's own namespace. So labs may use the same addresses and link names at once;
only names must differ.

Between cloud and internet IPv4 is translated, by the NAT address of the vSwitch or the elastic address of an ENI. IPv6
is routed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from spiderpool.errors import BadConfig
from spiderpool_lab import frames, namespaces
from spiderpool_lab.backend import NodeBackend, choose
from spiderpool_lab.reservations import LabName
from spiderpool_lab.topology import ENI, LabNode, Topology

RULES = ("spoof_mac", "spoof_arp", "spoof_ip", "spoof_ip6")
"""The rules of a port. They drop a frame with a source MAC, ARP sender, IPv4 or IPv6 source that is not registered."""

MANAGEMENT = "mgmt"
UPLINK = "internet"
"""The cloud's link to the internet."""
STRAY = "stray"
"""Counter of answers to the internet that the router drops because it did not forward their request."""
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
    """The cloud network of one lab. ``name`` keeps the labs of a machine apart, and is reserved while one is up.

    ``directory`` is the lab's state folder, with its records of processes in ``processes``; None if there is none.
    """

    def __init__(
        self, topology: Topology, name: str, *, backend: NodeBackend | None = None, directory: Path | None = None
    ) -> None:
        self.topology = topology
        self.name = name
        self.backend = backend or choose()
        self.vpc = f"spl-{name}-vpc"
        self.internet = f"spl-{name}-inet"
        self.management = f"spl-{name}-mgmt"
        for server in topology.servers:
            _check_names(server)
        processes = directory / "processes" if directory else None
        self._reserved_name = LabName(name, self._namespaces(), processes=processes, directory=directory)

    def node_namespace(self, node: LabNode) -> str:
        """The namespace that is the node, where nodes are namespaces."""
        return f"spl-{self.name}-{node.name}"

    def reserve(self) -> None:
        """Reserve the lab's name on this machine. Raises BadConfig with the remedy if a lab of that name is up."""
        self._reserved_name.reserve()

    def check_ours(self) -> None:
        """Raise BadConfig with the remedy if the lab of this name that is up has another state folder."""
        self._reserved_name.check_ours()

    def up(self) -> None:
        """Make the network; what a killed run of the same name left is removed first.

        Raises BadConfig with the remedy if a lab of that name is up.
        """
        self.reserve()
        self.clear()
        try:
            self._make()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Remove the network and give the name back; nothing happens if they are gone.

        Raises BadConfig if the lab of this name that is up has another state folder.
        """
        self.check_ours()
        self.clear()
        self._reserved_name.release()

    def clear(self) -> None:
        """End every process in the lab's namespaces and remove them; nothing happens if they are gone."""
        for name in self._namespaces():
            namespaces.remove(name)

    def counters(self) -> dict[str, dict[str, int]]:
        """``<node>/<ENI>`` → rule (see :data:`RULES`) → frames dropped since the network was made."""
        found = self._nft_counters("bridge", "vpc")
        return {
            f"{node.name}/{eni.name}": {rule: found[_counter(node, eni, rule)] for rule in RULES}
            for node in self.topology.servers
            for eni in node.enis
        }

    def strays(self) -> int:
        """Number of answers to the internet that the router has dropped because it did not forward their request."""
        return self._nft_counters("inet", "router")[STRAY]

    def register(self, eni: ENI, address: str) -> None:
        """Let an ENI send from one more address, IPv4 or IPv6; changes nothing if it may already."""
        self._change("add", eni, address)

    def unregister(self, eni: ENI, address: str) -> None:
        """Drop what an ENI sends from an address from now on. Raises KernelFailure if it was not registered."""
        self._change("delete", eni, address)

    def _change(self, verb: str, eni: ENI, address: str) -> None:
        port = self.topology.owner(eni).port(eni.name)
        element = f"{verb} element bridge vpc {port}-ipv{ip_address(address).version} {{ {address} }}"
        namespaces.run_tool(_in(self.vpc, "nft", "-f", "-"), element)

    def _nft_counters(self, family: str, table: str) -> dict[str, int]:
        listed = namespaces.run_tool(_in(self.vpc, "nft", "-j", "list", "counters", "table", family, table))
        counters = (entry["counter"] for entry in json.loads(listed)["nftables"] if "counter" in entry)
        return {counter["name"]: int(counter["packets"]) for counter in counters}

    def _namespaces(self) -> list[str]:
        nodes = self.topology.nodes if self.backend is NodeBackend.NATIVE else ()
        return [*(self.node_namespace(node) for node in nodes), self.vpc, self.internet, self.management]

    def _make(self) -> None:
        namespaces.ip_batch(f"netns add {name}" for name in self._namespaces())
        for router in (self.vpc, self.internet):
            namespaces.call_in(namespaces.path(router), lambda: _write_sysctls(_ROUTER_SYSCTLS))
        rules = [*_anti_spoof(self.topology), *_translation(self.topology), *_statefulness()]
        namespaces.run_tool(_in(self.vpc, "nft", "-f", "-"), "\n".join(rules))
        namespaces.ip_batch(self._links(), netns=self.vpc)
        namespaces.ip_batch(self._forwarding(), netns=self.vpc, tool="bridge")
        namespaces.ip_batch(self._uplink(), netns=self.vpc)
        namespaces.ip_batch(self._outside(), netns=self.internet)
        namespaces.ip_batch(self._host_end(), netns=self.management)

    def _links(self) -> Iterator[str]:
        yield "link set lo up"
        for vswitch in self.topology.vswitches:
            yield f"link add {vswitch.name} type bridge"
            yield from (f"address add {gateway} dev {vswitch.name}" for gateway in vswitch.gateways)
            yield f"link set {vswitch.name} up"
        yield f"link add {MANAGEMENT} type bridge"
        yield f"link set {MANAGEMENT} up addrgenmode none"
        yield f"link add host type veth peer name {MANAGEMENT} netns {self.management}"
        yield f"link set host master {MANAGEMENT} up"
        for node in self.topology.nodes:
            yield from self._eni_ports(node, self._namespace(node))
            yield from _port(node.port(MANAGEMENT), MANAGEMENT, self._namespace(node), MANAGEMENT, node.management_mac)
        if self.topology.control_plane:
            yield from self._eni_ports(self.topology.control_plane, self.management)

    def _namespace(self, node: LabNode) -> str | None:
        return None if self.backend is NodeBackend.UML else self.node_namespace(node)

    def _eni_ports(self, server: LabNode, netns: str | None) -> Iterator[str]:
        for eni in server.enis:
            yield from _port(server.port(eni.name), eni.vswitch.name, netns, eni.name, eni.mac)
            yield f"link set {server.port(eni.name)} mtu {eni.mtu} type bridge_slave learning off flood off"

    def _forwarding(self) -> Iterator[str]:
        """One static entry per ENI; with learning and flooding off, frames to any other MAC go nowhere."""
        for node in self.topology.servers:
            for eni in node.enis:
                yield f"fdb add {eni.mac} dev {node.port(eni.name)} master static"

    def _uplink(self) -> Iterator[str]:
        """The cloud's end. The blackhole keeps traffic to unused elastic addresses from going back to the internet."""
        yield f"link add {UPLINK} type veth peer name cloud netns {self.internet}"
        yield from _link_end(UPLINK, self.topology.internet.cloud, ("default",), self.topology.internet.router)
        yield f"route add blackhole {self.topology.internet.elastic[0]}"

    def _outside(self) -> Iterator[str]:
        internet = self.topology.internet
        yield "link set lo up"
        yield from (f"address add {address} dev lo" for address in (*internet.server, *internet.client))
        yield from _link_end("cloud", internet.router, internet.elastic, internet.cloud)

    def _host_end(self) -> Iterator[str]:
        yield "link set lo up"
        yield f"address add {self.topology.host}/{self.topology.management_prefix_length} dev {MANAGEMENT}"
        yield f"link set {MANAGEMENT} up"
        for eni in self.topology.control_plane.enis if self.topology.control_plane else ():
            for config in eni.address_configs:
                yield f"address add {config.interface} dev {eni.name}{' nodad' if config.version == 6 else ''}"
            yield f"link set {eni.name} up"
            yield from (f"route add default via {config.gateway} dev {eni.name}" for config in eni.address_configs)


def _port(port: str, bridge: str, netns: str | None, link: str, mac: str) -> Iterator[str]:
    """A port of a bridge: a link with that MAC in a namespace, or without one a tap for User Mode Linux."""
    if netns is None:
        yield f"tuntap add {port} mode tap vnet_hdr"
    else:
        yield f"link add {port} type veth peer name {link} address {mac} netns {netns}"
    yield f"link set {port} master {bridge} up addrgenmode none"


def _link_end(link: str, own: Iterable[str], behind: Iterable[str], far: Iterable[str]) -> Iterator[str]:
    """One end of the link between cloud and internet: its addresses, and routes to ``behind`` by the other end."""
    yield from (f"address add {address} dev {link}" for address in own)
    yield f"link set {link} up"
    for network in behind:
        for router in (ip_interface(address).ip for address in far):
            if network == "default" or ip_network(network).version == router.version:
                yield f"route add {network} via {router} dev {link}"


def _translation(topology: Topology) -> Iterator[str]:
    """Translation of elastic addresses in both directions, then by the NAT gateway of each vSwitch."""
    enis = [eni for node in topology.nodes for eni in node.enis]
    elastic = {eni.elastic: eni.address for eni in enis if eni.elastic}
    subnets = {vswitch.subnet: vswitch.nat for vswitch in topology.vswitches if vswitch.nat}
    yield "table ip nat {"
    yield from _address_map("inwards", elastic)
    yield from _address_map("outwards", {address: public for public, address in elastic.items()})
    yield from _address_map("gateways", subnets)
    yield "chain prerouting {"
    yield "type nat hook prerouting priority dstnat; policy accept;"
    yield f'iifname "{UPLINK}" dnat to ip daddr map @inwards'
    yield "}"
    yield "chain postrouting {"
    yield "type nat hook postrouting priority srcnat; policy accept;"
    yield from (f'oifname "{UPLINK}" snat to ip saddr map @{name}' for name in ("outwards", "gateways"))
    yield "}"
    yield "}"


def _address_map(name: str, pairs: dict[str, str]) -> Iterator[str]:
    elements = f"elements = {{ {', '.join(f'{key} : {value}' for key, value in pairs.items())} }};" if pairs else ""
    yield f"map {name} {{ type ipv4_addr : ipv4_addr; flags interval; {elements} }}"


def _statefulness() -> Iterator[str]:
    """Drop answers whose request the router did not forward, as every router that translates addresses does."""
    yield "table inet router {"
    yield f"counter {STRAY} {{ }}"
    yield "chain forward {"
    yield "type filter hook forward priority filter; policy accept;"
    yield f'oifname "{UPLINK}" ct state invalid counter name {STRAY} drop'
    yield "}"
    yield "}"


def _anti_spoof(topology: Topology) -> Iterator[str]:
    enis = [(node, eni) for node in topology.servers for eni in node.enis]
    yield "table bridge vpc {"
    for node, eni in enis:
        yield from _port_chain(node, eni)
    ports = ", ".join(f'"{node.port(eni.name)}" : jump {node.port(eni.name)}' for node, eni in enis)
    yield "chain prerouting {"
    yield "type filter hook prerouting priority -300; policy accept;"
    yield f"iifname vmap {{ {ports} }}"
    yield "}"
    yield "}"


def _port_chain(node: LabNode, eni: ENI) -> Iterator[str]:
    port = node.port(eni.name)
    for rule in RULES:
        yield f"counter {_counter(node, eni, rule)} {{ }}"
    ipv4, ipv6 = _by_family(eni)
    yield f"set {port}-ipv4 {{ type ipv4_addr; elements = {{ {', '.join(ipv4)} }}; }}"
    yield f"set {port}-ipv6 {{ type ipv6_addr; flags interval; elements = {{ {', '.join(ipv6)} }}; }}"
    yield f"chain {port} {{"
    for match, rule in (
        (f"ether saddr != {eni.mac}", "spoof_mac"),
        (f"arp saddr ether != {eni.mac}", "spoof_arp"),
        (f"arp saddr ip != @{port}-ipv4", "spoof_arp"),
        (f"ip saddr != @{port}-ipv4", "spoof_ip"),
        (f"ip6 saddr != @{port}-ipv6", "spoof_ip6"),
    ):
        log = f'log prefix "{node.name}/{eni.name} {rule}" group {frames.GROUP} snaplen {frames.SNAPSHOT}'
        yield f"{match} counter name {_counter(node, eni, rule)} {log} drop"
    yield "}"


def _by_family(eni: ENI) -> tuple[list[str], list[str]]:
    """Registered IPv4 and IPv6 addresses; also ``::`` and link-local, for neighbour discovery (RFC 4861)."""
    addresses = [ip_address(text) for text in eni.registered]
    ipv4 = [str(address) for address in addresses if address.version == 4]
    return ipv4, ["::", "fe80::/10", *(str(address) for address in addresses if address.version == 6)]


def _counter(node: LabNode, eni: ENI, rule: str) -> str:
    return f"{node.port(eni.name)}-{rule}"


def _in(netns: str, *argv: str) -> list[str]:
    return ["ip", "netns", "exec", netns, *argv]


def _write_sysctls(values: dict[str, str]) -> None:
    """Set the sysctls that this kernel has: those of bridge filtering and IPv6 may be missing."""
    for name, value in values.items():
        file = Path("/proc/sys/net") / name
        if file.exists():
            file.write_text(value)


def _check_names(node: LabNode) -> None:
    for link in (*(eni.name for eni in node.enis), MANAGEMENT):
        if len(node.port(link)) > _LINK_NAME_MAX:
            raise BadConfig(
                f"node {node.name}: {node.port(link)!r} is longer than a link name may be; shorten the node's name"
            )

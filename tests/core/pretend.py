"""A pretend kernel with one node and one pod: carries out steps, and routes by rules and longest prefix match."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network

from spiderpool.core.network.plumbing.drift import PresentState
from spiderpool.core.network.plumbing.naming import MAIN_TABLE, host_interface
from spiderpool.core.network.plumbing.refresh import PathSettings, PodLink
from spiderpool.core.network.plumbing.removal import LeftoverState
from spiderpool.core.network.plumbing.routing import NodePath
from spiderpool.core.network.plumbing.steps import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    AddRule,
    CreateLink,
    CreateVeth,
    DeleteLink,
    LoadMarks,
    MoveLink,
    Remove,
    SetLink,
    SetSysctl,
    Side,
    Step,
)
from spiderpool.core.network.plumbing.values import Address, Attachment, Link, NodeAddress, Observation, PodState
from tests.kernel.questions import ETH0, NET1, NextHop, Question


@dataclass
class NetnsState:
    """The state of one namespace."""

    links: dict[str, Link] = field(default_factory=dict)
    addresses: list[AddAddress] = field(default_factory=list)
    routes: list[AddRoute] = field(default_factory=list)
    rules: list[AddRule] = field(default_factory=list)
    neighbours: dict[tuple[str, Address], AddNeighbour] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)
    marks: set[int] = field(default_factory=set)


class Pretend:
    """A node with NICs eth0 and eth1 (addresses of both families) and one pod."""

    def __init__(self) -> None:
        self.sides: dict[Side, NetnsState] = {"node": NetnsState(), "pod": NetnsState()}
        self.sides["pod"].links["lo"] = Link("lo", 1)
        self._indexes = 10
        for index, (nic, nets) in enumerate((("eth0", ETH0), ("eth1", NET1)), 2):
            self.sides["node"].links[nic] = Link(nic, index, mac=f"00:16:3e:00:01:0{index}")
            for net in nets.values():
                self.node_address(nic, f"{net.node}/{net.length}")

    def node_address(self, nic: str, address: str) -> None:
        """The node gains an address."""
        self._execute(AddAddress("node", nic, ip_interface(address)))

    def lose_node_address(self, address: str) -> None:
        """The node loses an address."""
        node = self.sides["node"]
        node.addresses = [one for one in node.addresses if one.address.ip != ip_address(address)]

    def flush(self) -> None:
        """Another program removes the rules and the routes of all tables but main from the node."""
        node = self.sides["node"]
        node.rules = []
        node.routes = [route for route in node.routes if route.table == MAIN_TABLE]

    def other_cni(self, gateway: str = "10.244.0.1", address: str = "10.244.0.9") -> None:
        """Another CNI plugin gives the pod an eth0: a veth with a default route."""
        self.sides["node"].links["calif00"] = Link("calif00", 8, "veth", mac="ee:ee:ee:ee:ee:ee", parent=5)
        self.sides["pod"].links["eth0"] = Link("eth0", 5, "veth", mac="02:00:00:00:00:05", parent=8)
        self._execute(AddAddress("pod", "eth0", ip_interface(f"{address}/32")))
        self._execute(AddRoute("pod", ip_network(gateway), "eth0"))
        self._execute(AddRoute("pod", ip_network("0.0.0.0/0"), "eth0", ip_address(gateway)))

    def apply(self, steps: Iterable[Step]) -> None:
        """Carry out steps. Raises AssertionError for what a kernel would refuse."""
        for step in steps:
            self._execute(step)

    def observe(self, attachment: Attachment) -> Observation:
        """As `kernel.observing.observe`."""
        node = self.sides["node"]
        end = self._host_end(attachment.container_id)
        sources = {ETH0[address.version].node: None for address in attachment.addresses}
        return Observation(
            master=node.links.get(attachment.master),
            links=tuple(node.links),
            taken=attachment.ifname in node.links,
            addresses=self._node_addresses(),
            sources=tuple(ip_address(source) for source in sources),
            host_end=end,
            pod=self.pod(),
            gateways=self._gateways(),
        )

    def pod(self) -> PodState:
        """As `kernel.observing.observe_pod`."""
        pod = self.sides["pod"]
        return PodState(
            tuple(pod.links.values()),
            tuple(pod.addresses),
            tuple(pod.routes),
            tuple(pod.rules),
            tuple(pod.neighbours.values()),
        )

    def leftovers(self, container_id: str) -> LeftoverState:
        """As `kernel.observing.observe_leftovers`."""
        end, node = self._host_end(container_id), self.sides["node"]
        if end is None:
            return LeftoverState(self.pod())
        return LeftoverState(
            self.pod(),
            end.name,
            tuple(route for route in node.routes if route.link == end.name and route.table != MAIN_TABLE),
            tuple(one for one in node.neighbours.values() if one.link == end.name),
        )

    def pod_link(self, container_id: str, settings: PathSettings | None = None) -> PodLink:
        """As `kernel.observing.observe_pod_link`."""
        end, links = self._host_end(container_id), self.sides["pod"].links
        link = links.get("veth0") or links.get("eth0")
        path = NodePath(link.name, link.mac, end.name, end.mac) if link and end else None
        node = self.sides["node"]
        mine: list[AddRoute | AddNeighbour] = [*node.routes, *node.neighbours.values()]
        present: set[Step] = {*node.rules, *(one for one in mine if end and one.link == end.name)}
        present |= {SetSysctl("node", name, value, required=False) for name, value in node.sysctls.items()}
        settings = settings or PathSettings()
        return PodLink(self.pod(), path, self._node_addresses(), frozenset(present), settings, self._gateways())

    def _gateways(self) -> tuple[Address, ...]:
        return tuple(route.gateway for route in self.sides["node"].routes if route.gateway)

    def present(self) -> PresentState:
        """As `kernel.observing.observe_present`, for every object."""
        things: set[Step] = set()
        for name, state in self.sides.items():
            things |= {*state.addresses, *state.routes, *state.rules, *state.neighbours.values()}
            things |= {SetSysctl(name, path, value) for path, value in state.sysctls.items()}
        links = tuple((name, link) for name, state in self.sides.items() for link in state.links.values())
        return PresentState(links, frozenset(things), tuple(self.sides["pod"].marks))

    def route_of(self, question: Question) -> NextHop | None:
        """The next hop of a packet."""
        side, destination = self.sides[question.side], ip_address(question.destination)
        source = ip_address(question.source) if question.source else None
        for rule in sorted(self._rules(side, destination.version), key=lambda one: one.priority):
            if rule.mark is not None and question.mark & rule.mask != rule.mark:
                continue
            if rule.source is not None and (source is None or source not in rule.source):
                continue
            found = [one for one in side.routes if one.table == rule.table and destination in one.destination]
            if found:
                best = max(found, key=lambda one: one.destination.prefixlen)
                return NextHop(best.link, str(best.gateway) if best.gateway else None)
        return None

    def _rules(self, side: NetnsState, version: int) -> list[AddRule]:
        main = AddRule("pod", version, 32766, MAIN_TABLE)
        return [*(rule for rule in side.rules if rule.version == version), main]

    def _host_end(self, container_id: str) -> Link | None:
        node, pod = self.sides["node"].links, self.sides["pod"].links
        if host_interface(container_id) in node or "veth0" in pod:
            return node.get(host_interface(container_id))
        eth0 = pod.get("eth0")
        if eth0 is None or eth0.kind != "veth":
            return None
        return next((link for link in node.values() if link.index == eth0.parent), None)

    def _node_addresses(self) -> tuple[NodeAddress, ...]:
        return tuple(NodeAddress(one.link, one.address.ip) for one in self.sides["node"].addresses)

    def _new_link(self, side: Side, link: Link) -> None:
        links = self.sides[side].links
        assert link.name not in links, f"{link.name} exists"
        self._indexes += 1
        links[link.name] = replace(link, index=self._indexes, up=False)

    def _execute(self, step: Step) -> None:
        state = self.sides[step.side]
        match step:
            case CreateLink() | CreateVeth() | MoveLink() | DeleteLink() | SetLink():
                self._execute_on_link(state, step)
            case Remove():
                self._remove(state, step.what)
            case SetSysctl():
                state.sysctls[step.path] = step.value
            case LoadMarks():
                state.marks |= set(step.versions)
            case AddAddress() | AddRoute() | AddRule() | AddNeighbour():
                self._add(state, step)
            case _:
                pass

    def _execute_on_link(
        self, state: NetnsState, step: CreateLink | CreateVeth | MoveLink | DeleteLink | SetLink
    ) -> None:
        match step:
            case CreateLink():
                master = self.sides["node"].links[step.master]
                assert step.temporary or step.name not in self.sides["node"].links
                made = Link(step.name, 0, step.kind, step.mode, step.mac or master.mac, step.mtu, parent=master.index)
                self._new_link(step.side, replace(made, vlan_id=step.vlan_id))
            case CreateVeth():
                self._new_link("node", Link(step.name, 0, "veth", mac=step.mac, mtu=step.mtu))
                self._new_link("pod", Link(step.peer, 0, "veth", mac=step.peer_mac, mtu=step.mtu))
            case MoveLink():
                origin = self.sides["pod" if step.side == "node" else "node"]
                link = replace(origin.links[step.name], name=step.new_name)
                self._vanish(step.name, origin)
                self._new_link(step.side, link)
            case DeleteLink():
                self._delete(step)
            case SetLink():
                link = state.links[step.name]
                state.links[step.name] = replace(link, up=True, mac=step.mac or link.mac, mtu=step.mtu or link.mtu)

    def _add(self, state: NetnsState, step: AddAddress | AddRoute | AddRule | AddNeighbour) -> None:
        match step:
            case AddAddress():
                state.addresses.append(step)
                network = step.address.network
                source = step.address.ip if step.address.version == 4 else None
                state.routes.append(AddRoute(step.side, network, step.link, source=source))
            case AddRoute():
                self._route(state, step)
            case AddRule():
                state.rules += [] if step in state.rules else [step]
            case AddNeighbour():
                assert step.link in state.links
                state.neighbours[step.link, step.address] = step

    def _remove(self, state: NetnsState, what: AddRoute | AddRule | AddNeighbour) -> None:
        match what:
            case AddNeighbour():
                state.neighbours.pop((what.link, what.address), None)
            case AddRule():
                state.rules = [rule for rule in state.rules if rule != what]
            case AddRoute():
                state.routes = [route for route in state.routes if route != what]

    def _route(self, side: NetnsState, step: AddRoute) -> None:
        assert step.link in side.links, f"{step}: no such link"
        if step.gateway is not None:
            near = (route for route in side.routes if route.link == step.link and route.gateway is None)
            assert any(step.gateway in route.destination for route in near), f"{step}: unreachable gateway"
        if step.source is not None:
            assert step.source in {one.address.ip for one in side.addresses}, f"{step}: no such source"
        key = (step.table, step.destination)
        same = next((one for one in side.routes if (one.table, one.destination) == key), None)
        if same is None:
            side.routes.append(step)
        else:
            side.routes[side.routes.index(same)] = step

    def _delete(self, step: DeleteLink) -> None:
        side = self.sides[step.side]
        if step.name not in side.links:
            return
        if side.links[step.name].kind == "veth":
            for other in self.sides.values():
                for name in [name for name in other.links if name.startswith("veth")]:
                    self._vanish(name, other)
        else:
            self._vanish(step.name, side)

    def _vanish(self, name: str, side: NetnsState) -> None:
        del side.links[name]
        gone = {one.address.ip for one in side.addresses if one.link == name}
        side.addresses = [one for one in side.addresses if one.link != name]
        side.routes = [one for one in side.routes if one.link != name and one.source not in gone]
        side.neighbours = {key: one for key, one in side.neighbours.items() if one.link != name}

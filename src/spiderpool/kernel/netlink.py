"""Observe a node and a pod by rtnetlink, and apply the steps of core.plumbing.

One netlink socket per side, each opened in its namespace, for the length of one call. Steps that need no netlink
(sysctls, marks, announcements) run on a thread inside the namespace, neighbouring ones together.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias, assert_never

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from spiderpool.core.plumbing import (
    MAIN_TABLE,
    MARK,
    MARK_TABLE,
    MODES,
    VETH,
    AddAddress,
    AddNeighbour,
    Address,
    AddRoute,
    AddRule,
    Announce,
    Attachment,
    CreateLink,
    CreateVeth,
    DeleteLink,
    Link,
    LoadMarks,
    Network,
    NodeAddress,
    Observation,
    Present,
    SetLink,
    SetSysctl,
    Step,
    Where,
    host_interface,
)
from spiderpool.errors import KernelFailure
from spiderpool.kernel import arp, marks, sysctl
from spiderpool.kernel.namespaces import opened, run_inside, socket_in_netns

NetlinkStep: TypeAlias = CreateLink | CreateVeth | DeleteLink | SetLink | AddAddress | AddRoute | AddRule | AddNeighbour
InsideStep: TypeAlias = SetSysctl | LoadMarks | Announce

TIMEOUT = 10.0
"""Seconds for the answer to one netlink request."""

_SOL_NETLINK, _NETLINK_EXT_ACK = 270, 11
_IFF_UP = 0x1
_IFA_F_NODAD = 0x02
_NUD_PERMANENT = 0x80
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSIONS = {family: version for version, family in _FAMILIES.items()}


@dataclass(slots=True)
class Side:
    """One namespace at work: its netlink socket, its descriptor (None is our own), and the links met so far."""

    where: Where
    route: Any
    namespace: int | None
    links: dict[str, Link] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The node and, unless it is gone, one pod."""

    node: Side
    pod: Side | None

    def side(self, where: Where) -> Side:
        """The side on which a step acts."""
        side = self.node if where == "node" else self.pod
        if side is None:
            raise KernelFailure("the pod's network namespace is gone")
        return side


@contextlib.asynccontextmanager
async def opened_kernel(netns: str | None, node: Path | None = None) -> AsyncIterator[Kernel]:
    """Open the pod's namespace (None: there is no pod any more) and the node's (None: our own).

    Raises:
        BadNamespace: a path is missing or no network namespace.
    """
    async with contextlib.AsyncExitStack() as stack:
        node_side = await _open_side(stack, "node", node)
        pod_side = await _open_side(stack, "pod", netns) if netns is not None else None
        yield Kernel(node_side, pod_side)


async def observe(kernel: Kernel, attachment: Attachment) -> Observation:
    """What `core.plumbing.plan` needs to know before it gives the pod this interface."""
    node, pod = kernel.side("node"), kernel.side("pod")
    master = await find_link(node, attachment.master)
    pod_links = await _links(pod)
    veth = next((link for link in pod_links if link.name == VETH), None)
    return Observation(
        master=master,
        links=() if master else tuple(link.name for link in await _links(node)),
        addresses=await _node_addresses(node),
        sources=await _first_node_addresses(kernel, attachment, veth),
        forwarding=await run_inside(node.namespace, lambda: sysctl.read("net/ipv4/ip_forward")) != "0",
        host_interface=await find_link(node, host_interface(attachment.container_id)) is not None,
        pod_links=pod_links,
        marked=any(rule.mark == MARK for rule in await _rules(pod)),
    )


async def apply(kernel: Kernel, steps: Sequence[Step]) -> None:
    """Carry out steps in order. A route, rule or neighbour that is right already, or a link that is gone, is success.

    Raises:
        KernelFailure: names the step and the kernel's answer.
    """
    for (where, inside), group in groupby(steps, lambda step: (step.where, isinstance(step, InsideStep))):
        members = list(group)
        if inside:
            await _apply_inside(kernel.side(where), members)
            continue
        for step in members:
            await _apply_one(kernel, step, steps)


async def find_link(side: Side, name: str) -> Link | None:
    """A link by name; None if there is none. Links that were met before are remembered."""
    if name in side.links:
        return side.links[name]
    try:
        messages = await _ask(side.route.link("get", ifname=name))
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise KernelFailure(f"{side.where}: look up {name}: {_reason(error)}") from error
    side.links[name] = _link(messages[0])
    return side.links[name]


async def present(kernel: Kernel, steps: Iterable[Step]) -> Present:
    """What is there of the things that ``steps`` speak of."""
    sides = [kernel.side("node"), kernel.side("pod")]
    wanted = {(step.where, step.name) for step in steps if isinstance(step, CreateVeth | SetLink)}
    links: list[tuple[Where, Link]] = [("pod", link) for link in await _links(kernel.side("pod"))]
    for _, name in {one for one in wanted if one[0] == "node"}:
        link = await find_link(kernel.side("node"), name)
        links += [("node", link)] if link else []
    there: set[Step] = set()
    for side in sides:
        names = {link.index: link.name for where, link in links if where == side.where}
        there |= {*await _addresses(side, names), *await _routes(side, names), *await _rules(side)}
        there |= {*await _neighbours(side, names), *await _sysctls(side, steps)}
    loaded = await run_inside(kernel.side("pod").namespace, marks.loaded)
    return Present(tuple(links), frozenset(there), loaded)


async def _open_side(stack: contextlib.AsyncExitStack, where: Where, path: str | Path | None) -> Side:
    namespace = stack.enter_context(opened(path)) if path is not None else None
    sock = await socket_in_netns(namespace, socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
    stack.callback(sock.close)
    sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
    return Side(where, await stack.enter_async_context(_netlink(sock)), namespace)


def _netlink(sock: socket.socket) -> Any:
    return AsyncIPRoute(use_socket=sock)  # type: ignore[no-untyped-call]


async def _ask(request: Any) -> list[Any]:
    async with _in_time():
        return list(await request)


async def _dump(request: Any) -> list[Any]:
    async with _in_time():
        return [message async for message in await request]


@contextlib.asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(TIMEOUT):
            yield
    except TimeoutError as error:
        raise KernelFailure(f"no answer from netlink within {TIMEOUT:g} seconds") from error


async def _apply_one(kernel: Kernel, step: Any, steps: Sequence[Step]) -> None:
    try:
        await _execute(kernel, step)
    except NetlinkError as error:
        raise KernelFailure(_sentence(step, error, steps), f"step: {step}") from error


async def _execute(kernel: Kernel, step: NetlinkStep) -> None:
    side = kernel.side(step.where)
    match step:
        case CreateLink():
            await _create_link(kernel, step)
        case CreateVeth():
            await _create_veth(kernel, step)
        case DeleteLink():
            _forget_links(kernel)
            await _delete_link(side, step)
        case SetLink():
            queue = {"txqlen": step.tx_queue_len} if step.tx_queue_len else {}
            await _ask(side.route.link("set", index=await _index(side, step.name), state="up", **queue))
        case AddAddress():
            await _add_address(side, step)
        case AddRoute():
            await _ask(side.route.route("replace", **_route_request(step, await _index(side, step.link))))
        case AddRule():
            await _add_rule(side, step)
        case AddNeighbour():
            await _add_neighbour(side, step)
        case _:
            assert_never(step)


async def _create_link(kernel: Kernel, step: CreateLink) -> None:
    pod, master = kernel.side("pod"), await _index(kernel.node, step.master)
    mode: dict[str, object] = {"macvlan_mode": step.mode}
    if step.kind == "ipvlan":
        mode = {"ipvlan_mode": MODES["ipvlan"].index(step.mode)}
    request = {"ifname": step.temporary, "kind": step.kind, "link": master, "mtu": step.mtu}
    await _ask(kernel.node.route.link("add", net_ns_fd=pod.namespace, **request, **mode))
    index = await _index(pod, step.temporary)
    await _ask(pod.route.link("set", index=index, ifname=step.name))
    pod.links[step.name] = replace(pod.links.pop(step.temporary), name=step.name)


async def _create_veth(kernel: Kernel, step: CreateVeth) -> None:
    peer = {"ifname": step.peer, "address": step.peer_mac, "mtu": step.mtu, "net_ns_fd": kernel.side("pod").namespace}
    await _ask(kernel.node.route.link("add", kind="veth", ifname=step.name, address=step.mac, mtu=step.mtu, peer=peer))


def _forget_links(kernel: Kernel) -> None:
    """A veth takes its peer along, which may be on the other side."""
    kernel.node.links.clear()
    if kernel.pod is not None:
        kernel.pod.links.clear()


async def _delete_link(side: Side, step: DeleteLink) -> None:
    try:
        await _ask(side.route.link("del", ifname=step.name))
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


async def _add_address(side: Side, step: AddAddress) -> None:
    flags = {"flags": _IFA_F_NODAD} if step.address.version == 6 else {}
    await _ask(
        side.route.addr(
            "add",
            index=await _index(side, step.link),
            address=str(step.address.ip),
            prefixlen=step.address.network.prefixlen,
            family=_FAMILIES[step.address.version],
            **flags,
        )
    )


async def _add_rule(side: Side, step: AddRule) -> None:
    mark = {"fwmark": step.mark, "fwmask": 0xFFFFFFFF} if step.mark is not None else {}
    family = _FAMILIES[step.version]
    try:
        await _ask(side.route.rule("add", family=family, priority=step.priority, table=step.table, **mark))
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


async def _add_neighbour(side: Side, step: AddNeighbour) -> None:
    await _ask(
        side.route.neigh(
            "replace",
            family=_FAMILIES[step.address.version],
            ifindex=await _index(side, step.link),
            dst=str(step.address),
            lladdr=step.mac,
            state=_NUD_PERMANENT,
        )
    )


def _route_request(step: AddRoute, index: int) -> dict[str, object]:
    request: dict[str, object] = {
        "family": _FAMILIES[step.destination.version],
        "dst": str(step.destination),
        "oif": index,
        "table": step.table,
    }
    if step.gateway is not None:
        request["gateway"] = str(step.gateway)
    if step.source is not None:
        request["prefsrc"] = str(step.source)
    if step.destination.version == 4:
        request["scope"] = _SCOPE_UNIVERSE if step.gateway else _SCOPE_LINK
    return request


async def _apply_inside(side: Side, steps: Sequence[Any]) -> None:
    finish = contextlib.ExitStack()

    def work() -> None:
        for step in steps:
            _execute_inside(step, finish)

    await run_inside(side.namespace, work, finish.close)


def _execute_inside(step: InsideStep, finish: contextlib.ExitStack) -> None:
    match step:
        case SetSysctl():
            sysctl.write(step.path, step.value)
        case LoadMarks():
            marks.load(step.link, step.mark, afresh=step.afresh)
        case Announce():
            arp.announce(step.link, step.address, finish)
        case _:
            assert_never(step)


async def _index(side: Side, name: str) -> int:
    link = await find_link(side, name)
    if link is None:
        raise KernelFailure(f"{side.where}: {name} has disappeared while it was set up")
    return link.index


def _sentence(step: Step, error: Any, steps: Sequence[Step]) -> str:
    child = next((one for one in steps if isinstance(one, CreateLink)), None)
    match step, error.code:
        case AddAddress(), errno.EADDRINUSE if child is not None:
            return (
                f"{step.address.ip} is already assigned to an {child.kind} device on {child.master}:"
                f" another sandbox still holds it"
            )
        case CreateLink(), errno.EBUSY:
            return (
                f"{step.master} cannot have a {step.kind} child: it has children of another kind (macvlan and ipvlan"
                f" exclude each other on one card) or belongs to a bridge or bond"
            )
        case CreateLink(), errno.EOPNOTSUPP:
            return f"this kernel has no {step.kind}: load the module {step.kind} on the node"
    return f"{step}: {_reason(error)}"


def _reason(error: Any) -> str:
    return f"{os.strerror(error.code)} (errno {error.code})"


async def _links(side: Side) -> tuple[Link, ...]:
    links = tuple(_link(message) for message in await _dump(side.route.link("dump")))
    side.links.update({link.name: link for link in links})
    return links


async def _node_addresses(node: Side) -> tuple[NodeAddress, ...]:
    names = {link.index: link.name for link in node.links.values()}
    found = []
    for family in _FAMILIES.values():
        for message in await _dump(node.route.addr("dump", family=family)):
            address = ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
            if address.is_link_local or address.is_loopback:
                continue
            name = await _name(node, message["index"], names)
            found += [NodeAddress(name, address)] if name else []
    return tuple(found)


async def _name(side: Side, index: int, names: dict[int, str]) -> str:
    """The name of a link by index, remembered in ``names``; empty if it is gone by now."""
    if index not in names:
        try:
            names[index] = _link((await _ask(side.route.link("get", index=index)))[0]).name
        except NetlinkError:
            return ""
    return names[index]


async def _first_node_addresses(kernel: Kernel, attachment: Attachment, veth: Link | None) -> tuple[Address, ...]:
    """The node's address towards each address of the pod.

    If the pod has its veth already, the routes there tell what was chosen; the node's own table does not,
    since its route to the pod then leads over the veth, which has no address.
    """
    if veth is not None:
        routes = await _routes(kernel.side("pod"), {veth.index: veth.name})
        return tuple(one.gateway for one in routes if one.table == MARK_TABLE and one.gateway is not None)
    sources = [await _source_towards(kernel.node, address.ip) for address in attachment.addresses]
    return tuple(source for source in sources if source is not None)


async def _source_towards(node: Side, address: Address) -> Address | None:
    try:
        messages = await _ask(node.route.route("get", family=_FAMILIES[address.version], dst=str(address)))
    except NetlinkError:
        return None
    source = messages[0].get_attr("RTA_PREFSRC")
    return ip_address(source) if source else None


async def _addresses(side: Side, names: dict[int, str]) -> list[AddAddress]:
    return [
        AddAddress(side.where, names[message["index"]], ip_interface(f"{address}/{message['prefixlen']}"))
        for message in await _dump(side.route.addr("dump"))
        if message["index"] in names and (address := message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
    ]


async def _routes(side: Side, names: dict[int, str]) -> list[AddRoute]:
    return [
        _route(side.where, message, names[message.get_attr("RTA_OIF")])
        for family in _FAMILIES.values()
        for message in await _dump(side.route.route("dump", family=family))
        if message.get_attr("RTA_OIF") in names
    ]


def _route(where: Where, message: Any, link: str) -> AddRoute:
    gateway, source = message.get_attr("RTA_GATEWAY"), message.get_attr("RTA_PREFSRC")
    return AddRoute(
        where,
        _destination(message),
        link,
        ip_address(gateway) if gateway else None,
        ip_address(source) if source else None,
        message.get_attr("RTA_TABLE") or MAIN_TABLE,
    )


def _destination(message: Any) -> Network:
    everything = "0.0.0.0" if message["family"] == socket.AF_INET else "::"
    return ip_network(f"{message.get_attr('RTA_DST') or everything}/{message['dst_len']}")


async def _rules(side: Side) -> list[AddRule]:
    return [
        AddRule(
            side.where,
            _VERSIONS[message["family"]],
            message.get_attr("FRA_PRIORITY") or 0,
            message.get_attr("FRA_TABLE") or 0,
            message.get_attr("FRA_FWMARK"),
        )
        for family in _FAMILIES.values()
        for message in await _dump(side.route.rule("dump", family=family))
    ]


async def _neighbours(side: Side, names: dict[int, str]) -> list[AddNeighbour]:
    return [
        AddNeighbour(
            side.where,
            names[message["ifindex"]],
            ip_address(message.get_attr("NDA_DST")),
            message.get_attr("NDA_LLADDR"),
        )
        for family in _FAMILIES.values()
        for message in await _dump(side.route.neigh("dump", family=family))
        if message["ifindex"] in names and message["state"] & _NUD_PERMANENT
    ]


async def _sysctls(side: Side, steps: Iterable[Step]) -> list[SetSysctl]:
    paths = [step.path for step in steps if isinstance(step, SetSysctl) and step.where == side.where]
    values = await run_inside(side.namespace, lambda: [sysctl.read(path) for path in paths])
    return [SetSysctl(side.where, path, value) for path, value in zip(paths, values, strict=True)]


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        kind=kind,
        mode=_mode(kind, info),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & _IFF_UP),
        tx_queue_len=message.get_attr("IFLA_TXQLEN") or 0,
        parent=message.get_attr("IFLA_LINK") or 0,
    )


def _mode(kind: str, info: Any) -> str:
    if kind == "ipvlan":
        number = int(info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_IPVLAN_MODE"))
        return MODES["ipvlan"][number]
    if kind == "macvlan":
        return str(info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_MACVLAN_MODE"))
    return ""

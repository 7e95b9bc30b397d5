"""A node with one NIC, a router at the far end of its wire, and pods: network namespaces of this machine."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
from collections.abc import Sequence
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from spiderpool.kernel.namespaces import opened, socket_in_netns
from spiderpool_lab import namespaces
from tests.kernel.questions import CLIENT, ETH0, NET1, NextHop, Question
from tests.support.eventually import wait_until

NODE, ROUTER, SUBNET = "172.31.199.183", "172.31.207.253", "172.31.192.0/20"
NIC_MAC, SECOND_MAC = "02:16:3e:00:01:02", "02:16:3e:00:01:03"

ADDRESS_GROUPS = 1 << 4 | 1 << 8
"""RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR, as a bit mask."""

_NO_DAD = ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
_numbers = itertools.count()
_TIMEOUT = 5.0


class World:
    """Namespaces ``node`` (NIC eth0 172.31.199.183/20) and ``router`` (172.31.207.253/20), and pods on demand."""

    def __init__(self) -> None:
        _remove_left_over()
        self._prefix = f"spt{os.getpid()}x{next(_numbers)}"
        self._names: list[str] = []
        self.node, self.router = (Path(path) for path in self._namespaces("node", "router"))

    def build(self) -> None:
        """Create the wire and the addresses; few processes, which are dear in User Mode Linux."""
        # Linux asks for no neighbour while its own link-local address is tentative.
        for side in (self.node, self.router):
            self.inside(side, "sysctl", "-eqw", *_NO_DAD)
        far = f"link add eth0 address {NIC_MAC} type veth peer port netns {self.router.name}"
        self.batch(self.node, far, *_up("eth0", NODE), f"route add default via {ROUTER}")
        self.batch(self.router, *_up("port", ROUTER))

    def widen(self) -> None:
        """Add a second NIC eth1, IPv6 on both, default routes, and a client beyond the router."""
        far = f"link add eth1 address {SECOND_MAC} type veth peer port1 netns {self.router.name}"
        node = [far, "link set eth1 up"]
        router = ["link set port1 up", *(f"address add {client} dev lo" for client in CLIENT.values())]
        for nic, port, nets in (("eth0", "port", ETH0), ("eth1", "port1", NET1)):
            for version, net in nets.items():
                if (nic, version) != ("eth0", 4):
                    nodad = " nodad" if version == 6 else ""
                    node.append(f"address add {net.node}/{net.length} dev {nic}{nodad}")
                    router.append(f"address add {net.router}/{net.length} dev {port}{nodad}")
        node.append(f"route add ::/0 via {ETH0[6].router}")
        self.batch(self.node, *node)
        self.batch(self.router, *router)
        forwarding = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.inside(self.router, "sysctl", "-qw", *forwarding)

    def route_of(self, pod: str, questions: Sequence[Question]) -> dict[Question, NextHop | None]:
        """What the kernel says which way packets go."""
        answers: dict[Question, NextHop | None] = {}
        for where in ("pod", "node"):
            asked = [question for question in questions if question.side == where]
            answers |= dict(zip(asked, self._routes(self.node if where == "node" else pod, asked), strict=True))
        return answers

    def _routes(self, namespace: str | Path, questions: Sequence[Question]) -> list[NextHop | None]:
        lines = (
            f"route get {one.destination}"
            + (f" from {one.source}" if one.source else "")
            + (f" mark {one.mark}" if one.mark else "")
            for one in questions
        )
        printed = run("ip", "-n", Path(namespace).name, "-json", "-batch", "-", text="\n".join(lines))
        found: list[NextHop | None] = []
        decoder = json.JSONDecoder()
        while printed := printed.lstrip():
            answer, end = decoder.raw_decode(printed)
            found.append(NextHop(answer[0]["dev"], answer[0].get("gateway")))
            printed = printed[end:]
        return found

    def has(self, *kind: str) -> bool:
        """Whether this kernel has a kind of link, named with what it needs."""
        try:
            self.ip(self.node, "link", "add", "probe", "link", "eth0", "type", *kind)
        except AssertionError:
            return False
        self.ip(self.node, "link", "delete", "probe")
        return True

    def pod(self, name: str = "pod") -> str:
        """A new, empty pod namespace; returns its path."""
        return self._namespaces(name)[0]

    def pod_of_other_users(self, name: str = "pod") -> str:
        """As `pod`, owned by a user namespace whose users are 65536 others of the machine (``hostUsers: false``)."""
        path = f"/run/netns/{self._prefix}-{name}"
        Path(path).touch()
        with subprocess.Popen(
            ["unshare", "--user", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as owner:
            process = Path(f"/proc/{owner.pid}")
            wait_until(lambda: (process / "ns/user").readlink() != Path("/proc/self/ns/user").readlink(), "it is there")
            for kind in ("uid", "gid"):
                (process / f"{kind}_map").write_text("0 196608 65536")
            run("mount", "--bind", f"{process}/ns/net", path)
        self._names.append(Path(path).name)
        return path

    def batch(self, namespace: Path, *lines: str) -> None:
        """Run many ip(8) commands in a namespace."""
        run("ip", "-n", namespace.name, "-batch", "-", text="\n".join(lines))

    def ip(self, namespace: str | Path, *words: str) -> str:
        """Run ip(8) in a namespace and return what it prints."""
        return run("ip", "-n", Path(namespace).name, *words)

    def inside(self, namespace: str | Path, *words: str) -> str:
        """Run a program in a namespace and return what it prints."""
        return run("ip", "netns", "exec", Path(namespace).name, *words)

    def is_listening(self, groups: int = ADDRESS_GROUPS) -> bool:
        """Whether somebody in the node's namespace has joined the groups: their bits are in /proc/net/netlink."""
        table = self.inside(self.node, "cat", "/proc/net/netlink").splitlines()[1:]
        return any(int(line.split()[3], 16) & groups == groups for line in table)

    def remove(self, namespace: str) -> None:
        """Remove one namespace before the others."""
        name = Path(namespace).name
        self._names.remove(name)
        run("ip", "netns", "delete", name)

    def rename(self, namespace: str, path: str) -> None:
        """Have a namespace at another path."""
        Path(path).touch()
        run("mount", "--bind", namespace, path)
        self._names.append(Path(path).name)
        self.remove(namespace)

    def destroy(self) -> None:
        """Remove everything."""
        run("ip", "-force", "-batch", "-", text="\n".join(f"netns delete {name}" for name in self._names))

    def _namespaces(self, *roles: str) -> list[str]:
        names = [f"{self._prefix}-{role}" for role in roles]
        self._names += names
        run("ip", "-batch", "-", text="\n".join(f"netns add {name}" for name in names))
        return [f"/run/netns/{name}" for name in names]


@cache
def _remove_left_over() -> None:
    """Remove, once for each process of tests, what killed ones have left."""
    for left in namespaces.DIRECTORY.glob("spt*x*-*"):
        pid = left.name.removeprefix("spt").partition("x")[0]
        if not Path("/proc", pid).exists():
            namespaces.remove(left.name)


def run(*words: str, text: str = "") -> str:
    """Run a program; its output, or an error that shows it."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def _up(link: str, address: str) -> tuple[str, ...]:
    return ("link set lo up", f"link set {link} up", f"address add {address}/20 dev {link}")


def has_kind(kind: str) -> bool:
    """Whether this kernel has a kind of link."""
    world = World()
    try:
        world.build()
        return world.has(kind)
    finally:
        world.destroy()


_MARK_RULE = ("-t", "mangle", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "CONNMARK", "--save-mark")
_BACKEND_PROBES = {
    "nft": (("nft", "add", "table", "inet", "probe"),),
    "iptables": (("iptables-legacy", *_MARK_RULE), ("ip6tables-legacy", *_MARK_RULE)),
}


def has_backend(backend: str) -> bool:
    """Whether this kernel has nftables' inet family, or iptables' mangle tables with connection marks."""
    world = World()
    try:
        for command in _BACKEND_PROBES[backend]:
            world.inside(world.node, *command)
    except AssertionError:
        return False
    finally:
        world.destroy()
    return True


_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY = {4: "0.0.0.0", 6: "::"}


async def serve(namespace: str | Path, port: int, version: int = 4) -> asyncio.Server:
    """A TCP server in a namespace that tells each client the address it sees it by."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(writer.get_extra_info("peername")[0].encode())
        await writer.drain()
        writer.close()

    with opened(namespace) as descriptor:
        sock = await socket_in_netns(descriptor, _FAMILIES[version], socket.SOCK_STREAM, 0)
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier server may linger
    sock.bind((_ANY[version], port))
    return await asyncio.start_server(answer, sock=sock)


async def seen_by(
    namespace: str | Path, address: str, port: int, *, source: str = "", timeout: float = _TIMEOUT
) -> str:
    """Connect from a namespace, from one of its addresses if given; returns by which address the server saw us.

    Raises:
        TimeoutError: no connection.
    """
    loop = asyncio.get_running_loop()
    with opened(namespace) as descriptor:
        sock = await socket_in_netns(descriptor, _FAMILIES[ip_address(address).version], socket.SOCK_STREAM, 0)
    with sock:
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        async with asyncio.timeout(timeout):
            await loop.sock_connect(sock, (address, port))
            return (await loop.sock_recv(sock, 64)).decode()

"""A node with one card, a router at the far end of its wire, and pods: network namespaces of this machine."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
from pathlib import Path

from spiderpool.kernel.namespaces import opened, socket_in_netns

NODE, ROUTER, SUBNET = "172.31.199.183", "172.31.207.253", "172.31.192.0/20"
CARD_MAC = "02:16:3e:00:01:02"

_numbers = itertools.count()
_TIMEOUT = 5.0


class World:
    """Namespaces ``node`` (card eth0 172.31.199.183/20) and ``router`` (172.31.207.253/20), and pods on demand."""

    def __init__(self) -> None:
        self._prefix = f"spt{os.getpid()}x{next(_numbers)}"
        self._names: list[str] = []
        self.node, self.router = (Path(path) for path in self._namespaces("node", "router"))

    def build(self) -> None:
        """Create the wire and the addresses; few processes, which are dear in User Mode Linux."""
        far = f"link add eth0 address {CARD_MAC} type veth peer port netns {self.router.name}"
        self.batch(self.node, far, *_up("eth0", NODE), f"route add default via {ROUTER}")
        self.batch(self.router, *_up("port", ROUTER))

    def pod(self, name: str = "pod") -> str:
        """A new, empty pod namespace; returns its path."""
        return self._namespaces(name)[0]

    def batch(self, namespace: Path, *lines: str) -> None:
        """Run many ip(8) commands in a namespace."""
        run("ip", "-n", namespace.name, "-batch", "-", text="\n".join(lines))

    def ip(self, namespace: str | Path, *words: str) -> str:
        """Run ip(8) in a namespace and return what it prints."""
        return run("ip", "-n", Path(namespace).name, *words)

    def inside(self, namespace: str | Path, *words: str) -> str:
        """Run a program in a namespace and return what it prints."""
        return run("ip", "netns", "exec", Path(namespace).name, *words)

    def destroy(self) -> None:
        """Remove everything."""
        run("ip", "-force", "-batch", "-", text="\n".join(f"netns delete {name}" for name in self._names))

    def _namespaces(self, *roles: str) -> list[str]:
        names = [f"{self._prefix}-{role}" for role in roles]
        self._names += names
        run("ip", "-batch", "-", text="\n".join(f"netns add {name}" for name in names))
        return [f"/run/netns/{name}" for name in names]


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
        world.ip(world.node, "link", "add", "probe", "link", "eth0", "type", kind)
    except AssertionError:
        return False
    finally:
        world.destroy()
    return True


async def serve(namespace: str | Path, port: int) -> asyncio.Server:
    """A TCP server in a namespace that tells each client the address it sees it by."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(writer.get_extra_info("peername")[0].encode())
        await writer.drain()
        writer.close()

    with opened(namespace) as descriptor:
        sock = await socket_in_netns(descriptor, socket.AF_INET, socket.SOCK_STREAM, 0)
    sock.bind(("0.0.0.0", port))
    return await asyncio.start_server(answer, sock=sock)


async def seen_by(namespace: str | Path, address: str, port: int, *, timeout: float = _TIMEOUT) -> str:
    """Connect from a namespace; returns by which address the server saw us.

    Raises:
        TimeoutError: no connection.
    """
    loop = asyncio.get_running_loop()
    with opened(namespace) as descriptor:
        sock = await socket_in_netns(descriptor, socket.AF_INET, socket.SOCK_STREAM, 0)
    with sock:
        sock.setblocking(False)
        async with asyncio.timeout(timeout):
            await loop.sock_connect(sock, (address, port))
            return (await loop.sock_recv(sock, 64)).decode()

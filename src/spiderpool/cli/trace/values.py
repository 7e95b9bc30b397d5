"""What a trace is made of: the packet, its hops, what drops it, and the path to one endpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from spiderpool.core.addresses import Address, with_port
from spiderpool.core.network.plumbing.lookup import RouteChoice


@dataclass(frozen=True, slots=True)
class Hop:
    """One place that a packet passes, and what becomes of it there. Empty texts: it has no such thing."""

    place: str
    does: str
    interface: str = ""
    """By which the packet leaves the place."""
    source: str = ""
    """The source address with which it leaves."""
    rule: str = ""
    """The rule that named the routing table."""
    route: str = ""
    mark: str = ""
    masquerade: bool = False
    """Whether ``source`` replaces the address that the packet came with."""
    pod: str = ""
    """``namespace/name`` of the pod that the place is."""

    def by(self, choice: RouteChoice, source: Address | None, mark: int = 0) -> Hop:
        """The hop with the rule and route that the packet takes."""
        return replace(
            self,
            interface=choice.route.link,
            source=str(source) if source else "",
            rule=str(choice.rule).partition(": ")[2],
            route=str(choice.route).partition(": ")[2],
            mark=f"{mark:#x}" if mark else "",
        )


@dataclass(frozen=True, slots=True)
class Drop:
    """What drops a packet, and what to do about it."""

    place: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class PacketPath:
    """The way to one endpoint, and back."""

    endpoint: str
    """Where it ends, or would have ended."""
    hops: tuple[Hop, ...]
    way_back: tuple[Hop, ...] = ()
    seen_as: str = ""
    """The address that the server sees; empty where it sees nothing, or it is not known."""
    asymmetric: bool = False
    """Whether answers leave the server by another interface than that by which the request came."""
    drop: Drop | None = None
    unknown: str = ""
    """What cannot be read from here and decides; empty: nothing."""

    @property
    def goes_through(self) -> bool:
        """Whether nothing that can be read drops it."""
        return self.drop is None and not self.unknown


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection at one place of its way."""

    destination: Address
    port: int
    protocol: str
    source: Address | None
    """None: of a client outside, whoever that is."""
    sender: str
    """``pod NAMESPACE/NAME``, ``node NAME`` or ``the client``."""
    namespace: str | None = None
    """Of the pod that sends it; None: no pod does."""
    hops: tuple[Hop, ...] = ()
    entered: Address | None = None
    """The address of the present node to which the packet was sent; None: it was not sent to one."""
    translated: bool = False
    """Whether a kube-proxy has translated its destination, so that answers must pass the same node."""

    @property
    def target(self) -> str:
        """Address and port."""
        return with_port(self.destination, self.port)

    def after(self, hop: Hop) -> Self:
        """The packet behind one more hop."""
        return replace(self, hops=(*self.hops, hop))

    def of_namespace(self, namespace: str | None) -> Self:
        """The packet as that of a pod of a Namespace."""
        return replace(self, namespace=namespace)

    def dropped(self, place: str, reason: str, remedy: str) -> tuple[PacketPath, ...]:
        """The path that ends here."""
        return self.dropped_by(Drop(place, reason, remedy))

    def dropped_by(self, drop: Drop) -> tuple[PacketPath, ...]:
        """The path that ends by what drops it."""
        return (PacketPath(self.target, self.hops, drop=drop),)

    def lost(self, why: str) -> tuple[PacketPath, ...]:
        """The path of which no more can be said."""
        return (PacketPath(self.target, self.hops, unknown=why),)

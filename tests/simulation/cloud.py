"""The cloud of a simulation: servers, ENIs with few addresses, and one vSwitch that all of them share.

What it is asked for arrives by `cloud_provider.py`, late, twice, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from random import Random

from spiderpool.cloud.provider import CloudNotFound, Quota, QuotaExceeded, VSwitchFull
from spiderpool.core.addresses import object_name
from tests.simulation.loop import SimulatedLoop

REGION, ZONE, SERVER_TYPE, VSWITCH = "r1", "r1-a", "small", "vsw-1"
DEVICES = "eth0", "eth1"
"""Linux names of the ENIs of each server; pods use the second one."""
BLOCKS = {4: "10.20.0.0/24", 6: "fd00:20::/64"}
LARGEST_LAG = 10.0
"""Seconds by which the description of an ENI may be behind."""


@dataclass(frozen=True, slots=True)
class CloudRates:
    """How likely each fault is, of one call."""

    throttled: float = 0.0
    lost_request: float = 0.0
    """It is not carried out, and no answer comes."""
    lost_answer: float = 0.0
    """It is carried out, and no answer comes."""
    conflict: float = 0.0
    """The ENI is being changed: nothing is done."""
    empty: float = 0.0
    """An answer lacks an ENI, or its addresses."""

    def scaled(self, factor: float) -> CloudRates:
        """The same mixture, more or less often."""
        return CloudRates(**{name: getattr(self, name) * factor for name in self.__dataclass_fields__})


CALM = CloudRates(conflict=0.35)
"""Between storms; the cloud is busy with ENIs at any time."""
QUIET = CloudRates()
"""Once all faults have ended."""
STORM = CloudRates(throttled=0.12, lost_request=0.12, lost_answer=0.15, conflict=0.2, empty=0.1)

Registered = dict[int, frozenset[str]]
"""Secondary addresses by family."""


@dataclass(eq=False)
class Card:
    """An ENI."""

    identity: str
    mac: str
    device: str
    primary_address: str
    server: Server
    history: list[tuple[float, Registered]] = field(default_factory=list)
    """Its secondary addresses since a time, the latest ones last."""

    @property
    def registered(self) -> Registered:
        """Its secondary addresses."""
        return self.history[-1][1]

    def as_of(self, time: float) -> Registered:
        """Its secondary addresses at a time."""
        return next((found for since, found in reversed(self.history) if since <= time), self.history[0][1])


@dataclass(eq=False)
class Server:
    """An instance."""

    identity: str
    node: str
    cards: list[Card] = field(default_factory=list)
    stopped: bool = False
    hidden_until: float = 0.0
    """Time until which descriptions lack it."""
    frozen_since: float | None = None
    """The time as of which its metadata describes it; None: now."""


class SimulatedCloud:
    """One account in one region."""

    def __init__(self, loop: SimulatedLoop, families: Collection[int], random: Random, faults: Counter[str]) -> None:
        self.families = frozenset(families)
        self.random = random
        self.faults = faults
        self.rates = CALM
        self.servers: dict[str, Server] = {}
        self.quota = Quota(random.randint(4, 9), random.randint(4, 9))
        self.on_change: Callable[[str, Card, Collection[str]], None] = lambda _, __, ___: None
        """Told in a word what has become of addresses on an ENI."""
        self._loop = loop
        self._count = 0
        self._free = {version: self._usable(version, random.randint(14, 26)) for version in sorted(families)}

    @staticmethod
    def _usable(version: int, count: int) -> list[str]:
        block = ip_network(BLOCKS[version])
        return [str(block[10 + number]) for number in range(count)]

    # --- servers

    def add_server(self, node: str) -> None:
        """A new server, whose second ENI has one secondary address of each family."""
        self._count += 1
        server = Server(f"i-{node}-{self._count}", node)
        for number, device in enumerate(DEVICES):
            address = str(ip_network(BLOCKS[4])[100 + 2 * self._count % 100 + number])
            mac = f"00:16:3e:01:{self._count % 256:02x}:{number:02x}"
            card = Card(f"eni-{node}-{self._count}-{number}", mac, device, address, server)
            card.history.append((0.0, {version: frozenset() for version in (4, 6)}))
            server.cards.append(card)
        self.servers[server.identity] = server
        for version in self._free:
            if self._free[version]:
                self.assign(server.cards[1].identity, version, 1)

    def remove_server(self, node: str) -> None:
        """A server is gone with its ENIs: the cloud may give their addresses to others."""
        server = self.server_of(node)
        del self.servers[server.identity]
        for card in server.cards:
            for version, addresses in card.registered.items():
                self._unassign(card, version, addresses, "lost with its server")

    def server_of(self, node: str) -> Server:
        """The server of a node."""
        return next(each for each in self.servers.values() if each.node == node)

    def cards(self) -> Iterator[Card]:
        """All ENIs."""
        return (card for server in self.servers.values() for card in server.cards)

    def card(self, identity: str) -> Card:
        """An ENI. Raises CloudNotFound."""
        found = next((card for card in self.cards() if card.identity == identity), None)
        if found is None:
            raise CloudNotFound(f"ENI {identity} does not exist")
        return found

    def heal(self) -> None:
        """End all faults."""
        self.rates = QUIET
        for server in self.servers.values():
            server.stopped, server.hidden_until, server.frozen_since = False, 0.0, None

    # --- addresses

    def free_addresses(self, version: int) -> int:
        """How many addresses the vSwitch has left."""
        return len(self._free.get(version, ()))

    def assign(self, eni: str, version: int, count: int) -> list[str]:
        """Register addresses on an ENI. Raises CloudError."""
        card, free = self.card(eni), self._free[version]
        if len(card.registered[version]) + count > self.quota.of(version):
            raise QuotaExceeded(f"ENI {eni} can have {self.quota.of(version)} addresses")
        if count > len(free):
            raise VSwitchFull(f"{VSWITCH} has {len(free)} addresses")
        given = self.random.sample(free, count)
        self._free[version] = [each for each in free if each not in given]
        self._change(card, version, card.registered[version] | {*given})
        self.on_change("assigned", card, given)
        return given

    def unassign(self, eni: str, version: int, addresses: Collection[str]) -> None:
        """Take addresses from an ENI. Raises CloudError."""
        card = self.card(eni)
        self._unassign(card, version, card.registered[version] & {*addresses})

    def _unassign(self, card: Card, version: int, addresses: Collection[str], what: str = "unassigned") -> None:
        taken = sorted(addresses, key=ip_address)
        self._change(card, version, card.registered[version] - {*taken})
        if taken:
            self._free[version] += taken
            self.on_change(what, card, taken)

    def _change(self, card: Card, version: int, addresses: frozenset[str]) -> None:
        card.history.append((self._loop.time(), {**card.registered, version: addresses}))

    def is_registered(self, node: str, name: str) -> bool:
        """Whether the server of a node has an address, by the name of its record."""
        cards = (card for card in self.cards() if card.server.node == node)
        return any(name == object_name(each) for card in cards for found in card.registered.values() for each in found)

    def is_own(self, name: str) -> bool:
        """Whether an address is of the vSwitch, by the name of its record."""
        return name.startswith(("10.20.", "fd00-20-", "fd00-0020-"))

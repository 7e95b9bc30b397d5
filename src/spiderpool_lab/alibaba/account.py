"""The account: its region, its network, its keys, everything that it holds, and everything that was asked of it."""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from spiderpool.errors import BadConfig
from spiderpool_lab.alibaba import addressing
from spiderpool_lab.alibaba.faults import Fault, Faults
from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.refusals import Refusal
from spiderpool_lab.alibaba.resources import (
    INSTANCE_TYPES,
    VPC,
    Instance,
    InstanceType,
    NetworkInterface,
    SecurityGroup,
    VSwitchResource,
)
from spiderpool_lab.alibaba.tables import AccountTables, Listener, TableChange

Clock = Callable[[], float]

_CALLS_KEPT = 200_000

_MARGIN = 0.01
"""Seconds by which the loop's timers may run ahead of the account's clock."""

CREDENTIAL_LIFETIME = 6 * 3600.0
"""Seconds for which the credentials of a role are valid."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call as it was answered. ``outcome`` is OK, the code of a refusal, or ``Dropped``."""

    action: str
    identity: str
    outcome: str
    at: float
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds that the cloud takes.

    ``ENI``: to attach or detach an ENI. ``job``: to finish a job of the NLB. ``metadata``: to show a change there.
    """

    eni: float = 0.0
    job: float = 0.0
    metadata: float = 0.0


class Account:
    """A simulated account. ``public`` is the block of its addresses in the Internet.

    ``health`` is what the balancers' data plane last found, by address and port of a backend.
    ``limits`` are calls per minute by ``product:Action``; what has none is not limited.
    """

    def __init__(
        self,
        *,
        region: str = "cn-hangzhou",
        vpc: VPC | None = None,
        owner: str = "1234567890123456",
        public: str = "198.51.100.64/26",
        public_ipv6: str = "2001:db8:1b::/64",
        delays: Delays | None = None,
        clock: Clock = time.time,
    ) -> None:
        self.region = region
        self.vpc = vpc or VPC("vpc-bp100000000000001", "172.16.0.0/12")
        self.owner = owner
        self.public = public
        self.public_ipv6 = public_ipv6
        self.delays = delays or Delays()
        self.clock = clock
        self.faults = Faults()
        self.health: dict[tuple[str, int], bool] = {}
        self.remembered: dict[int, AccountTables] = {}
        self.limits: dict[str, int] = {}
        self.calls: list[RecordedCall] = []
        self.identities: dict[str, CallerIdentity] = {}
        self.roles: dict[str, tuple[str, ...]] = {}
        self.world = AccountTables(self._tell)
        self._listeners: list[Listener] = []
        self._numbers = itertools.count(1)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        for kind in INSTANCE_TYPES:
            self.world.instance_types.put(kind)

    # What it holds, made by hand

    def add_vswitch(
        self, block: str, *, zone: str = "", identity: str = "", ipv6_block: str | None = None
    ) -> VSwitchResource:
        """A vSwitch in the VPC."""
        return self.world.vswitches.put(
            VSwitchResource(identity or self.new_id("vsw-"), zone or f"{self.region}-i", block, ipv6_block)
        )

    def add_security_group(self, *, identity: str = "", capacity: int = 2000) -> SecurityGroup:
        """A security group."""
        return self.world.security_groups.put(SecurityGroup(identity or self.new_id("sg-"), capacity=capacity))

    def add_instance_type(self, kind: InstanceType) -> InstanceType:
        """An instance type with quotas of its own."""
        return self.world.instance_types.put(kind)

    def add_instance(
        self,
        name: str,
        *,
        zone: str = "",
        kind: str = "ecs.g7.large",
        identity: str = "",
        role: str | None = None,
    ) -> Instance:
        """A server without ENIs."""
        made = Instance(
            identity or self.new_id("i-"),
            name,
            kind,
            zone or f"{self.region}-i",
            role=role,
            created=self.clock(),
        )
        return self.world.instances.put(made)

    def add_eni(
        self,
        vswitch: str,
        *,
        instance: str | None = None,
        mac: str = "",
        address: str = "",
        secondaries: Iterable[str] = (),
        ipv6_addresses: Iterable[str] = (),
        security_groups: Iterable[str] = (),
        identity: str = "",
    ) -> NetworkInterface:
        """An ENI, in use if it has an instance; the first of an instance is its primary."""
        first = instance is not None and not self.enis_of(instance)
        eni = NetworkInterface(
            identity or self.new_id("eni-"),
            mac or self.new_mac(),
            vswitch,
            address or self.take_addresses(vswitch, 1)[0],
            tuple(secondaries),
            tuple(ipv6_addresses),
            instance=instance,
            primary=first,
            status="InUse" if instance else "Available",
            security_groups=tuple(security_groups),
            created=self.clock(),
        )
        return self.world.enis.put(eni)

    def add_identity(
        self, name: str = "cloud", *, key: str = "", secret: str = "", allowed: Iterable[str] = ("*",)
    ) -> CallerIdentity:
        """A RAM user with an access key."""
        identity = CallerIdentity(
            name, key or f"LTAI{secrets.token_hex(10)}", secret or secrets.token_hex(15), tuple(allowed)
        )
        self.identities[identity.key] = identity
        return identity

    def add_role(self, name: str, allowed: Iterable[str] = ("*",)) -> None:
        """A RAM role, whose credentials the metadata service gives to instances that have it."""
        self.roles[name] = tuple(allowed)

    def issue(self, role: str, lifetime: float = CREDENTIAL_LIFETIME) -> CallerIdentity:
        """Temporary credentials of a role, valid for ``lifetime`` seconds."""
        identity = CallerIdentity(
            role,
            f"STS.{secrets.token_hex(10)}",
            secrets.token_hex(15),
            self.roles[role],
            token=secrets.token_hex(40),
            expires=self.clock() + lifetime,
        )
        self.identities[identity.key] = identity
        return identity

    # What happens to it

    def release(self, instance: str) -> None:
        """Delete an instance; the ENIs that go with it go too, others become available."""
        for eni in self.enis_of(instance):
            if eni.primary or eni.delete_on_release:
                self.world.enis.remove(eni.identity)
            else:
                self.world.enis.put(replace(eni, instance=None, primary=False, status="Available"))
        self.world.instances.remove(instance)

    def fill(self, vswitch: str, full: bool = True) -> None:
        """Make a vSwitch give no address any more, or give some again."""
        found = self.world.vswitches.get(vswitch)
        if found is None:
            raise BadConfig(f"there is no vSwitch {vswitch}")
        self.world.vswitches.put(replace(found, full=full))

    def break_down(self, fault: Fault) -> int:
        """Set a fault and return its number; a stale one keeps reading the state of this moment."""
        number = self.faults.add(fault)
        if fault.kind == "stale":
            self.remembered[number] = self.world.snapshot()
        return number

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have every change told to ``listener``, at once and in order; the answer ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def as_of(self, world: AccountTables) -> Account:
        """This account holding another world: what a stale or empty answer is read from."""
        other = copy.copy(self)
        other.world = world
        return other

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Carry out ``work`` when ``seconds`` of the account's clock have passed; at once if there are none."""
        if seconds <= 0:
            work()
            return
        heapq.heappush(self._due, (self.clock() + seconds, next(self._numbers), work))
        if (loop := _running_loop()) is not None:
            loop.call_later(seconds + _MARGIN, self.settle)

    def settle(self) -> None:
        """Carry out what has become due."""
        while self._due and self._due[0][0] <= self.clock():
            heapq.heappop(self._due)[2]()

    # What it can be asked

    def enis_of(self, instance: str) -> list[NetworkInterface]:
        """The ENIs of an instance, the primary first."""
        enis = (eni for eni in self.world.enis if eni.instance == instance)
        return sorted(enis, key=lambda eni: not eni.primary)

    def type_of(self, instance: str) -> InstanceType:
        """The instance type of an instance that exists."""
        found = self.world.instances.get(instance)
        kind = self.world.instance_types.get(found.instance_type) if found else None
        if kind is None:
            raise BadConfig(f"instance {instance} or its type does not exist")
        return kind

    def eni_with(self, address: str) -> NetworkInterface | None:
        """The ENI on which an address, of either family, is registered."""
        return next((eni for eni in self.world.enis if address in eni.addresses or address in eni.ipv6_addresses), None)

    def record(self, call: RecordedCall) -> None:
        """Write a call down; of very many, the older half is forgotten."""
        self.calls.append(call)
        if len(self.calls) > _CALLS_KEPT:
            del self.calls[: _CALLS_KEPT // 2]

    def counted(self) -> Counter[str]:
        """How often each ``product:Action`` was called."""
        return Counter(call.action for call in self.calls)

    def used_in(self, vswitch: str) -> set[str]:
        """Every IPv4 address of a vSwitch that something has."""
        enis = [eni for eni in self.world.enis if eni.vswitch == vswitch]
        used = {address for eni in enis for address in eni.addresses}
        used.update(address for eni in enis for prefix in eni.prefixes for address in addressing.inside(prefix))
        used.update(clb.address for clb in self.world.clbs if clb.vswitch == vswitch)
        used.update(zone.private_address for nlb in self.world.nlbs for zone in nlb.zones if zone.vswitch == vswitch)
        return used

    def reserved_in(self, vswitch: str) -> set[str]:
        """Every address of a vSwitch that is kept for prefixes."""
        blocks = (reservation.block for reservation in self.world.reservations if reservation.vswitch == vswitch)
        return {address for block in blocks for address in addressing.inside(block)}

    def free_count(self, vswitch: VSwitchResource) -> int:
        """How many addresses a vSwitch can still give."""
        if vswitch.full:
            return 0
        return addressing.capacity(vswitch.block) - len(
            self.used_in(vswitch.identity) | self.reserved_in(vswitch.identity)
        )

    def take_addresses(self, vswitch: str, count: int, *, beside: Iterable[str] = ()) -> list[str]:
        """The lowest free addresses of a vSwitch, other than those ``beside``. Raises Refusal if it has too few."""
        found = self.vswitch(vswitch)
        used = self.used_in(vswitch) | self.reserved_in(vswitch) | set(beside)
        addresses = [] if found.full else addressing.free(found.block, used, count)
        if len(addresses) < count:
            raise no_addresses(vswitch)
        return addresses

    def take_public(self, *, beside: Iterable[str] = ()) -> str:
        """The lowest public address of the account's block that nothing has. Raises Refusal if there is none."""
        used = {*beside, *(eip.address for eip in self.world.eips), *(clb.address for clb in self.world.clbs)}
        used.update(zone.public_address for nlb in self.world.nlbs for zone in nlb.zones)
        if not (addresses := addressing.free(self.public, used, 1)):
            raise Refusal("QuotaExceeded.Eip", "The quota of elastic IP addresses is exceeded.")
        return addresses[0]

    def vswitch(self, identity: str) -> VSwitchResource:
        """A vSwitch that exists. Raises Refusal if it does not."""
        if (found := self.world.vswitches.get(identity)) is None:
            raise Refusal("InvalidVSwitchId.NotFound", f"The specified VSwitch {identity} does not exist.", 404)
        return found

    def new_id(self, prefix: str) -> str:
        """An identity that nothing else has."""
        return f"{prefix}bp1{next(self._numbers):015x}"

    def new_mac(self) -> str:
        """A MAC address that no other ENI has."""
        return "00:16:3e:" + (0x80_0000 + next(self._numbers)).to_bytes(3, "big").hex(":")

    def _tell(self, change: TableChange) -> None:
        for listener in list(self._listeners):
            listener(change)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def no_addresses(vswitch: str) -> Refusal:
    """A vSwitch has fewer free addresses than were asked for."""
    return Refusal(
        "InvalidVSwitchId.IpNotEnough", f"The specified VSwitch {vswitch} has not enough private IP addresses.", 403
    )

"""The state of one simulated account: resources, access keys, faults and a log of the calls that were answered.

The account knows no HTTP: ``openapi``, ``metadata`` and ``admin`` serve it. Tests and the lab change it directly.
"""

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

_CALL_LOG_MAX = 200_000
"""Entries of the call log; beyond this number the older half is dropped."""

_TIMER_MARGIN = 0.01
"""Seconds added to a timer of the event loop, which may fire before the account's clock has reached the due time."""

DEFAULT_VPC = VPC("vpc-bp100000000000001", "172.16.0.0/12")

CREDENTIAL_LIFETIME = 6 * 3600.0
"""Seconds for which the temporary credentials of a role are valid."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """An answered call. ``outcome`` is ``OK``, an error code, or ``Dropped`` if a fault cut the connection."""

    action: str
    identity: str
    outcome: str
    at: float
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds that asynchronous work takes.

    ``eni``: to attach or detach an ENI. ``job``: to finish an NLB job. ``metadata``: until the metadata service
    shows a change.
    """

    eni: float = 0.0
    job: float = 0.0
    metadata: float = 0.0


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """What an account is created with and keeps. Public addresses are allocated from the two public blocks."""

    region: str = "cn-hangzhou"
    owner: str = "1234567890123456"
    vpc: VPC = DEFAULT_VPC
    public_block: str = "198.51.100.64/26"
    public_ipv6_block: str = "2001:db8:1b::/64"


@dataclass(frozen=True, slots=True)
class ENIAddresses:
    """The addresses of a new ENI. Without ``primary``, the ENI gets the lowest free address of its vSwitch."""

    primary: str = ""
    secondaries: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()


class Account:
    """A simulated account with one VPC."""

    def __init__(
        self, settings: AccountSettings | None = None, *, delays: Delays | None = None, clock: Clock = time.time
    ) -> None:
        settings = settings or AccountSettings()
        self.region = settings.region
        self.owner = settings.owner
        self.vpc = settings.vpc
        self.public_block = settings.public_block
        self.public_ipv6_block = settings.public_ipv6_block
        self.delays = delays or Delays()
        self.clock = clock
        self.faults = Faults()
        self.health: dict[tuple[str, int], bool] = {}  # (address, port) of a backend → last result of the data plane
        self.snapshots: dict[int, AccountTables] = {}  # number of a "stale" fault → state when the fault was set
        self.limits: dict[str, int] = {}  # product:Action → calls per minute; without an entry there is no limit
        self.calls: list[RecordedCall] = []  # oldest first
        self.identities: dict[str, CallerIdentity] = {}  # access key ID → identity
        self.roles: dict[str, tuple[str, ...]] = {}  # name of a RAM role → patterns of allowed actions
        self.tables = AccountTables(self._notify)
        self._listeners: list[Listener] = []  # called with every change, in order
        self._numbers = itertools.count(1)  # source of unique resource IDs and MAC addresses
        self._due: list[tuple[float, int, Callable[[], None]]] = []  # heap of (due time, sequence number, work)
        for instance_type in INSTANCE_TYPES:
            self.tables.instance_types.put(instance_type)

    # Resources, created without a call of the OpenAPI

    def add_vswitch(
        self, block: str, *, zone: str = "", identity: str = "", ipv6_block: str | None = None
    ) -> VSwitchResource:
        """Create a vSwitch in the VPC."""
        return self.tables.vswitches.put(
            VSwitchResource(identity or self.new_id("vsw-"), zone or f"{self.region}-i", block, ipv6_block)
        )

    def add_security_group(self, *, identity: str = "", capacity: int = 2000) -> SecurityGroup:
        """Create a security group that takes ``capacity`` ENIs."""
        return self.tables.security_groups.put(SecurityGroup(identity or self.new_id("sg-"), capacity=capacity))

    def add_instance_type(self, instance_type: InstanceType) -> InstanceType:
        """Add an instance type with its quotas."""
        return self.tables.instance_types.put(instance_type)

    def add_instance(
        self,
        name: str,
        *,
        zone: str = "",
        instance_type: str = "ecs.g7.large",
        identity: str = "",
        role: str | None = None,
    ) -> Instance:
        """Create an instance without ENIs."""
        instance = Instance(
            identity or self.new_id("i-"),
            name,
            instance_type,
            zone or f"{self.region}-i",
            role=role,
            created=self.clock(),
        )
        return self.tables.instances.put(instance)

    def add_eni(
        self,
        vswitch: str,
        *,
        instance: str | None = None,
        mac: str = "",
        identity: str = "",
        addresses: ENIAddresses | None = None,
    ) -> NetworkInterface:
        """Create an ENI, attached if ``instance`` is given; the first ENI of an instance is its primary ENI."""
        addresses = addresses or ENIAddresses()
        is_primary = instance is not None and not self.enis_of(instance)
        eni = NetworkInterface(
            identity or self.new_id("eni-"),
            mac or self.new_mac(),
            vswitch,
            addresses.primary or self.choose_addresses(vswitch, 1)[0],
            addresses.secondaries,
            addresses.ipv6,
            instance=instance,
            primary=is_primary,
            status="InUse" if instance else "Available",
            created=self.clock(),
        )
        return self.tables.enis.put(eni)

    def join_security_group(self, eni: str, group: str) -> None:
        """Add an ENI to a security group, without a check of the group's capacity. Raises BadConfig without the ENI."""
        found = self.tables.enis.get(eni)
        if found is None:
            raise BadConfig(f"there is no ENI {eni}")
        self.tables.enis.put(replace(found, security_groups=(*found.security_groups, group)))

    def add_identity(
        self, name: str = "cloud", *, key: str = "", secret: str = "", allowed: Iterable[str] = ("*",)
    ) -> CallerIdentity:
        """Create a RAM user with an access key; ``allowed`` are patterns of ``product:Action``."""
        identity = CallerIdentity(
            name, key or f"LTAI{secrets.token_hex(10)}", secret or secrets.token_hex(15), tuple(allowed)
        )
        self.identities[identity.key] = identity
        return identity

    def add_role(self, name: str, allowed: Iterable[str] = ("*",)) -> None:
        """Create a RAM role. The metadata service hands its credentials to the instances that have the role."""
        self.roles[name] = tuple(allowed)

    def issue_credentials(self, role: str, lifetime: float = CREDENTIAL_LIFETIME) -> CallerIdentity:
        """Create temporary credentials of a role, valid for ``lifetime`` seconds."""
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

    # Events

    def delete_instance(self, instance: str) -> None:
        """Delete an instance with its primary ENI and its ENIs with ``delete_on_release``; others become Available."""
        for eni in self.enis_of(instance):
            if eni.primary or eni.delete_on_release:
                self.tables.enis.remove(eni.identity)
            else:
                self.tables.enis.put(replace(eni, instance=None, primary=False, status="Available"))
        self.tables.instances.remove(instance)

    def set_full(self, vswitch: str, full: bool = True) -> None:
        """Mark a vSwitch as having no free address, or remove the mark. Raises BadConfig if it does not exist."""
        found = self.tables.vswitches.get(vswitch)
        if found is None:
            raise BadConfig(f"there is no vSwitch {vswitch}")
        self.tables.vswitches.put(replace(found, full=full))

    def set_fault(self, fault: Fault) -> int:
        """Set a fault and return its number. For a ``stale`` fault, store a snapshot of the present state."""
        number = self.faults.add(fault)
        if fault.kind == "stale":
            self.snapshots[number] = self.tables.snapshot()
        return number

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` synchronously with every change, in order. Returns a function that unsubscribes."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def with_tables(self, tables: AccountTables) -> Account:
        """A shallow copy of this account over other tables, from which a stale or empty answer is read."""
        other = copy.copy(self)
        other.tables = tables
        return other

    def schedule(self, seconds: float, work: Callable[[], None]) -> None:
        """Run ``work`` after ``seconds`` of the account's clock; immediately if ``seconds`` is 0."""
        if seconds <= 0:
            work()
            return
        heapq.heappush(self._due, (self.clock() + seconds, next(self._numbers), work))
        if (loop := _running_loop()) is not None:
            loop.call_later(seconds + _TIMER_MARGIN, self.run_due)

    def run_due(self) -> None:
        """Run all scheduled work that is due. Called before every read, since tests may move the clock by hand."""
        while self._due and self._due[0][0] <= self.clock():
            heapq.heappop(self._due)[2]()

    # Queries

    def enis_of(self, instance: str) -> list[NetworkInterface]:
        """The ENIs of an instance, the primary first."""
        enis = (eni for eni in self.tables.enis if eni.instance == instance)
        return sorted(enis, key=lambda eni: not eni.primary)

    def type_of(self, instance: str) -> InstanceType:
        """The instance type of an instance. Raises BadConfig if the instance or its type does not exist."""
        found = self.tables.instances.get(instance)
        instance_type = self.tables.instance_types.get(found.instance_type) if found else None
        if instance_type is None:
            raise BadConfig(f"instance {instance} or its type does not exist")
        return instance_type

    def eni_with_address(self, address: str) -> NetworkInterface | None:
        """The ENI that has an IPv4 or IPv6 address, or None."""
        return next(
            (eni for eni in self.tables.enis if address in eni.addresses or address in eni.ipv6_addresses), None
        )

    def record(self, call: RecordedCall) -> None:
        """Append a call to the log; drop the older half when the log is full."""
        self.calls.append(call)
        if len(self.calls) > _CALL_LOG_MAX:
            del self.calls[: _CALL_LOG_MAX // 2]

    def call_counts(self) -> Counter[str]:
        """Number of calls in the log by ``product:Action``."""
        return Counter(call.action for call in self.calls)

    def used_addresses(self, vswitch: str) -> set[str]:
        """All IPv4 addresses of a vSwitch that ENIs (with their prefixes) and load balancers have."""
        enis = [eni for eni in self.tables.enis if eni.vswitch == vswitch]
        used = {address for eni in enis for address in eni.addresses}
        used.update(address for eni in enis for prefix in eni.prefixes for address in addressing.addresses_in(prefix))
        used.update(clb.address for clb in self.tables.clbs if clb.vswitch == vswitch)
        used.update(zone.private_address for nlb in self.tables.nlbs for zone in nlb.zones if zone.vswitch == vswitch)
        return used

    def reserved_addresses(self, vswitch: str) -> set[str]:
        """All addresses of a vSwitch in blocks that are reserved for prefixes."""
        blocks = (reservation.block for reservation in self.tables.reservations if reservation.vswitch == vswitch)
        return {address for block in blocks for address in addressing.addresses_in(block)}

    def free_address_count(self, vswitch: VSwitchResource) -> int:
        """Number of addresses of a vSwitch that are neither used nor reserved; 0 if it is marked full."""
        if vswitch.full:
            return 0
        return addressing.capacity(vswitch.block) - len(
            self.used_addresses(vswitch.identity) | self.reserved_addresses(vswitch.identity)
        )

    def choose_addresses(self, vswitch: str, count: int, *, excluded: Iterable[str] = ()) -> list[str]:
        """The lowest free addresses except ``excluded``. Raises Refusal if there are fewer than ``count``."""
        found = self.vswitch(vswitch)
        used = self.used_addresses(vswitch) | self.reserved_addresses(vswitch) | set(excluded)
        addresses = [] if found.full else addressing.free(found.block, used, count)
        if len(addresses) < count:
            raise no_addresses(vswitch)
        return addresses

    def choose_public_address(self, *, excluded: Iterable[str] = ()) -> str:
        """The lowest free public address except ``excluded``. Raises Refusal if the public block is used up."""
        used = {*excluded, *(eip.address for eip in self.tables.eips), *(clb.address for clb in self.tables.clbs)}
        used.update(zone.public_address for nlb in self.tables.nlbs for zone in nlb.zones)
        if not (addresses := addressing.free(self.public_block, used, 1)):
            raise Refusal("QuotaExceeded.Eip", "The quota of elastic IP addresses is exceeded.")
        return addresses[0]

    def vswitch(self, identity: str) -> VSwitchResource:
        """A vSwitch by its ID. Raises Refusal if it does not exist."""
        if (found := self.tables.vswitches.get(identity)) is None:
            raise Refusal("InvalidVSwitchId.NotFound", f"The specified VSwitch {identity} does not exist.", 404)
        return found

    def new_id(self, prefix: str) -> str:
        """A unique resource ID with a prefix such as ``eni-``."""
        return f"{prefix}bp1{next(self._numbers):015x}"

    def new_mac(self) -> str:
        """A unique MAC address in the vendor's OUI 00:16:3e."""
        return "00:16:3e:" + (0x80_0000 + next(self._numbers)).to_bytes(3, "big").hex(":")

    def _notify(self, change: TableChange) -> None:
        for listener in list(self._listeners):
            listener(change)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def no_addresses(vswitch: str) -> Refusal:
    """The error for a vSwitch that has fewer free addresses than requested."""
    return Refusal(
        "InvalidVSwitchId.IpNotEnough", f"The specified VSwitch {vswitch} has not enough private IP addresses.", 403
    )

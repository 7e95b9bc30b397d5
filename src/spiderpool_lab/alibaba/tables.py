"""The state of an account as tables of immutable values. Listeners are called with every change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from spiderpool_lab.alibaba.balancers import CLB, NLB, AccessList, AsyncJob, CLBGroup, NLBGroup, NLBListener
from spiderpool_lab.alibaba.resources import (
    EIP,
    Instance,
    InstanceType,
    NetworkInterface,
    Reservation,
    SecurityGroup,
    VSwitchResource,
)


class Identified(Protocol):
    """A value with an ID that is unique in its table."""

    @property
    def identity(self) -> str:
        """The resource ID."""


V = TypeVar("V", bound=Identified)


@dataclass(frozen=True, slots=True)
class TableChange:
    """A value was added (``before`` is None), changed, or removed (``after`` is None)."""

    table: str
    identity: str
    before: Any
    after: Any


Listener = Callable[[TableChange], None]


class Table(Generic[V]):
    """Values by ID, in the order of their addition."""

    def __init__(self, name: str, listener: Listener | None = None) -> None:
        self.name = name
        self._listener = listener
        self._values: dict[str, V] = {}  # ID → value

    def __iter__(self) -> Iterator[V]:
        return iter(list(self._values.values()))

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, identity: object) -> bool:
        return identity in self._values

    def get(self, identity: str) -> V | None:
        """The value with this ID, or None."""
        return self._values.get(identity)

    def put(self, value: V) -> V:
        """Add or replace a value; return it."""
        before = self._values.get(value.identity)
        self._values[value.identity] = value
        if before != value:
            self._notify(TableChange(self.name, value.identity, before, value))
        return value

    def remove(self, identity: str) -> None:
        """Remove a value; do nothing if there is none."""
        before = self._values.pop(identity, None)
        if before is not None:
            self._notify(TableChange(self.name, identity, before, None))

    def copy(self) -> Table[V]:
        """A copy without a listener."""
        table: Table[V] = Table(self.name)
        table._values = dict(self._values)
        return table

    def _notify(self, change: TableChange) -> None:
        if self._listener is not None:
            self._listener(change)


@dataclass(slots=True)
class AccountTables:
    """All tables of an account."""

    listener: Listener | None = None
    instance_types: Table[InstanceType] = field(init=False)
    vswitches: Table[VSwitchResource] = field(init=False)
    instances: Table[Instance] = field(init=False)
    enis: Table[NetworkInterface] = field(init=False)
    security_groups: Table[SecurityGroup] = field(init=False)
    eips: Table[EIP] = field(init=False)
    reservations: Table[Reservation] = field(init=False)
    clbs: Table[CLB] = field(init=False)
    clb_groups: Table[CLBGroup] = field(init=False)
    access_lists: Table[AccessList] = field(init=False)
    nlbs: Table[NLB] = field(init=False)
    nlb_listeners: Table[NLBListener] = field(init=False)
    nlb_groups: Table[NLBGroup] = field(init=False)
    jobs: Table[AsyncJob] = field(init=False)

    def __post_init__(self) -> None:
        for name in TABLES:
            setattr(self, name, Table(name, self.listener))

    def snapshot(self) -> AccountTables:
        """A copy of all tables that later changes do not affect; values are immutable, so they are shared."""
        tables = AccountTables()
        for name in TABLES:
            setattr(tables, name, getattr(self, name).copy())
        return tables


TABLES = (
    "instance_types",
    "vswitches",
    "instances",
    "enis",
    "security_groups",
    "eips",
    "reservations",
    "clbs",
    "clb_groups",
    "access_lists",
    "nlbs",
    "nlb_listeners",
    "nlb_groups",
    "jobs",
)

"""The steps of a plan. Carried out one after the other they lead to what should be; printed, they are the dry run.

Which of them wait for which is in `ordering`: the cloud's folder carries out the others side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import BackendServer, Listener, ServerGroup, Settings, SourceList

DESCRIPTION = "description"
"""Our name for the parameter of a listener that says whose it is."""
GROUP = "server group"
"""Our name for the parameter of a listener that says where it forwards to."""


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """A parameter's present value and its desired one."""

    parameter: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.parameter} {self.old or '(none)'} → {self.new or '(none)'}"


def changes_between(present: Settings, desired: Settings) -> tuple[ParameterChange, ...]:
    """Returns what makes present settings as desired; parameters of which nothing is desired stay."""
    return tuple(
        ParameterChange(key, present.get(key, ""), value)
        for key, value in desired.items()
        if present.get(key, "") != value
    )


@dataclass(frozen=True, slots=True)
class CreateBalancer:
    """Create a balancer of our own. Its tags are part of the call, so that it is never without an owner."""

    model: LoadBalancerModel

    def __str__(self) -> str:
        model = self.model
        what = _pairs({**model.creation, **model.fixed, **model.initial})
        return f"create {model.kind} balancer {model.name}: {what}; tags {_pairs({**model.tags, **model.origin})}"


@dataclass(frozen=True, slots=True)
class SetBalancer:
    """Change one aspect of a balancer of our own."""

    model: LoadBalancerModel
    aspect: str
    changes: tuple[ParameterChange, ...]

    def __str__(self) -> str:
        return f"change the balancer's {self.aspect}: {_joined(self.changes)}"


@dataclass(frozen=True, slots=True)
class Unprotect:
    """Lift the protections, so that the balancer can be deleted or handed back to its user."""

    identity: str
    changes: tuple[ParameterChange, ...]

    def __str__(self) -> str:
        return f"lift the protections of balancer {self.identity}: {_joined(self.changes)}"


@dataclass(frozen=True, slots=True)
class Tag:
    """Add tags to the balancer."""

    tags: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"tag the balancer: {_pairs(dict(self.tags))}"


@dataclass(frozen=True, slots=True)
class Untag:
    """Remove tags from the balancer."""

    keys: tuple[str, ...]

    def __str__(self) -> str:
        return f"take tags from the balancer: {', '.join(self.keys)}"


@dataclass(frozen=True, slots=True)
class DeleteBalancer:
    """Delete the balancer and its listeners."""

    identity: str

    def __str__(self) -> str:
        return f"delete balancer {self.identity}"


@dataclass(frozen=True, slots=True)
class CreateGroup:
    """Create a server group without servers."""

    model: LoadBalancerModel
    group: ServerGroup

    def __str__(self) -> str:
        settings = f": {_pairs(self.group.settings)}" if self.group.settings else ""
        return f"create server group {self.group.name}{settings}"


@dataclass(frozen=True, slots=True)
class SetGroup:
    """Change settings of a server group."""

    group: ServerGroup
    changes: tuple[ParameterChange, ...]

    def __str__(self) -> str:
        return f"change server group {self.group.name}: {_joined(self.changes)}"


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """Delete a server group with its servers."""

    name: str
    identity: str

    def __str__(self) -> str:
        return f"delete server group {self.name}"


@dataclass(frozen=True, slots=True)
class AddServers:
    """Add servers to a group."""

    group: str
    servers: tuple[BackendServer, ...]

    def __str__(self) -> str:
        return f"add to {self.group}: {_joined(self.servers)}"


@dataclass(frozen=True, slots=True)
class SetWeights:
    """Change the weights of servers."""

    group: str
    servers: tuple[BackendServer, ...]

    def __str__(self) -> str:
        return f"weights in {self.group}: {_joined(self.servers)}"


@dataclass(frozen=True, slots=True)
class RemoveServers:
    """Remove servers from a group."""

    group: str
    servers: tuple[BackendServer, ...]
    is_former: bool = False
    """Whether the Service no longer uses the group: its servers there serve until others have taken their place."""
    have_gone: bool = False
    """Whether they are known to answer no more: then they leave whether others find room or not."""

    def __str__(self) -> str:
        return f"remove from {self.group}: {_joined(self.servers)}"


@dataclass(frozen=True, slots=True)
class CreateListener:
    """Create a listener and start it."""

    listener: Listener

    def __str__(self) -> str:
        target = f" to {self.listener.group}" if self.listener.group else ""
        return f"create listener {self.listener}{target}: {_pairs(self.listener.settings)}"


@dataclass(frozen=True, slots=True)
class SetListener:
    """Change a listener. ``listener`` is the desired one, with the identity of the present one."""

    listener: Listener
    changes: tuple[ParameterChange, ...]

    def __str__(self) -> str:
        return f"change listener {self.listener}: {_joined(self.changes)}"


@dataclass(frozen=True, slots=True)
class StartListener:
    """Start a listener that was stopped, or whose start failed after its creation."""

    listener: Listener

    def __str__(self) -> str:
        return f"start listener {self.listener}"


@dataclass(frozen=True, slots=True)
class DeleteListener:
    """Delete a listener."""

    listener: Listener

    def __str__(self) -> str:
        return f"delete listener {self.listener}"


@dataclass(frozen=True, slots=True)
class CreateSourceList:
    """Create a list of the clients that are admitted, with all its entries."""

    model: LoadBalancerModel
    sources: SourceList

    def __str__(self) -> str:
        what = self.model.kind.source_lists.noun
        return f"create {what} {self.sources.name}: {_joined(sorted(self.sources.entries))}"


@dataclass(frozen=True, slots=True)
class SetSourceList:
    """Change who is admitted. ``sources`` is the desired list, with the identity of the present one."""

    model: LoadBalancerModel
    sources: SourceList
    added: frozenset[str]
    removed: frozenset[str]

    def __str__(self) -> str:
        parts = (("add", self.added), ("remove", self.removed))
        changes = "; ".join(f"{verb} {_joined(sorted(entries))}" for verb, entries in parts if entries)
        return f"change {self.model.kind.source_lists.noun} {self.sources.name}: {changes}"


@dataclass(frozen=True, slots=True)
class DeleteSourceList:
    """Delete a list of the clients that are admitted, which nothing uses any more."""

    name: str
    identity: str

    def __str__(self) -> str:
        return f"delete the list of admitted clients {self.name}"


BalancerStep: TypeAlias = CreateBalancer | SetBalancer | Unprotect | Tag | Untag | DeleteBalancer
GroupStep: TypeAlias = CreateGroup | SetGroup | DeleteGroup
ServerStep: TypeAlias = AddServers | SetWeights | RemoveServers
ListenerStep: TypeAlias = CreateListener | SetListener | StartListener | DeleteListener
SourceListStep: TypeAlias = CreateSourceList | SetSourceList | DeleteSourceList
Step: TypeAlias = BalancerStep | GroupStep | ServerStep | ListenerStep | SourceListStep


def _joined(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))


def _pairs(settings: Settings) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())

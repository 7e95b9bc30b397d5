"""The protocols that each cloud implements for agents and spiderpool-cloud, and the errors that their calls raise.

CloudError           the cloud did not carry out the call
├── Throttled        too many calls; not before ``retry_after`` seconds
├── QuotaExceeded    a limit of the instance, ENI or account
├── VSwitchFull      the vSwitch has no free address
├── NotPermitted     our identity may not do this; names the action
├── CloudNotFound    the named object does not exist
├── CloudConflict    the named object is in another state or being changed; read it again and retry
│   └── StillProcessing  the very same request came before and is not done; with its token it is asked again
├── Rejected         any other refusal; the same call would be refused again
├── StepsRefused     some steps of a plan were refused, each for a reason of its own; the others were carried out
└── CloudUnavailable no usable answer; whether the call was carried out is unknown
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spiderpool.api.spiderserver import Instance
from spiderpool.errors import SpiderpoolError


class CloudError(SpiderpoolError):
    """The cloud did not carry out the call; ``cloud_code`` is its own error code, empty when it gave none."""

    def __init__(self, message: str, *, cloud_code: str = "", details: str = "") -> None:
        super().__init__(message, details)
        self.cloud_code = cloud_code


class Throttled(CloudError):
    """Too many calls: the same action is refused for ``retry_after`` seconds."""

    retriable = True

    def __init__(self, message: str, *, retry_after: float, cloud_code: str = "") -> None:
        super().__init__(message, cloud_code=cloud_code)
        self.retry_after = retry_after


class QuotaExceeded(CloudError):
    """A limit of the instance type, ENI, security group or account is reached: our record of its use is stale."""


class VSwitchFull(CloudError):
    """The vSwitch has no free address."""


class NotPermitted(CloudError):
    """Our identity may not do this; ``action`` is what its policy lacks."""

    def __init__(self, message: str, *, action: str, cloud_code: str = "") -> None:
        super().__init__(message, cloud_code=cloud_code)
        self.action = action


class CloudNotFound(CloudError):
    """The named object does not exist, or no longer exists."""


class CloudConflict(CloudError):
    """The named object is in a state that forbids this, or is being changed: read it again, then retry."""

    retriable = True


class StillProcessing(CloudConflict):
    """The cloud still works on this very request: asked again with the same token, it gives the answer to the first."""


class Rejected(CloudError):
    """The cloud refused the call and would refuse it again."""


class StepsRefused(CloudError):
    """Steps of a plan were refused; all that does not need them was carried out. The first one gives the message.

    ``refusals`` are all of them. ``full`` names the server groups that a quota kept servers out of, and ``stuck`` those
    of them where no other server got in for one that was taken out.
    """

    retriable = True

    def __init__(
        self, refusals: Sequence[CloudError], *, full: Collection[str] = (), stuck: Collection[str] = ()
    ) -> None:
        first, *others = refusals
        super().__init__(
            first.message,
            cloud_code=first.cloud_code,
            details="; ".join(filter(None, (first.details, *(error.message for error in others)))),
        )
        self.refusals = tuple(refusals)
        self.full = frozenset(full)
        self.stuck = frozenset(stuck)


class CloudUnavailable(CloudError):
    """No usable answer came. It is unknown whether a change was made."""

    retriable = True


@dataclass(frozen=True, slots=True)
class CloudServer:
    """An instance as the cloud knows it."""

    identity: str
    type: str
    zone: str
    status: str
    """The cloud's own word."""
    stopped: bool
    """Whether it is switched off, so that nothing runs on it; not while it is about to be."""
    addresses: frozenset[str] = frozenset()
    """Addresses of its ENIs; none where the answer does not have them."""


@dataclass(frozen=True, slots=True)
class RegisteredENI:
    """An ENI and the addresses that the cloud lets it use."""

    identity: str
    instance: str
    vswitch: str
    status: str
    primary_address: str
    addresses: frozenset[str]
    """Secondary IPv4 addresses."""
    ipv6_addresses: frozenset[str]


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of one ENI of an instance type."""

    ipv4: int
    """Secondary IPv4 addresses, that is without the primary one."""
    ipv6: int

    def of(self, version: int) -> int:
        """Returns the limit of a family, 4 or 6."""
        return self.ipv6 if version == 6 else self.ipv4


class NetworkPath(Protocol):
    """How connections to the metadata service leave this machine, so that nobody on it answers in its place."""

    def open(self, address: tuple[Any, ...], /) -> socket.socket:
        """Returns a socket for an address as ``getaddrinfo`` gives it. Raises KernelFailure."""

    def confirm(self, source: tuple[str, int], destination: tuple[str, int], /) -> None:
        """Raises KernelFailure when a connection between these addresses and ports leads to somebody else."""


class MetadataSource(Protocol):
    """The metadata service of a cloud, from which each server can read its own description."""

    async def read(self) -> Instance:
        """Returns the server and its ENIs, without their Linux names. Raises SpiderpoolError."""

    def forget(self) -> None:
        """Drop the cache: what was read cannot be right."""


class CloudProvider(Protocol):
    """Instances, their ENIs, and the addresses of these. Every call raises CloudError."""

    def parse_provider_id(self, text: str) -> tuple[str, str] | None:
        """Returns region and instance of a Node's provider ID; None for a text of another form. Makes no call."""

    async def instances(self, region: str, identities: Collection[str]) -> Mapping[str, CloudServer]:
        """Returns those of the named instances that exist. The answer is complete, or CloudError is raised."""

    async def enis(self, region: str, identities: Collection[str]) -> Mapping[str, RegisteredENI]:
        """Returns those of the named ENIs that exist. The answer may lag behind an assignment for seconds."""

    async def quota(self, region: str, instance_type: str) -> Quota:
        """Returns the limits of the ENIs of an instance type. Raises CloudNotFound."""

    async def free_addresses(self, region: str, vswitch: str) -> int:
        """Returns the number of unused addresses of a vSwitch. Raises CloudNotFound."""

    async def assign(self, region: str, eni: str, version: int, count: int) -> Sequence[str]:
        """Registers ``count`` further addresses on an ENI, chosen by the cloud, and returns them.

        Repeating the call is safe while no definite answer has come: the cloud carries it out once.
        """

    async def unassign(self, region: str, eni: str, version: int, addresses: Collection[str]) -> None:
        """Removes secondary addresses from an ENI. Addresses that are gone already count as removed."""

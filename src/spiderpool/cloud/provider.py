"""What spiderpool-cloud asks of a cloud, and how a cloud says no. A second cloud implements these protocols.

CloudError           the cloud did not do what was asked
├── Throttled        too many calls; not before ``retry_after`` seconds
├── QuotaExceeded    a limit of the instance, ENI or account
├── SwitchFull       the vSwitch has no free address
├── NotPermitted     our identity may not do this; names the action
├── NotFound         what was named does not exist
├── Conflict         what was named is in another state or being changed; look again and retry
├── Rejected         any other refusal: the same call would be refused again
└── Unavailable      no usable answer; whether the call was carried out is unknown
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from spiderpool.errors import SpiderpoolError


class CloudError(SpiderpoolError):
    """The cloud did not do what was asked; ``cloud_code`` is its own word for it, empty when it gave none."""

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
    """A limit of the instance type, ENI, security group or account is reached: what was known is stale."""


class VSwitchFull(CloudError):
    """The vSwitch has no free address."""


class NotPermitted(CloudError):
    """Our identity may not do this; ``action`` is what its policy lacks."""

    def __init__(self, message: str, *, action: str, cloud_code: str = "") -> None:
        super().__init__(message, cloud_code=cloud_code)
        self.action = action


class CloudNotFound(CloudError):
    """What was named does not exist, or no longer."""


class CloudConflict(CloudError):
    """What was named is in a state that forbids this, or being changed: look again, then retry."""

    retriable = True


class Rejected(CloudError):
    """The cloud refused the call and would refuse it again."""


class CloudUnavailable(CloudError):
    """No usable answer. Whether a change was made is unknown."""

    retriable = True


@dataclass(frozen=True, slots=True)
class CloudServer:
    """An instance as the cloud knows it."""

    identity: str
    type: str
    zone: str
    status: str


@dataclass(frozen=True, slots=True)
class RegisteredENI:
    """An ENI and the addresses that the cloud lets it use."""

    identity: str
    instance: str
    switch: str
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
        """The limit of a family."""
        return self.ipv6 if version == 6 else self.ipv4


class CloudProvider(Protocol):
    """Instances, their ENIs, and the addresses of these. Every call raises CloudError."""

    async def instances(self, region: str, identities: Collection[str]) -> Mapping[str, CloudServer]:
        """Those of the named instances that exist. What is missing was missing in a complete answer."""

    async def enis(self, region: str, identities: Collection[str]) -> Mapping[str, RegisteredENI]:
        """Those of the named ENIs that exist. The answer may lag behind an assignment for seconds."""

    async def quota(self, region: str, instance_type: str) -> Quota:
        """Limits of the ENIs of an instance type. Raises NotFound."""

    async def free_addresses(self, region: str, switch: str) -> int:
        """Addresses of a vSwitch that nobody uses. Raises NotFound."""

    async def assign(self, region: str, eni: str, version: int, count: int) -> Sequence[str]:
        """Register ``count`` further addresses on an ENI, chosen by the cloud; which ones.

        Said again before a definite answer came, it is carried out once.
        """

    async def unassign(self, region: str, eni: str, version: int, addresses: Collection[str]) -> None:
        """Take secondary addresses from an ENI. Ones that are gone already are success."""

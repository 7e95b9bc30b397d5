"""The cloud providers by name, the value of ``cloud.provider`` in conf.yml. No other module lists the providers.

To add a provider, write its folder beside this file and its folder in `core.cloud`, and list it in `PROVIDERS`.
Node agents import this module, so it must not import the libraries that sign calls to a cloud.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Protocol

from spiderpool.api.core_v1 import Service
from spiderpool.cloud.alibaba import policy as alibaba_policy
from spiderpool.cloud.alibaba.metadata import ADDRESS as ALIBABA_METADATA
from spiderpool.cloud.alibaba.metadata import PROVIDER as ALIBABA
from spiderpool.cloud.alibaba.metadata import MetadataClient
from spiderpool.cloud.loadbalancers import LoadBalancers
from spiderpool.cloud.provider import CloudProvider, MetadataSource, NetworkPath
from spiderpool.cloud.verification import RecordedAnswer, Verification, VerificationScope
from spiderpool.core.cloud.alibaba import kinds as alibaba_kinds
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.errors import BadConfig
from spiderpool.settings import CloudSettings


@dataclass(frozen=True, slots=True)
class CloudConnection:
    """The APIs of a cloud, called with the same credentials and counted against the same limits."""

    servers: CloudProvider
    balancers: Callable[[str, str], LoadBalancers]
    """Returns the load balancers of a region and a VPC; the VPC is empty when it is not known."""


class PolicyDocument(Protocol):
    """The policy of a cloud for programs of ours."""

    def __call__(self, features: Iterable[str], /, *, read_only: bool = False) -> dict[str, Any]:
        """Returns the document that allows what these features call; ``read_only``: what changes nothing."""


class KindOfService(Protocol):
    """Chooses the kind of balancer of a Service."""

    def __call__(self, service: Service, /, *, default: str = ...) -> BalancerKind | None:
        """Returns the kind that a Service requests from us; ``default`` names that of Services that name none."""


class Verify(Protocol):
    """Verifies an account."""

    def __call__(
        self, settings: CloudSettings, scope: VerificationScope, /, answers: Sequence[RecordedAnswer] | None = None
    ) -> Awaitable[Verification]:
        """Returns what the account of the settings is like, or was when it gave ``answers``. Raises CloudError."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What one cloud provider offers each program."""

    name: str
    metadata: Callable[[str | None, NetworkPath | None], AbstractAsyncContextManager[MetadataSource]]
    """Opens the metadata service at an endpoint; None: at the provider's usual one, by a path. For node agents."""
    metadata_address: IPv4Address
    """Where the metadata service is, from which agents keep pods."""
    features: tuple[str, ...]
    """Features of spiderpool-cloud that need permissions."""
    enabled: Callable[[CloudSettings], tuple[str, ...]]
    """Returns those of the features that settings switch on."""
    policy: PolicyDocument
    kind_of: KindOfService
    injects_gates: Callable[[Mapping[str, str]], bool]
    """Whether the labels of a Namespace say that its new pods get readiness gates of load balancers."""
    connect: Callable[[CloudSettings, NetworkPath | None], CloudConnection]
    """Connects spiderpool-cloud to the provider's API, and by a path to the metadata service. Raises BadConfig."""
    look: Callable[[CloudSettings], CloudConnection]
    """Connects a command that only looks: nothing can be changed by this connection. Raises BadConfig."""
    verify: Verify
    resend: Callable[[CloudSettings, Sequence[RecordedAnswer]], Awaitable[Sequence[RecordedAnswer]]]
    """Sends the calls of recorded answers once more, none that changes anything. Raises CloudError."""


def _connect_to_alibaba(settings: CloudSettings, path: NetworkPath | None) -> CloudConnection:
    from spiderpool.cloud.alibaba import connection  # here, since it loads the signing libraries

    return _alibaba(connection.open_api_client(settings, path), settings)


def _look_at_alibaba(settings: CloudSettings) -> CloudConnection:
    from spiderpool.cloud.alibaba import connection

    return _alibaba(connection.reading_client(settings), settings)


def _enabled_in_alibaba(settings: CloudSettings) -> tuple[str, ...]:
    on = {"addresses": settings.preallocation.enabled, "balancers": settings.balancing.enabled}
    return tuple(feature for feature in alibaba_policy.ACTIONS if on.get(feature, True))


def _verify_alibaba(
    settings: CloudSettings, scope: VerificationScope, answers: Sequence[RecordedAnswer] | None = None
) -> Awaitable[Verification]:
    from spiderpool.cloud.alibaba import connection

    return connection.verify(settings, scope, answers)


def _resend_to_alibaba(
    settings: CloudSettings, answers: Sequence[RecordedAnswer]
) -> Awaitable[Sequence[RecordedAnswer]]:
    from spiderpool.cloud.alibaba import connection

    return connection.resend(settings, answers)


def _alibaba(client: Any, settings: CloudSettings) -> CloudConnection:
    from spiderpool.cloud.alibaba import connection

    default = settings.balancing.default_type
    return CloudConnection(
        connection.servers(client), lambda region, vpc: connection.load_balancers(client, region, vpc, default)
    )


PROVIDERS: Mapping[str, Provider] = {
    ALIBABA: Provider(
        name=ALIBABA,
        metadata=MetadataClient,
        metadata_address=ALIBABA_METADATA,
        features=tuple(alibaba_policy.ACTIONS),
        enabled=_enabled_in_alibaba,
        policy=alibaba_policy.document,
        kind_of=alibaba_kinds.kind_of,
        injects_gates=alibaba_kinds.injects_gates,
        connect=_connect_to_alibaba,
        look=_look_at_alibaba,
        verify=_verify_alibaba,
        resend=_resend_to_alibaba,
    )
}
"""Name → provider."""

DEFAULT = PROVIDERS[ALIBABA]
"""For commands that may run without settings."""


def names() -> str:
    """Returns the names of all providers, for messages."""
    return " or ".join(PROVIDERS)


def provider(name: str) -> Provider:
    """Returns the provider of a name. Raises BadConfig when there is none, or the name is empty."""
    if name not in PROVIDERS:
        raise BadConfig(
            f"spiderpool-cloud needs a provider; set cloud.provider in conf.yml, or CLOUD_PROVIDER, to {names()}"
        )
    return PROVIDERS[name]

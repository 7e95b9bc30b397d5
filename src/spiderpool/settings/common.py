"""Settings that all daemons share, and the identity of replicas."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from spiderpool.errors import BadConfig
from spiderpool.settings import table
from spiderpool.settings.fields import bound


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """The cloud that the servers run in, and how their ENIs are used."""

    provider: str = bound(table.CLOUD_PROVIDER)
    metadata_endpoint: str | None = bound(table.METADATA_ENDPOINT)
    """None: the provider's own."""
    interval: float = bound(table.DISCOVERY_INTERVAL)
    """Seconds between two reads of the metadata."""
    primary_eni: bool = bound(table.PRIMARY_ENI)
    discovery: bool = bound(table.CLOUD_DISCOVERY)

    @property
    def discovers(self) -> bool:
        """Whether pools and networks are made from what the servers' ENIs have."""
        return bool(self.provider) and self.discovery


@dataclass(frozen=True, slots=True)
class CommonSettings:
    """Settings that all daemons share."""

    kubeconfig: Path | None = bound(table.KUBECONFIG)
    """None: the service account of our pod."""
    namespace: str = bound(table.POD_NAMESPACE)
    log_level: str = bound(table.LOG_LEVEL)
    enable_ipv4: bool = bound(table.ENABLE_IPV4)
    enable_ipv6: bool = bound(table.ENABLE_IPV6)
    enable_statefulset: bool = bound(table.ENABLE_STATEFULSET)
    enable_kubevirt_static_ip: bool = bound(table.ENABLE_KUBEVIRT_STATIC_IP)
    enable_spider_subnet: bool = bound(table.ENABLE_SPIDER_SUBNET)
    enable_auto_pools: bool = bound(table.ENABLE_AUTO_POOLS)
    cloud: ProviderSettings = field(default_factory=ProviderSettings)

    def __post_init__(self) -> None:
        """Raises BadConfig for what no pod could have an address with."""
        if not self.families:
            raise BadConfig("keys enableIPv4 and enableIPv6 in conf.yml are both false; set at least one to true")

    @property
    def families(self) -> frozenset[int]:
        """The enabled address families, 4 and 6."""
        enabled = {4: self.enable_ipv4, 6: self.enable_ipv6}
        return frozenset(version for version, on in enabled.items() if on)


class _Replica(Protocol):
    @property
    def identity(self) -> str:
        """Name in the leader election."""


R = TypeVar("R", bound=_Replica)


def with_identity(settings: R) -> R:
    """The settings with an identity: that of the environment, or else host name and process ID."""
    if settings.identity:
        return settings
    return replace(settings, identity=f"{socket.gethostname()}_{os.getpid()}")  # type: ignore[type-var]

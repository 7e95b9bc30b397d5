"""Settings of the controller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spiderpool.settings import fields, table
from spiderpool.settings.common import CommonSettings, with_identity
from spiderpool.settings.fields import bound, derived
from spiderpool.settings.source import SettingsSource

SYSTEM_NAMESPACE = "kube-system"


def _offers_enis(enabled: bool, offers: Iterable[Any]) -> bool:
    return enabled and any("masterNIC" in offer for offer in offers if isinstance(offer, dict))


def _injects_gates(wanted: bool, balancing: bool) -> bool:
    return wanted and balancing


@dataclass(frozen=True, slots=True)
class PodInject:
    """Which new pods get networks and resources injected."""

    enabled: bool = bound(table.INJECT)
    excluded: tuple[str, ...] = bound(table.INJECT_EXCLUDED)
    """Namespaces whose pods stay as they are, beside kube-system."""
    included: tuple[str, ...] = bound(table.INJECT_INCLUDED)
    """If any: only these Namespaces, without the excluded ones."""
    enis: bool = derived(_offers_enis, table.DEVICE_PLUGIN, table.DEVICE_OFFERS)
    """Whether pods also request the node's ENIs as resources of a device plugin."""

    @property
    def left_alone(self) -> tuple[str, ...]:
        """The excluded Namespaces and kube-system, whose ServiceAccounts have the most rights."""
        return tuple(dict.fromkeys((*self.excluded, SYSTEM_NAMESPACE)))

    def covers(self, namespace: str) -> bool:
        """Whether the pods of a Namespace are candidates for injection."""
        return namespace not in self.left_alone and (not self.included or namespace in self.included)


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Settings of the controller. Numbers are seconds unless their names say otherwise."""

    common: CommonSettings = field(default_factory=CommonSettings)
    webhook_host: str = bound(table.WEBHOOK_HOST)
    webhook_port: int = bound(table.WEBHOOK_PORT)
    webhook_url: str | None = bound(table.WEBHOOK_URL)
    """None: the API server reaches the webhooks by the Service below."""
    webhook_client_ca: Path | None = bound(table.WEBHOOK_CLIENT_CA)
    """None: whoever reaches the webhooks may call them."""
    service: str = bound(table.SERVICE)
    cluster_domain: str = bound(table.CLUSTER_DOMAIN)
    health_port: int = bound(table.CONTROLLER_HEALTH_PORT)
    coordinator_name: str = bound(table.COORDINATOR_NAME)
    gc_enabled: bool = bound(table.GC_ENABLED)
    gc_interval: float = bound(table.GC_INTERVAL)
    gc_full_interval: float = bound(table.GC_FULL_INTERVAL)
    gc_grace: float = bound(table.GC_GRACE)
    gc_node_grace: float = bound(table.GC_NODE_GRACE)
    gc_agent_grace: float = bound(table.GC_AGENT_GRACE)
    gc_delay: float = bound(table.GC_DELAY)
    gc_on_ready_node: bool = bound(table.GC_ON_READY_NODE)
    gc_on_not_ready_node: bool = bound(table.GC_ON_NOT_READY_NODE)
    gc_by_time: bool = bound(table.GC_BY_TIME)
    history_objects: int = bound(table.HISTORY_OBJECTS)
    """Number of objects."""
    history_interval: float = bound(table.HISTORY_INTERVAL)
    redundant_ips: int = bound(table.REDUNDANT_IPS)
    """Number of spare addresses."""
    host_cni_dir: Path = bound(table.HOST_CNI_DIR)
    cilium_config: str = bound(table.CILIUM_CONFIG)
    """``namespace/name``."""
    status_debounce: float = bound(table.STATUS_DEBOUNCE)
    identity: str = bound(table.POD_NAME)
    """Name in the leader election."""
    leader_duration: float = bound(table.LEADER_DURATION)
    leader_renew_deadline: float = bound(table.LEADER_RENEW_DEADLINE)
    leader_retry_period: float = bound(table.LEADER_RETRY_PERIOD)
    certificate_life: float = bound(table.CERTIFICATE_LIFE)
    authority_life: float = bound(table.AUTHORITY_LIFE)
    certificate_folder: Path | None = bound(table.CERTIFICATE_FOLDER)
    """None: the controller makes its certificates itself."""
    protect_used: bool = bound(table.PROTECT_USED)
    update_custom_resources: bool = bound(table.UPDATE_CUSTOM_RESOURCES)
    initial_objects: Path | None = bound(table.INITIAL_OBJECTS)
    uninstaller: str = bound(table.UNINSTALLER)
    remove_startup_taint: bool = bound(table.REMOVE_STARTUP_TAINT)
    clean_cluster: bool = bound(table.CLEAN_CLUSTER)
    node_resources: str = bound(table.NODE_RESOURCES)
    """``none``, ``advertise`` or ``withdraw``."""
    default_network: str | None = bound(table.DEFAULT_NETWORK)
    pod_inject: PodInject = field(default_factory=PodInject)
    inject_gates: bool = derived(_injects_gates, table.INJECT_GATES, table.BALANCING)
    """Whether new pods get readiness gates of load balancers, which only the daemon that makes these opens."""

    @property
    def advertises(self) -> bool:
        """Whether Nodes advertise free addresses, and new pods request them."""
        return self.node_resources == "advertise"

    @property
    def changes_pods(self) -> bool:
        """Whether new pods are shown to the webhook."""
        return self.pod_inject.enabled or self.advertises or self.inject_gates


def controller_settings(source: SettingsSource) -> ControllerSettings:
    """Settings of the controller. Raises BadConfig."""
    return with_identity(fields.read(ControllerSettings, source))

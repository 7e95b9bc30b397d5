"""Settings of the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from spiderpool.settings import fields, table
from spiderpool.settings.common import CommonSettings
from spiderpool.settings.fields import bound, derived
from spiderpool.settings.source import SettingsSource


def _metrics_port(enabled: bool, port: int) -> int | None:
    return port if enabled else None


def _health_port(port: int) -> int | None:
    return port or None


def _auto_pool_wait(seconds: float, retries: float) -> float:
    return seconds * retries


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of one node's agent."""

    common: CommonSettings = field(default_factory=CommonSettings)
    node: str = bound(table.NODE_NAME)
    socket: Path = bound(table.SOCKET)
    cni_bin_dir: Path = bound(table.CNI_BIN_DIR)
    cni_conf_dir: Path = bound(table.CNI_CONF_DIR)
    cni_executable: Path = bound(table.CNI_EXECUTABLE)
    install_cni: bool = bound(table.INSTALL_CNI)
    replaced_lists: tuple[str, ...] = bound(table.REPLACED_LISTS)
    """File names."""
    cni_plugins: Path = bound(table.CNI_PLUGINS)
    install_plugins: bool = bound(table.INSTALL_PLUGINS)
    cni_status: bool = bound(table.CNI_STATUS)
    default_network: str | None = bound(table.DEFAULT_NETWORK)
    namespace_isolation: bool = bound(table.NAMESPACE_ISOLATION)
    global_namespaces: tuple[str, ...] = bound(table.GLOBAL_NAMESPACES)
    tune_node: bool = bound(table.TUNE_NODE)
    block_pod_metadata: bool = bound(table.BLOCK_POD_METADATA)
    metadata_namespaces: tuple[str, ...] = bound(table.METADATA_NAMESPACES)
    add_timeout: float = bound(table.ADD_TIMEOUT)
    """Seconds."""
    metrics_port: int | None = derived(_metrics_port, table.ENABLE_METRICS, table.METRICS_PORT)
    """None: metrics are not served on TCP."""
    health_port: int | None = derived(_health_port, table.AGENT_HEALTH_PORT)
    """None: probes are served on the socket only."""
    auto_pool_wait: float = derived(_auto_pool_wait, table.AUTO_POOL_WAIT, table.AUTO_POOL_RETRIES)
    """Seconds that an ADD waits for the pool that the controller makes for an application."""
    gc_agent_grace: float = bound(table.GC_AGENT_GRACE)
    """Seconds that the node of a former pod has to answer before a pod takes over its address without that answer."""
    gc_by_time: bool = bound(table.GC_BY_TIME)
    detect_conflicts: bool = bound(table.DETECT_CONFLICTS)
    detect_gateway: bool = bound(table.DETECT_GATEWAY)
    release_conflicts: bool = bound(table.RELEASE_CONFLICTS)


def agent_settings(source: SettingsSource) -> AgentSettings:
    """Settings of the agent. Raises BadConfig."""
    return fields.read(AgentSettings, source)

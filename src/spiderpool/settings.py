"""Settings: the ConfigMap's file and the environment, read once into frozen dataclasses.

Environment variables and ConfigMap keys carry the names that Spiderpool's chart uses: docs/reference/settings.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from spiderpool.errors import BadConfig

DEFAULT_CONFIG = Path("/tmp/spiderpool/config-map/conf.yml")
TRUE = {"1", "t", "true"}
FALSE = {"0", "f", "false"}


@dataclass(frozen=True, slots=True)
class Common:
    """What agent and controller share."""

    kubeconfig: Path | None = None
    """None: the service account of the pod that we run in."""
    namespace: str = "kube-system"
    """Namespace of our own objects, and of networks that are named without one."""
    log_level: str = "info"
    enable_ipv4: bool = True
    enable_ipv6: bool = False


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of one node's agent."""

    common: Common = field(default_factory=Common)
    node: str = ""
    socket: Path = Path("/var/run/spidernet/spiderpool.sock")
    cni_bin_dir: Path = Path("/opt/cni/bin")
    cni_conf_dir: Path = Path("/etc/cni/net.d")
    cni_executable: Path = Path("/usr/libexec/spiderpool/cni")
    """The CNI executable as our image carries it."""
    install_cni: bool = True
    """Whether to install the executable and the network list in the directories above."""
    default_network: str | None = None
    """``namespace/name`` of the network of pods that ask for none."""
    add_timeout: float = 60.0
    """Seconds that one ADD may take; below the runtime's own limit."""
    metrics_port: int | None = None


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Settings of the controller."""

    common: Common = field(default_factory=Common)
    webhook_host: str = "0.0.0.0"
    webhook_port: int = 5722
    webhook_url: str | None = None
    """Where the API server reaches our webhooks; None: by the Service below."""
    service: str = "spiderpool-controller"
    health_port: int = 5720
    coordinator_name: str = "default"
    gc_enabled: bool = True
    gc_interval: float = 5.0
    """Seconds between two looks at the records."""
    gc_grace: float = 5.0
    """Seconds that must lie between two observations before anything is released."""
    status_debounce: float = 0.3
    """Seconds that a pool's status waits for further changes."""


class Source:
    """The environment and the ConfigMap's file as one source of typed values."""

    def __init__(self, environ: Mapping[str, str], file: Mapping[str, Any]) -> None:
        self._environ = environ
        self._file = file

    def text(self, name: str, default: str) -> str:
        """An environment variable, trimmed; unset or empty gives the default."""
        return self._environ.get(name, "").strip() or default

    def optional(self, name: str) -> str | None:
        """An environment variable that may be absent."""
        return self._environ.get(name, "").strip() or None

    def number(self, name: str, default: float) -> float:
        """An environment variable that is a non-negative number. Raises BadConfig."""
        raw = self.text(name, str(default))
        try:
            value = float(raw)
        except ValueError:
            value = -1.0
        if value < 0:
            raise BadConfig(f"environment variable {name}={raw!r} is not a number of at least 0; correct or unset it")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """An environment variable that is true or false. Raises BadConfig."""
        raw = self.text(name, str(default)).lower()
        if raw not in TRUE | FALSE:
            raise BadConfig(f"environment variable {name}={raw!r} is neither true nor false; correct or unset it")
        return raw in TRUE

    def config_flag(self, key: str, default: bool) -> bool:
        """A boolean key of the ConfigMap's file. Raises BadConfig."""
        value = self._file.get(key, default)
        if not isinstance(value, bool):
            raise BadConfig(f"key {key} in conf.yml is {value!r}, not true or false; correct the ConfigMap")
        return value

    def config_text(self, key: str, default: str) -> str:
        """A text key of the ConfigMap's file. Raises BadConfig."""
        value = self._file.get(key) or default
        if not isinstance(value, str):
            raise BadConfig(f"key {key} in conf.yml is {value!r}, not text; correct the ConfigMap")
        return value


def load_source(environ: Mapping[str, str] = os.environ) -> Source:
    """Read the file that SPIDERPOOL_CONFIG names (absent: defaults). Raises BadConfig."""
    path = Path(environ.get("SPIDERPOOL_CONFIG", DEFAULT_CONFIG))
    if not path.exists():
        return Source(environ, {})
    try:
        document = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise BadConfig(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(document, dict):
        raise BadConfig(f"{path} holds {type(document).__name__}, not a mapping of keys")
    return Source(environ, document)


def agent_settings(source: Source) -> AgentSettings:
    """Settings of the agent. Raises BadConfig."""
    node = source.text("SPIDERPOOL_NODE_NAME", "")
    if not node:
        raise BadConfig("environment variable SPIDERPOOL_NODE_NAME is missing; set it to spec.nodeName of the pod")
    port = int(source.number("SPIDERPOOL_METRIC_HTTP_PORT", 5711))
    return AgentSettings(
        common=_common(source),
        node=node,
        socket=Path(source.config_text("ipamUnixSocketPath", str(AgentSettings().socket))),
        cni_bin_dir=Path(source.text("SPIDERPOOL_CNI_BIN_DIR", "/opt/cni/bin")),
        cni_conf_dir=Path(source.text("SPIDERPOOL_CNI_CONF_DIR", "/etc/cni/net.d")),
        cni_executable=Path(source.text("SPIDERPOOL_CNI_EXECUTABLE", str(AgentSettings().cni_executable))),
        install_cni=source.flag("SPIDERPOOL_INSTALL_CNI", True),
        default_network=source.optional("MULTUS_CLUSTER_NETWORK"),
        add_timeout=source.number("SPIDERPOOL_ADD_TIMEOUT_SECONDS", 60.0),
        metrics_port=port if source.flag("SPIDERPOOL_ENABLED_METRIC", False) else None,
    )


def controller_settings(source: Source) -> ControllerSettings:
    """Settings of the controller. Raises BadConfig."""
    return ControllerSettings(
        common=_common(source),
        webhook_host=source.text("SPIDERPOOL_WEBHOOK_HOST", "0.0.0.0"),
        webhook_port=int(source.number("SPIDERPOOL_WEBHOOK_PORT", 5722)),
        webhook_url=source.optional("SPIDERPOOL_WEBHOOK_URL"),
        service=source.text("SPIDERPOOL_CONTROLLER_DEPLOYMENT_NAME", "spiderpool-controller"),
        health_port=int(source.number("SPIDERPOOL_HEALTH_PORT", 5720)),
        coordinator_name=source.text("SPIDERPOOL_COORDINATOR_NAME", "default"),
        gc_enabled=source.flag("SPIDERPOOL_GC_IP_ENABLED", True),
        gc_interval=source.number("SPIDERPOOL_GC_INTERVAL_SECONDS", 5.0),
        gc_grace=source.number("SPIDERPOOL_GC_GRACE_SECONDS", 5.0),
        status_debounce=source.number("SPIDERPOOL_STATUS_DEBOUNCE_SECONDS", 0.3),
    )


def _common(source: Source) -> Common:
    kubeconfig = source.optional("KUBECONFIG")
    return Common(
        kubeconfig=Path(kubeconfig) if kubeconfig else None,
        namespace=source.text("SPIDERPOOL_POD_NAMESPACE", "kube-system"),
        log_level=source.text("SPIDERPOOL_LOG_LEVEL", "info").lower(),
        enable_ipv4=source.config_flag("enableIPv4", True),
        enable_ipv6=source.config_flag("enableIPv6", False),
    )

"""Settings: the ConfigMap's file and the environment, read once into frozen dataclasses.

Environment variables and ConfigMap keys carry the names that Spiderpool's chart uses: docs/reference/settings.md.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from spiderpool.errors import BadConfig

DEFAULT_CONFIG = Path("/tmp/spiderpool/config-map/conf.yml")
TRUE = {"1", "t", "true"}
FALSE = {"0", "f", "false"}


CLOUDS = ("", "alibaba")


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Which cloud the servers run in, and what is made of what they say of their ENIs; off without a provider."""

    provider: str = ""
    metadata_endpoint: str | None = None
    """URL or host of the metadata service; None: the provider's own."""
    interval: float = 25.0
    """Seconds between two readings of a server's ENIs, with jitter."""
    primary_eni: bool = True
    """Whether pods use a server's primary ENI too."""


@dataclass(frozen=True, slots=True)
class CommonSettings:
    """What agent and controller share."""

    kubeconfig: Path | None = None
    """None: the service account of the pod that we run in."""
    namespace: str = "kube-system"
    """Namespace of our own objects, and of networks that are named without one."""
    log_level: str = "info"
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    enable_statefulset: bool = True
    """Whether an address stays with the ordinal of a StatefulSet when its pod is replaced."""
    enable_kubevirt_static_ip: bool = True
    """Whether an address stays with a KubeVirt machine when its pod is replaced."""
    enable_spider_subnet: bool = True
    enable_auto_pools: bool = True
    """Whether applications may ask for a pool of their own, cut from a SpiderSubnet."""
    cloud: ProviderSettings = field(default_factory=ProviderSettings)

    @property
    def families(self) -> frozenset[int]:
        """The enabled address families, 4 and 6."""
        enabled = {4: self.enable_ipv4, 6: self.enable_ipv6}
        return frozenset(version for version, on in enabled.items() if on)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of one node's agent."""

    common: CommonSettings = field(default_factory=CommonSettings)
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
    namespace_isolation: bool = False
    """Whether pods may only use networks of their own Namespace and of the global ones."""
    global_namespaces: tuple[str, ...] = ("default",)
    tune_node: bool = False
    """Whether to make every ENI of the node answer for itself: rules, tables and connection marks on the node."""
    add_timeout: float = 60.0
    """Seconds that one ADD may take; below the runtime's own limit."""
    metrics_port: int | None = None
    health_port: int | None = None
    """TCP port for the kubelet's probes; None: they are on the socket alone."""
    auto_pool_wait: float = 50.0
    """Seconds that an ADD waits for the pool that the controller makes for an application."""
    detect_conflicts: bool = False
    """Whether to look, before a pod uses an address, whether somebody outside the cluster uses it."""
    detect_gateway: bool = False
    """Whether to look, before a pod uses an address, whether its gateway answers."""
    release_conflicts: bool = True
    """Whether an address that somebody else uses may be given back while its pod lives."""


SYSTEM_NAMESPACES = ("kube-system", "spiderpool", "metallb-system", "istio-system")


@dataclass(frozen=True, slots=True)
class PodInject:
    """Which new pods get networks and resources injected."""

    enabled: bool = False
    excluded: tuple[str, ...] = SYSTEM_NAMESPACES
    """Namespaces whose pods are left alone."""
    included: tuple[str, ...] = ()
    """If any: only these namespaces, without the excluded ones."""
    enis: bool = False
    """Whether pods also ask for the node's ENIs as resources: a device plugin offers them."""

    def covers(self, namespace: str) -> bool:
        """Whether pods of a namespace are looked at."""
        return namespace not in self.excluded and (not self.included or namespace in self.included)


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Settings of the controller."""

    common: CommonSettings = field(default_factory=CommonSettings)
    webhook_host: str = "0.0.0.0"
    webhook_port: int = 5722
    webhook_url: str | None = None
    """Where the API server reaches our webhooks; None: by the Service below."""
    service: str = "spiderpool-controller"
    health_port: int = 5720
    coordinator_name: str = "default"
    gc_enabled: bool = True
    gc_interval: float = 5.0
    """Seconds between two looks at the records that something has happened to."""
    gc_full_interval: float = 600.0
    """Seconds between two looks at all records."""
    gc_grace: float = 5.0
    """Seconds that must lie between two observations before anything is released."""
    gc_node_grace: float = 60.0
    """The same, for pods whose Node object is gone: it may come back under its name."""
    gc_delay: float = 0.0
    """Seconds that a terminating pod gets beyond its grace period."""
    gc_on_ready_node: bool = True
    """Whether terminating pods past that time lose their addresses on nodes that are ready."""
    gc_on_not_ready_node: bool = True
    """The same, on nodes that are not ready."""
    redundant_ips: int = 1
    """Addresses beyond the number of pods in pools of applications that do not say how many they want."""
    host_cni_dir: Path = Path("/etc/cni/net.d")
    """Where podCIDRType auto looks for the cluster's own network; need not exist."""
    cilium_config: str = "kube-system/cilium-config"
    """``namespace/name`` of the ConfigMap of cilium."""
    status_debounce: float = 0.3
    """Seconds that a pool's status waits for further changes."""
    identity: str = ""
    """Name of this replica among its equals: that of its pod, or host name and process."""
    leader_duration: float = 15.0
    """Seconds without a sign of life after which another replica may lead."""
    leader_renew_deadline: float = 10.0
    """Seconds after which a leader that cannot reach the API server stops."""
    leader_retry_period: float = 2.0
    """Seconds between two signs of life."""
    certificate_life: float = 365 * 86400.0
    """Seconds for which a webhook certificate is valid; it is replaced after two thirds of them."""
    authority_life: float = 10 * 365 * 86400.0
    """Seconds for which the authority of the webhook certificates is valid; replaced likewise."""
    protect_used: bool = False
    """Whether pools and subnets whose addresses are in use refuse to be deleted."""
    pod_inject: PodInject = field(default_factory=PodInject)


@dataclass(frozen=True, slots=True)
class PreallocationSettings:
    """Addresses that every ENI has in advance, per family; off unless ``enabled``."""

    enabled: bool = False
    low: int = 5
    """Below so many free addresses the cloud is asked for more."""
    high: int = 15
    """Above so many free addresses some go back."""
    idle: float = 600.0
    """Seconds that an address must have been free before it goes back."""
    fence: float = 60.0
    """Seconds between leaving an address out of its pool and taking it from the ENI."""
    period: float = 60.0
    """Seconds between two looks at the ENIs in the cloud."""


@dataclass(frozen=True, slots=True)
class LoadBalancerSettings:
    """Load balancers of Services."""

    enabled: bool = True
    vpc: str = ""
    """VPC of network and private balancers, and of pods that are backends."""
    vswitch: str = ""
    """vSwitch of private classic balancers that name none."""
    resource_group: str = ""
    pod_backends: bool = False
    """Whether Services that do not say get pods as backends."""
    public: bool = True
    """Whether Services may ask for a public address."""
    ipv6_backends: bool = False
    """Whether the account's server groups take IPv6 servers."""
    period: float = 300.0
    """Seconds between two looks at a balancer that nobody has touched."""


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Settings of spiderpool-cloud, the only one of our processes that has credentials of the cloud."""

    common: CommonSettings = field(default_factory=CommonSettings)
    region: str = ""
    """Region of calls that name none; empty: that of the servers."""
    cluster_id: str = "clusterid"
    """Tells the things that we make in the account from those of other clusters."""
    internal_endpoints: bool = True
    """Whether to reach the cloud's API by names inside the VPC."""
    endpoint: str | None = None
    """One URL for the whole API instead of the cloud's own names."""
    authority: Path | None = None
    """Certificate authority of the API; None: the public ones."""
    credentials: str = "auto"
    """auto, role, oidc, secret or cloud-config."""
    secret: Path = Path("/etc/spiderpool/cloud-credentials")
    """Directory of a mounted Secret with accessKeyID and accessKeySecret."""
    cloud_config: Path = Path("/etc/spiderpool/cloud-config/cloud-config.conf")
    sts_endpoint: str | None = None
    node_period: float = 60.0
    """Seconds between two questions about servers of which nothing is heard; two answers are needed."""
    preallocation: PreallocationSettings = field(default_factory=PreallocationSettings)
    balancing: LoadBalancerSettings = field(default_factory=LoadBalancerSettings)
    health_port: int = 5730
    identity: str = ""
    leader_duration: float = 15.0
    leader_renew_deadline: float = 10.0
    leader_retry_period: float = 2.0


class SettingsSource:
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

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """An environment variable that lists names, separated by commas."""
        raw = self.optional(name)
        return default if raw is None else tuple(each.strip() for each in raw.split(",") if each.strip())

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

    def config_count(self, key: str, default: int) -> int:
        """A whole number of at least 0 in the ConfigMap's file. Raises BadConfig."""
        value = self._file.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise BadConfig(f"key {key} in conf.yml is {value!r}, not a number of at least 0; correct the ConfigMap")
        return value

    def config_text(self, key: str, default: str) -> str:
        """A text key of the ConfigMap's file. Raises BadConfig."""
        value = self._file.get(key) or default
        if not isinstance(value, str):
            raise BadConfig(f"key {key} in conf.yml is {value!r}, not text; correct the ConfigMap")
        return value

    def config_block(self, *keys: str) -> SettingsSource:
        """A mapping inside the ConfigMap's file; empty where there is none. Raises BadConfig."""
        block: Any = self._file
        for depth, key in enumerate(keys):
            block = block.get(key) or {}
            if not isinstance(block, dict):
                raise BadConfig(f"key {'.'.join(keys[: depth + 1])} in conf.yml is {block!r}, not a mapping of keys")
        return SettingsSource(self._environ, block)

    def config_list(self, key: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
        """A list of the ConfigMap's file. Raises BadConfig."""
        value = self._file.get(key)
        if not isinstance(value, list | None):
            raise BadConfig(f"key {key} in conf.yml is {value!r}, not a list; correct the ConfigMap")
        return default if value is None else tuple(value)


def load_source(environ: Mapping[str, str] = os.environ) -> SettingsSource:
    """Read the file that SPIDERPOOL_CONFIG names (absent: defaults). Raises BadConfig."""
    path = Path(environ.get("SPIDERPOOL_CONFIG", DEFAULT_CONFIG))
    if not path.exists():
        return SettingsSource(environ, {})
    try:
        document = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise BadConfig(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(document, dict):
        raise BadConfig(f"{path} holds {type(document).__name__}, not a mapping of keys")
    return SettingsSource(environ, document)


def agent_settings(source: SettingsSource) -> AgentSettings:
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
        namespace_isolation=source.flag("MULTUS_NAMESPACE_ISOLATION", False),
        global_namespaces=source.names("MULTUS_GLOBAL_NAMESPACES", ("default",)),
        tune_node=source.flag("SPIDERPOOL_TUNE_NODE", False),
        add_timeout=source.number("SPIDERPOOL_ADD_TIMEOUT_SECONDS", 60.0),
        metrics_port=port if source.flag("SPIDERPOOL_ENABLED_METRIC", False) else None,
        health_port=int(source.number("SPIDERPOOL_HEALTH_PORT", 0)) or None,
        auto_pool_wait=source.number("SPIDERPOOL_WAIT_SUBNET_POOL_TIME_IN_SECOND", 2)
        * source.number("SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES", 25),
        detect_conflicts=source.config_flag("enableIPConflictDetection", False),
        detect_gateway=source.config_flag("enableGatewayDetection", False),
        release_conflicts=source.flag("SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS", True),
    )


def controller_settings(source: SettingsSource) -> ControllerSettings:
    """Settings of the controller. Raises BadConfig."""
    return ControllerSettings(
        common=_common(source),
        webhook_host=source.text("SPIDERPOOL_WEBHOOK_HOST", "0.0.0.0"),
        webhook_port=int(source.number("SPIDERPOOL_WEBHOOK_PORT", 5722)),
        webhook_url=source.optional("SPIDERPOOL_WEBHOOK_URL"),
        service=source.text("SPIDERPOOL_CONTROLLER_DEPLOYMENT_NAME", "spiderpool-controller"),
        health_port=int(source.number("SPIDERPOOL_HEALTH_PORT", 5720)),
        coordinator_name=source.text(
            "SPIDERPOOL_COORDINATOR_DEAFULT_NAME", source.text("SPIDERPOOL_COORDINATOR_NAME", "default")
        ),
        host_cni_dir=Path(source.text("SPIDERPOOL_CNI_CONFIG_DIR", "/etc/cni/net.d")),
        cilium_config=source.text("SPIDERPOOL_CILIUM_CONFIGMAP_NAMESPACE_NAME", "kube-system/cilium-config"),
        gc_enabled=source.flag("SPIDERPOOL_GC_IP_ENABLED", True),
        gc_interval=source.number(
            "SPIDERPOOL_GC_TRACE_POD_GAP_DURATION", source.number("SPIDERPOOL_GC_INTERVAL_SECONDS", 5.0)
        ),
        gc_full_interval=source.number("SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION", 600.0),
        gc_node_grace=source.number("SPIDERPOOL_GC_NODE_GRACE_SECONDS", 60.0),
        gc_delay=source.number("SPIDERPOOL_GC_ADDITIONAL_GRACE_DELAY", 0.0),
        gc_on_ready_node=source.flag("SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON_READY_NODE_ENABLED", True),
        gc_on_not_ready_node=source.flag("SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON_NOT_READY_NODE_ENABLED", True),
        redundant_ips=source.config_count(
            "clusterSubnetAutoPoolDefaultRedundantIPNumber",
            source.config_count("clusterSubnetDefaultFlexibleIPNumber", 1),
        ),
        gc_grace=source.number("SPIDERPOOL_GC_GRACE_SECONDS", 5.0),
        status_debounce=source.number("SPIDERPOOL_STATUS_DEBOUNCE_SECONDS", 0.3),
        identity=source.text("SPIDERPOOL_POD_NAME", f"{socket.gethostname()}_{os.getpid()}"),
        leader_duration=source.number("SPIDERPOOL_LEADER_DURATION", 15.0),
        leader_renew_deadline=source.number("SPIDERPOOL_LEADER_RENEW_DEADLINE", 10.0),
        leader_retry_period=source.number("SPIDERPOOL_LEADER_RETRY_PERIOD", 2.0),
        certificate_life=source.number("SPIDERPOOL_WEBHOOK_CERTIFICATE_LIFE_SECONDS", 365 * 86400.0),
        authority_life=source.number("SPIDERPOOL_WEBHOOK_AUTHORITY_LIFE_SECONDS", 10 * 365 * 86400.0),
        protect_used=source.config_flag("enableValidatingResourcesDeletedWebhook", False),
        pod_inject=_pod_inject(source),
    )


def cloud_settings(source: SettingsSource) -> CloudSettings:
    """Settings of spiderpool-cloud. Raises BadConfig."""
    defaults, block, authority = CloudSettings(), source.config_block("cloud"), source.optional("SPIDERPOOL_CLOUD_CA")
    return CloudSettings(
        common=_common(source),
        region=source.text("SPIDERPOOL_CLOUD_REGION", block.config_text("region", "")),
        cluster_id=block.config_text("clusterID", defaults.cluster_id),
        internal_endpoints=block.config_flag("internalEndpoints", True),
        endpoint=source.optional("SPIDERPOOL_CLOUD_ENDPOINT"),
        authority=Path(authority) if authority else None,
        credentials=source.text("SPIDERPOOL_CLOUD_CREDENTIALS", block.config_text("credentials", "auto")),
        secret=Path(source.text("SPIDERPOOL_CLOUD_SECRET_DIR", str(defaults.secret))),
        cloud_config=Path(source.text("SPIDERPOOL_CLOUD_CONFIG_FILE", str(defaults.cloud_config))),
        sts_endpoint=source.optional("SPIDERPOOL_CLOUD_STS_ENDPOINT"),
        node_period=source.number("SPIDERPOOL_CLOUD_NODE_PERIOD_SECONDS", 60.0),
        preallocation=_preallocation(source, source.config_block("cloud", "alibaba")),
        balancing=_balancing(source, source.config_block("cloud", "loadBalancers")),
        health_port=int(source.number("SPIDERPOOL_HEALTH_PORT", 5730)),
        identity=source.text("SPIDERPOOL_POD_NAME", f"{socket.gethostname()}_{os.getpid()}"),
        leader_duration=source.number("SPIDERPOOL_LEADER_DURATION", 15.0),
        leader_renew_deadline=source.number("SPIDERPOOL_LEADER_RENEW_DEADLINE", 10.0),
        leader_retry_period=source.number("SPIDERPOOL_LEADER_RETRY_PERIOD", 2.0),
    )


def _balancing(source: SettingsSource, block: SettingsSource) -> LoadBalancerSettings:
    if (backends := block.config_text("backendType", "ecs")) not in ("ecs", "eni"):
        raise BadConfig(f"cloud.loadBalancers.backendType in conf.yml is {backends!r}; write ecs (nodes) or eni (pods)")
    return LoadBalancerSettings(
        enabled=block.config_flag("enabled", True),
        vpc=block.config_text("vpcID", ""),
        vswitch=block.config_text("vswitchID", ""),
        resource_group=block.config_text("resourceGroupID", ""),
        pod_backends=backends == "eni",
        public=block.config_flag("public", True),
        ipv6_backends=block.config_flag("ipv6Backends", False),
        period=source.number("SPIDERPOOL_CLOUD_BALANCER_PERIOD_SECONDS", 300.0),
    )


def _preallocation(source: SettingsSource, block: SettingsSource) -> PreallocationSettings:
    low, high = block.config_count("minFreeAddresses", 5), block.config_count("maxFreeAddresses", 15)
    if not 0 < low <= high:
        raise BadConfig(
            f"cloud.alibaba in conf.yml has minFreeAddresses {low} and maxFreeAddresses {high}; "
            "write a minimum of at least 1 and a maximum that is not below it"
        )
    return PreallocationSettings(
        enabled=block.config_flag("assign", False),
        low=low,
        high=high,
        idle=source.number("SPIDERPOOL_CLOUD_IDLE_SECONDS", 600.0),
        fence=source.number("SPIDERPOOL_CLOUD_FENCE_SECONDS", 60.0),
        period=source.number("SPIDERPOOL_CLOUD_ADDRESS_PERIOD_SECONDS", 60.0),
    )


def _pod_inject(source: SettingsSource) -> PodInject:
    block, plugin = source.config_block("podResourceInject"), source.config_block("agent", "networkResourcePlugin")
    offers = [offer for offer in plugin.config_list("resourceAdvertisement", ()) if isinstance(offer, dict)]
    return PodInject(
        enabled=block.config_flag("enabled", False),
        excluded=tuple(map(str, block.config_list("namespacesExclude", SYSTEM_NAMESPACES))),
        included=tuple(map(str, block.config_list("namespacesInclude", ()))),
        enis=plugin.config_flag("enabled", False) and any("masterNIC" in offer for offer in offers),
    )


def _common(source: SettingsSource) -> CommonSettings:
    kubeconfig = source.optional("KUBECONFIG")
    return CommonSettings(
        kubeconfig=Path(kubeconfig) if kubeconfig else None,
        namespace=source.text("SPIDERPOOL_POD_NAMESPACE", "kube-system"),
        log_level=source.text("SPIDERPOOL_LOG_LEVEL", "info").lower(),
        enable_ipv4=source.config_flag("enableIPv4", True),
        enable_ipv6=source.config_flag("enableIPv6", False),
        enable_statefulset=source.config_flag("enableStatefulSet", True),
        enable_kubevirt_static_ip=source.config_flag("enableKubevirtStaticIP", True),
        enable_spider_subnet=source.config_flag("enableSpiderSubnet", True),
        enable_auto_pools=source.config_flag("enableAutoPoolForApplication", True),
        cloud=_cloud(source, source.config_block("cloud")),
    )


def _cloud(source: SettingsSource, block: SettingsSource) -> ProviderSettings:
    provider = source.text("CLOUD_PROVIDER", block.config_text("provider", "")).lower()
    if provider not in CLOUDS:
        raise BadConfig(f"the cloud provider is {provider!r}; write {' or '.join(map(repr, CLOUDS))}")
    interval = source.number("SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS", 25.0)
    if interval < 1:
        raise BadConfig(f"SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS is {interval}; the service bears one reading a second")
    return ProviderSettings(
        provider=provider,
        metadata_endpoint=source.optional("METADATA_ENDPOINT"),
        interval=interval,
        primary_eni=block.config_flag("primaryCard", True),
    )

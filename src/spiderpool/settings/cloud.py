"""Settings of spiderpool-cloud."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from spiderpool.errors import BadConfig
from spiderpool.settings import fields, table
from spiderpool.settings.common import CommonSettings, with_identity
from spiderpool.settings.fields import bound, derived
from spiderpool.settings.source import SettingsSource


def _is_pods(backend_type: str) -> bool:
    return backend_type == "eni"


@dataclass(frozen=True, slots=True)
class PreallocationSettings:
    """Addresses that every ENI has in advance, per family; off unless ``enabled``."""

    enabled: bool = bound(table.ASSIGN)
    low: int = bound(table.MIN_FREE)
    """With fewer free addresses more are assigned."""
    high: int = bound(table.MAX_FREE)
    """With more free addresses some are unassigned."""
    idle: float = bound(table.IDLE)
    """Seconds that an address must have been free before it is unassigned."""
    fence: float = bound(table.FENCE)
    """Seconds between excluding an address from its pool and unassigning it."""
    period: float = bound(table.ADDRESS_PERIOD)
    """Seconds between two reads of the ENIs."""


@dataclass(frozen=True, slots=True)
class LoadBalancerSettings:
    """Load balancers of Services."""

    enabled: bool = bound(table.BALANCING)
    vpc: str = bound(table.BALANCER_VPC)
    vswitch: str = bound(table.BALANCER_VSWITCH)
    zones: str = bound(table.BALANCER_ZONES)
    resource_group: str = bound(table.RESOURCE_GROUP)
    pod_backends: bool = derived(_is_pods, table.BACKEND_TYPE)
    """Whether Services without the annotation for the backend type get pods as backends."""
    public: bool = bound(table.PUBLIC)
    ipv6_backends: bool = bound(table.IPV6_BACKENDS)
    max_per_namespace: int = bound(table.MAX_PER_NAMESPACE)
    max_per_cluster: int = bound(table.MAX_PER_CLUSTER)
    default_type: str = bound(table.DEFAULT_TYPE)
    """Of Services that name no type and have no balancer yet."""
    period: float = bound(table.BALANCER_PERIOD)
    """Seconds between two checks of a load balancer whose Service has not changed."""


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Settings of spiderpool-cloud, our only daemon with credentials of the cloud."""

    common: CommonSettings = field(default_factory=CommonSettings)
    region: str = bound(table.CLOUD_REGION)
    """Empty: the region of the servers."""
    cluster_id: str = bound(table.CLUSTER_ID)
    internal_endpoints: bool = bound(table.INTERNAL_ENDPOINTS)
    endpoint: str | None = bound(table.CLOUD_ENDPOINT)
    """One URL for the whole API; None: the cloud's own names."""
    authority: Path | None = bound(table.CLOUD_AUTHORITY)
    credentials: str = bound(table.CREDENTIALS)
    secret: Path = bound(table.SECRET_DIR)
    """Directory of the mounted Secret."""
    cloud_config: Path = bound(table.CLOUD_CONFIG_FILE)
    sts_endpoint: str | None = bound(table.STS_ENDPOINT)
    node_period: float = bound(table.NODE_PERIOD)
    """Seconds between two queries about the servers of silent Nodes."""
    preallocation: PreallocationSettings = field(default_factory=PreallocationSettings)
    balancing: LoadBalancerSettings = field(default_factory=LoadBalancerSettings)
    health_port: int = bound(table.CLOUD_HEALTH_PORT)
    identity: str = bound(table.POD_NAME)
    """Name in the leader election."""
    leader_duration: float = bound(table.LEADER_DURATION)
    leader_renew_deadline: float = bound(table.LEADER_RENEW_DEADLINE)
    leader_retry_period: float = bound(table.LEADER_RETRY_PERIOD)
    """All in seconds."""


def cloud_settings(source: SettingsSource) -> CloudSettings:
    """Settings of spiderpool-cloud. Raises BadConfig."""
    settings = with_identity(fields.read(CloudSettings, source))
    _check_preallocation(settings.preallocation)
    return settings


def _check_preallocation(settings: PreallocationSettings) -> None:
    (low,), (high,) = table.MIN_FREE.keys, table.MAX_FREE.keys
    if settings.low > settings.high:
        raise BadConfig(
            f"conf.yml has {low} {settings.low} and {high} {settings.high}; "
            "write a maximum that is not below the minimum"
        )

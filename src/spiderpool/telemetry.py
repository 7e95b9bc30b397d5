"""Structured logs, and all metrics by name. It is imported everywhere and imports nothing of ours."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

LEVELS = {
    **{"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR},
    **dict.fromkeys(("fatal", "panic"), logging.CRITICAL),
}

Values = Mapping[tuple[str, ...], float]
"""Values of the labels, in the order of their names → value of the metric."""


class ComputedGauge(Collector):
    """A gauge whose values are computed when somebody reads it, by whoever knows them at that time.

    So a replica that leads no longer exports nothing that was true when it led.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str] = ()) -> None:
        self._name = name
        self._documentation = documentation
        self.labels = tuple(labels)
        self._sources: list[Callable[[], Values]] = []
        REGISTRY.register(self)

    @contextmanager
    def computed_by(self, source: Callable[[], Values]) -> Iterator[None]:
        """Export what ``source()`` returns while the context lasts; the largest where several have the same labels."""
        self._sources.append(source)
        try:
            yield
        finally:
            self._sources.remove(source)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The metric without values, by which it is registered."""
        return [GaugeMetricFamily(self._name, self._documentation, labels=self.labels)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The metric with its present values."""
        largest: dict[tuple[str, ...], float] = {}
        for source in self._sources:
            for labels, value in self._read(source).items():
                largest[labels] = max(value, largest.get(labels, value))
        (family,) = self.describe()
        for labels, value in largest.items():
            family.add_metric(labels, value)
        return [family]

    def _read(self, source: Callable[[], Values]) -> Values:
        """What a source returns; nothing after a bug in it, which must not hide all other metrics."""
        try:
            return source()
        except Exception:
            logger("metrics").exception("metric not computed", metric=self._name)
            return {}


ALLOCATIONS = Counter("spiderpool_ipam_allocation_counts", "ADD requests.")
ALLOCATION_FAILURES = Counter("spiderpool_ipam_allocation_failure_counts", "ADD requests that failed.")
REFUSALS = Counter(
    "spiderpool_ipam_refusal_counts", "Addresses refused, by the rule that dropped the last pool.", ("reason",)
)
ALLOCATION_CONFLICTS = Counter(
    "spiderpool_ipam_allocation_update_ippool_conflict_counts", "Addresses that another node had claimed first."
)
ALLOCATION_SECONDS = Histogram(
    "spiderpool_ipam_allocation_duration_seconds",
    "Duration of the allocation of an ADD.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 5, 10),
)
STAGES = ("wait", "decide", "claim", "kernel")
STAGE_SECONDS = Histogram(
    "spiderpool_add_stage_duration_seconds",
    "Duration of a stage of an ADD: wait (for the Pod object, and for other calls for its "
    "sandbox), decide (which networks), claim (of addresses), kernel (interfaces, routes, host ports).",
    ("stage",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 5, 10, 30),
)
WAIT_SECONDS, DECIDE_SECONDS, CLAIM_SECONDS, KERNEL_SECONDS = (STAGE_SECONDS.labels(stage) for stage in STAGES)
ADDRESS_CONFLICTS = Counter(
    "spiderpool_ip_conflict_counts", "ADDs that failed since something else on the network uses one of their addresses."
)
RELEASES = Counter("spiderpool_ipam_release_counts", "Addresses released.")
RELEASE_FAILURES = Counter("spiderpool_ipam_release_failure_counts", "Releases that had to be put off.")
ACCOUNT_WRITES = Counter("spiderpool_node_account_writes", "Accounts of the node's sandboxes that were written.")
RECORDS_RESTORED = Counter(
    "spiderpool_ip_restored_counts", "SpiderIPs made again because a sandbox used an address that had none."
)
ADDRESSES_TWICE = Counter(
    "spiderpool_ip_duplicate_counts", "Addresses found in a sandbox that are those of another pod by their SpiderIP."
)
METADATA_OPEN = Gauge("spiderpool_metadata_open_to_pods", "1: pods are not kept from the cloud's metadata service.")
COLLECTED = Counter("spiderpool_ip_gc_counts", "Addresses released by collection.")
COLLECT_FAILURES = Counter("spiderpool_ip_gc_failure_counts", "Addresses whose collection failed.")
COLLECTION_WAITING = Gauge(
    "spiderpool_ip_gc_waiting", "Addresses without a pod that wait for nodes that do not answer."
)

POOLS = ComputedGauge("spiderpool_total_ippool_counts", "SpiderIPPools.")
POOL_ADDRESSES = ComputedGauge(
    "spiderpool_ippool_addresses",
    "Addresses of a SpiderIPPool, but for disabled and terminating ones, and those made for one application.",
    ("pool",),
)
POOL_FREE = ComputedGauge(
    "spiderpool_ippool_free_addresses",
    "Those of them that are neither in use nor reserved.",
    ("pool",),
)
SUBNETS = ComputedGauge("spiderpool_total_subnet_counts", "SpiderSubnets.")
SUBNET_ADDRESSES = ComputedGauge("spiderpool_subnet_addresses", "Addresses of a SpiderSubnet.", ("subnet",))
SUBNET_FREE = ComputedGauge(
    "spiderpool_subnet_free_addresses", "Addresses of a SpiderSubnet that no SpiderIPPool has.", ("subnet",)
)
SUBNET_FULL_POOLS = ComputedGauge(
    "spiderpool_subnet_full_ippools",
    "SpiderIPPools made for one application from a SpiderSubnet, all of whose addresses are in use.",
    ("subnet",),
)
CERTIFICATE_EXPIRY = Gauge(
    "spiderpool_certificate_expiry_timestamp_seconds",
    "Time at which a certificate of the webhooks expires, in seconds since 1970: that which serves, and the first of "
    "the authorities that the API server is given.",
    ("certificate",),
)

CLOUD_CALLS = Counter("spiderpool_cloud_calls", "Calls to the cloud's API, by how they ended.", ("action", "outcome"))
CLOUD_CALL_BUDGET = Gauge("spiderpool_cloud_call_budget", "Calls that we allow ourselves in a minute.", ("action",))
CLOUD_ADDRESSES = Counter("spiderpool_cloud_addresses", "Addresses registered on and taken from ENIs.", ("change",))
CLOUD_VSWITCH_FREE = ComputedGauge(
    "spiderpool_cloud_vswitch_free_addresses", "Free addresses of a vSwitch.", ("switch",)
)
METADATA_READINGS = Counter(
    "spiderpool_metadata_readings", "Readings of the server's ENIs: good, unanswered or doubtful.", ("outcome",)
)
LOAD_BALANCERS = ComputedGauge(
    "spiderpool_load_balancers",
    "Load balancers made for Services of this cluster, when they were last counted: used, preserved or orphaned.",
    ("state",),
)
LOAD_BALANCER_REFUSALS = Counter(
    "spiderpool_load_balancer_refusals",
    "Services refused, by what they lack: a grant, or room in the limits of their Namespace or of the cluster.",
    ("reason",),
)
UNREGISTERED = ComputedGauge(
    "spiderpool_unregistered_addresses",
    "Addresses that pods hold and the cloud does not know on their ENI.",
    ("pool",),
)
UNENFORCED_POLICIES = ComputedGauge(
    "spiderpool_network_policies_not_enforced", "NetworkPolicies that select pods with addresses of ours."
)
WEBHOOK_DROPS = Counter(
    "spiderpool_webhook_dropped_connections",
    "Connections to the webhooks that were closed: too many connections or bytes in all, or too slow.",
    ("reason",),
)
CACHE_AGE = ComputedGauge(
    "spiderpool_cache_age_seconds",
    "Seconds since the API server was last heard of a kind of objects: by a list, a change, or the bookmark that it "
    "sends about once a minute where nothing changes.",
    ("kind",),
)
EVENT_LOOP_LAG = Histogram(
    "spiderpool_event_loop_lag_seconds",
    "Time until the daemon's event loop carries out what is due, looked at four times a second.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
EVENT_LOOP_BLOCKS = Histogram(
    "spiderpool_event_loop_block_seconds",
    "Blocks of the daemon's event loop of more than half a second.",
    buckets=(0.5, 1, 2, 5, 10, 30),
)


def configure(level: str) -> None:
    """Log JSON lines to standard output from ``level`` up, one of LEVELS."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", key="ts"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(),
        cache_logger_on_first_use=True,
    )


def configure_command() -> None:
    """Log what is wrong to standard error, one line each: a command prints its answer to standard output."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def logger(name: str) -> Any:
    """A logger whose lines carry ``component=name``."""
    return structlog.get_logger(component=name)


def _encode(record: Any, **_: Any) -> bytes:
    """A log record as JSON; values that JSON does not know become text."""
    return msgspec.json.encode(record, enc_hook=str)

"""Write the dashboards of the chart from the tables of panels below. Run after a change of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "charts" / "spiderpool" / "monitoring" / "dashboards"

COLUMNS: Final = 24
"""Width of a dashboard in Grafana's units."""
HEIGHT: Final = 8
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph, or a number where ``kind`` is ``stat``."""

    title: str
    queries: Mapping[str, str]
    """Legend → query."""
    unit: str = "short"
    kind: str = "timeseries"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels beside one another, below a title."""

    title: str
    panels: Sequence[Panel]


def rate(metric: str, by: str = "") -> str:
    """The query for the rate of a counter, summed over all instances or by a label."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[$__rate_interval]))"


def quantile(part: float, histogram: str, by: str = "") -> str:
    """The query for a quantile of a histogram over all instances, or by a label."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({part}, sum by ({labels}) (rate({histogram}_bucket[$__rate_interval])))"


def used(kind: str, label: str) -> str:
    """The query for the part of the addresses of pools or subnets that is not free."""
    return f"max by ({label}) (1 - spiderpool_{kind}_free_addresses / (spiderpool_{kind}_addresses > 0))"


POOLS: Final = [
    Row(
        "Now",
        [
            Panel("Pools", {"pools": "max(spiderpool_total_ippool_counts)"}, kind="stat"),
            Panel("Subnets", {"subnets": "max(spiderpool_total_subnet_counts)"}, kind="stat"),
            Panel("Full pools", {"full": "count(spiderpool_ippool_free_addresses == 0) or vector(0)"}, kind="stat"),
            Panel(
                "Shortest time until a pool is full",
                {"left": "min(spiderpool:ippool_exhaustion:seconds) or vector(Inf)"},
                "s",
                "stat",
                "Infinite: no pool has a trend. Needs the recording rules of the chart.",
            ),
        ],
    ),
    Row(
        "Pools",
        [
            Panel(
                "Fullness",
                {"{{pool}}": used("ippool", "pool")},
                "percentunit",
            ),
            Panel("Free addresses", {"{{pool}}": "min by (pool) (spiderpool_ippool_free_addresses)"}),
            Panel(
                "Time until it is full",
                {"{{pool}} (trend of {{trend}})": "spiderpool:ippool_exhaustion:seconds"},
                "s",
                description="Of pools whose use grows. days: the low point has sunk on two days running; "
                "hours: fewer are free than the week before has seen.",
            ),
        ],
    ),
    Row(
        "Subnets",
        [
            Panel(
                "Part that pools have",
                {"{{subnet}}": used("subnet", "subnet")},
                "percentunit",
            ),
            Panel("Addresses that no pool has", {"{{subnet}}": "min by (subnet) (spiderpool_subnet_free_addresses)"}),
        ],
    ),
    Row(
        "Wrong addresses: all of these should be 0",
        [
            Panel(
                "Duplicates, conflicts, records made again",
                {
                    "in use by two pods": "sum(increase(spiderpool_ip_duplicate_counts_total[1h]))",
                    "in use by something else": "sum(increase(spiderpool_ip_conflict_counts_total[1h]))",
                    "records made again": "sum(increase(spiderpool_ip_restored_counts_total[1h]))",
                },
            ),
            Panel(
                "Leaks",
                {
                    "collected": "sum(increase(spiderpool_ip_gc_counts_total[1h]))",
                    "collection failed": "sum(increase(spiderpool_ip_gc_failure_counts_total[1h]))",
                    "wait for their nodes": "max(spiderpool_ip_gc_waiting)",
                },
            ),
            Panel(
                "Addresses that the cloud does not know",
                {"{{pool}}": "max by (pool) (spiderpool_unregistered_addresses)"},
            ),
        ],
    ),
]

PODS: Final = [
    Row(
        "Start of pods",
        [
            Panel(
                "ADDs",
                {
                    "all": rate("spiderpool_ipam_allocation_counts_total"),
                    "failed": rate("spiderpool_ipam_allocation_failure_counts_total"),
                },
                "ops",
            ),
            Panel(
                "Duration of the allocation",
                {
                    "half": quantile(0.5, "spiderpool_ipam_allocation_duration_seconds"),
                    "99 %": quantile(0.99, "spiderpool_ipam_allocation_duration_seconds"),
                },
                "s",
            ),
            Panel("Refusals by reason", {"{{reason}}": rate("spiderpool_ipam_refusal_counts_total", "reason")}, "ops"),
        ],
    ),
    Row(
        "Stages of an ADD",
        [
            Panel(
                "99 % of each stage",
                {"{{stage}}": quantile(0.99, "spiderpool_add_stage_duration_seconds", "stage")},
                "s",
            ),
            Panel(
                "Mean of each stage",
                {
                    "{{stage}}": f"{rate('spiderpool_add_stage_duration_seconds_sum', 'stage')}"
                    f" / {rate('spiderpool_add_stage_duration_seconds_count', 'stage')}"
                },
                "s",
            ),
            Panel(
                "Addresses that another node had claimed first",
                {"per second": rate("spiderpool_ipam_allocation_update_ippool_conflict_counts_total")},
                "ops",
            ),
        ],
    ),
    Row(
        "End of pods",
        [
            Panel(
                "Releases",
                {
                    "released": rate("spiderpool_ipam_release_counts_total"),
                    "put off": rate("spiderpool_ipam_release_failure_counts_total"),
                },
                "ops",
            ),
            Panel("Accounts of sandboxes written", {"per second": rate("spiderpool_node_account_writes_total")}, "ops"),
        ],
    ),
    Row(
        "Nodes",
        [
            Panel("Nodes whose pods reach the metadata service", {"nodes": "sum(spiderpool_metadata_open_to_pods)"}),
            Panel("Readings of ENIs", {"{{outcome}}": rate("spiderpool_metadata_readings_total", "outcome")}, "ops"),
            Panel("NetworkPolicies not enforced", {"policies": "max(spiderpool_network_policies_not_enforced)"}),
        ],
    ),
]

DAEMONS: Final = [
    Row(
        "Daemons",
        [
            Panel(
                "Lag of the event loop, 99 %",
                {"{{job}} {{instance}}": quantile(0.99, "spiderpool_event_loop_lag_seconds", "job, instance")},
                "s",
            ),
            Panel(
                "Seconds of blocked event loops",
                {"{{job}} {{instance}}": "increase(spiderpool_event_loop_block_seconds_sum[10m])"},
                "s",
            ),
            Panel(
                "Age of caches",
                {"{{kind}}": "max by (kind) (spiderpool_cache_age_seconds)"},
                "s",
                description="Seconds since the API server was last heard of a kind; about a minute is normal.",
            ),
        ],
    ),
    Row(
        "Webhooks",
        [
            Panel(
                "Certificates expire in",
                {"{{certificate}}": "min by (certificate) (spiderpool_certificate_expiry_timestamp_seconds) - time()"},
                "s",
                "stat",
            ),
            Panel(
                "Connections closed",
                {"{{reason}}": rate("spiderpool_webhook_dropped_connections_total", "reason")},
                "ops",
            ),
        ],
    ),
    Row(
        "Cloud",
        [
            Panel("Calls", {"{{action}} {{outcome}}": rate("spiderpool_cloud_calls_total", "action, outcome")}, "ops"),
            Panel(
                "Part of the budget that is spent",
                {
                    "{{action}}": f"60 * {rate('spiderpool_cloud_calls_total', 'action')}"
                    " / max by (action) (spiderpool_cloud_call_budget)"
                },
                "percentunit",
            ),
            Panel("Addresses of ENIs", {"{{change}}": rate("spiderpool_cloud_addresses_total", "change")}, "ops"),
            Panel(
                "Free addresses of vSwitches",
                {"{{switch}}": "min by (switch) (spiderpool_cloud_vswitch_free_addresses)"},
            ),
            Panel("Load balancers", {"{{state}}": "max by (state) (spiderpool_load_balancers)"}),
            Panel(
                "Services refused",
                {"{{reason}}": "sum by (reason) (increase(spiderpool_load_balancer_refusals_total[1h]))"},
            ),
        ],
    ),
]

DASHBOARDS: Final = {
    "pools": ("Spiderpool: pools", POOLS),
    "pods": ("Spiderpool: start of pods", PODS),
    "daemons": ("Spiderpool: daemons and cloud", DAEMONS),
}


def dashboard(name: str) -> dict[str, Any]:
    """A dashboard in Grafana's JSON model."""
    title, rows = DASHBOARDS[name]
    variable = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": f"spiderpool-{name}",
        "title": title,
        "tags": ["spiderpool"],
        "schemaVersion": 37,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": list(_panels(rows)),
    }


def _panels(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for row in rows:
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        number, top = number + 1, top + 1
        across = min(3, len(row.panels)) if all(each.kind != "stat" for each in row.panels) else len(row.panels)
        width = COLUMNS // across
        for index, panel in enumerate(row.panels):
            line, column = divmod(index, across)
            place = {"h": HEIGHT, "w": width, "x": column * width, "y": top + line * HEIGHT}
            yield {"id": number, **_panel(panel), "gridPos": place}
            number += 1
        top += HEIGHT * -(-len(row.panels) // across)


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    made = {"type": panel.kind, "title": panel.title, "datasource": SOURCE, "targets": targets}
    made["fieldConfig"] = {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []}
    return made | ({"description": panel.description} if panel.description else {})


def text(name: str) -> str:
    """The file of a dashboard."""
    return json.dumps(dashboard(name), indent=1) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        file = FOLDER / f"{name}.json"
        file.write_text(text(name))
        print(file.relative_to(ROOT))

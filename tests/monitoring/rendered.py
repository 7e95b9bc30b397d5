"""What the chart makes for Prometheus and Grafana, with everything switched on."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from spiderpool_lab import chart

DAEMONS = ("spiderpoolAgent", "spiderpoolController", "spiderpoolCloud")
EVERYTHING = (
    "cloud.enabled=true",
    "cloud.provider=alibaba",
    "grafanaDashboard.install=true",
    *(f"{each}.prometheus.enabled=true" for each in DAEMONS),
    *(f"{each}.prometheus.prometheusRule.install=true" for each in DAEMONS),
)


@cache
def objects(kind: str, *values: str) -> list[dict[str, Any]]:
    """The objects of a kind."""
    made = chart.templates(*EVERYTHING, *values)
    return [each for name in made for each in chart.documents(made[name]) if each["kind"] == kind]


def groups(*values: str) -> list[dict[str, Any]]:
    """The groups of all PrometheusRules, as in a file of rules."""
    return [group for rule in objects("PrometheusRule", *values) for group in rule["spec"]["groups"]]


def rules(kind: str, *values: str) -> list[dict[str, Any]]:
    """All rules that have this key: ``alert`` or ``record``."""
    return [rule for group in groups(*values) for rule in group["rules"] if kind in rule]


def dashboards() -> list[dict[str, Any]]:
    """The dashboards that Grafana's sidecar finds by its usual label."""
    found = [each for each in objects("ConfigMap") if "grafana_dashboard" in each["metadata"]["labels"]]
    return [json.loads(text) for each in found for text in each["data"].values()]


def queries() -> dict[str, str]:
    """Dashboard, panel and legend → query, with a range instead of Grafana's variable."""
    return {
        f"{board['title']}, {panel['title']}, {target['legendFormat']}": target["expr"].replace(
            "$__rate_interval", "1m"
        )
        for board in dashboards()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    }

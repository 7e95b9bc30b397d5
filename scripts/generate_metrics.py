"""Write docs/reference/metrics.md from the metrics in telemetry.py and the files that use them. Run after a change."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from spiderpool import telemetry
from spiderpool.telemetry import ComputedGauge

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "spiderpool"
PAGE = ROOT / "docs" / "reference" / "metrics.md"

INTRODUCTION = """\
# Metrics

What the daemons export under `/metrics`, in Prometheus' text format. How to have them read, alerts and dashboards:
[monitoring](../usage/monitoring.md). Every daemon has the counters and histograms without labels from its start, also
those of the other daemons, which are 0 there. The process's own (`process_…`, `python_…`) are the Python client's.

Names are Spiderpool's where it has documented one for the same thing, hence `_counts_total`. The others are made by
[Prometheus' rules](https://prometheus.io/docs/practices/naming/): the unit last, and `_total` after that of a counter.

`scripts/generate_metrics.py` makes this page from `src/spiderpool/telemetry.py`.
"""

NOT_KEPT = """\
## Names of Spiderpool that are not exported

| name | instead |
|---|---|
| `ipam_allocation_average_duration_seconds`, and `max`, `min`, `latest` | `spiderpool_ipam_allocation_duration_seconds`, a histogram |
| `ipam_allocation_limit_duration_seconds`, `ipam_release_limit_duration_seconds`, and their gauges | there is no limiter; `spiderpool_add_stage_duration_seconds` with `stage="wait"` is what an ADD waits |
| `ipam_allocation_err_internal_counts`, `_err_no_available_pool_counts`, `_err_retries_exhausted_counts`, `_err_ip_used_out_counts` | `spiderpool_ipam_refusal_counts_total` by `reason`; nothing is retried until it is exhausted |
| `ipam_release_duration_seconds` and its gauges, `ipam_release_update_ippool_conflict_counts`, `ipam_release_err_internal_counts`, `ipam_release_err_retries_exhausted_counts` | a release waits for nothing; `spiderpool_ipam_release_failure_counts_total` |
| `debug_ippool_total_ip_counts`, `debug_ippool_available_ip_counts` | `spiderpool_ippool_addresses`, `spiderpool_ippool_free_addresses` |
| `debug_subnet_total_ip_counts`, `debug_subnet_available_ip_counts` | `spiderpool_subnet_addresses`, `spiderpool_subnet_free_addresses` |
| `debug_auto_pool_waited_for_available_counts`, `debug_subnet_ippool_counts`, `rdma_…` | nothing |
"""  # noqa: E501 - a table

DAEMONS = {
    "agent": "spiderpool-agent",
    "controller": "spiderpool-controller",
    "cloudcontroller": "spiderpool-cloud",
    "cloud": "spiderpool-cloud",
}
"""Folder → the daemon that runs what is in it; every daemon runs what is in the others."""
ALL = "all daemons"
ORDER = (ALL, *dict.fromkeys(DAEMONS.values()))


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as it is exported."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str
    daemon: str

    @property
    def exported(self) -> str:
        """Its name in queries; of a histogram, without ``_bucket``, ``_sum`` and ``_count``."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    @property
    def series(self) -> set[str]:
        """The names of its series."""
        parts = {f"{self.name}_{part}" for part in ("bucket", "sum", "count")}
        return parts if self.kind == "histogram" else {self.exported}


def described() -> list[Described]:
    """All metrics of telemetry.py, in its order."""
    names: dict[str, list[str]] = {}  # metric → variables that hold it, or one of its series
    found: dict[str, MetricWrapperBase | ComputedGauge] = {}
    for variable, value in vars(telemetry).items():
        if isinstance(value, MetricWrapperBase | ComputedGauge):
            (family,) = value.describe()
            names.setdefault(family.name, []).append(variable)
            found.setdefault(family.name, value)
    importers = _importers()
    return [_described(found[name], _daemon(variables, importers)) for name, variables in names.items()]


def _described(metric: MetricWrapperBase | ComputedGauge, daemon: str) -> Described:
    (family,) = metric.describe()
    labels = metric.labels if isinstance(metric, ComputedGauge) else metric._labelnames
    return Described(family.name, family.type, tuple(labels), family.documentation, daemon)


def _daemon(variables: list[str], importers: dict[str, set[str]]) -> str:
    """Who sets a metric, by the folders of the files that import one of its variables. Raises ValueError if none do."""
    folders = {folder for variable in variables for folder in importers.get(variable, ())}
    daemons = {DAEMONS.get(folder, ALL) for folder in folders}
    if not daemons:
        raise ValueError(f"nobody sets {' or '.join(variables)}: use or remove it")
    return daemons.pop() if len(daemons) == 1 else ALL


def _importers() -> dict[str, set[str]]:
    """Name in telemetry.py → the folders of the files that import it."""
    found: dict[str, set[str]] = {}
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == telemetry.__name__:
                for alias in node.names:
                    found.setdefault(alias.name, set()).add(path.relative_to(SOURCES).parts[0])
    return found


def page() -> str:
    """The whole page, as Markdown."""
    metrics = described()
    sections = (
        line for daemon in ORDER for line in _section(daemon, [each for each in metrics if each.daemon == daemon])
    )
    return "\n".join([INTRODUCTION, *sections, NOT_KEPT])


def _section(daemon: str, metrics: list[Described]) -> Iterator[str]:
    yield f"## {daemon[0].upper()}{daemon[1:]}\n" if daemon == ALL else f"## {daemon}\n"
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for each in metrics:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        yield f"| `{each.exported}` | {each.kind} | {labels} | {each.meaning} |".replace("|  |", "| |")
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.relative_to(ROOT))

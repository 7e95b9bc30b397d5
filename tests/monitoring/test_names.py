"""What the daemons export: named by Prometheus' rules, described on its page, and the only names that are used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, generate_latest
from scripts import generate_dashboards, generate_metrics

from tests.monitoring.promtool import promtool
from tests.monitoring.rendered import queries, rules

pytestmark = pytest.mark.unit

ROOT = generate_metrics.ROOT
METRICS = generate_metrics.described()
EXPORTED = {name for metric in METRICS for name in metric.series}
RECORDED = {rule["record"] for rule in rules("record")}
NAME = re.compile(r"\bspiderpool[_:][a-zA-Z0-9_:]+")
OTHERS = {f"spiderpool_{name}" for name in ("lab", "sources", "hostports", "masquerade", "cards", "metadata")}
"""Names that pages have of something else: our package for labs, and chains of the kernel's rules."""
UNITS = (
    "seconds",
    "counts",
    "counts_total",
    "total",
    "addresses",
    "balancers",
    "budget",
    "waiting",
    "enforced",
    "pods",
    "ippools",
)
"""What a name may end with: its unit, or of a number of things, what these are."""


def test_the_page_is_up_to_date() -> None:
    assert generate_metrics.PAGE.read_text() == generate_metrics.page(), "run: python -m scripts.generate_metrics"


@pytest.mark.parametrize("name", generate_dashboards.DASHBOARDS)
def test_the_dashboards_are_up_to_date(name: str) -> None:
    file = generate_dashboards.FOLDER / f"{name}.json"
    assert file.read_text() == generate_dashboards.text(name), "run: python -m scripts.generate_dashboards"


def test_prometheus_finds_no_fault_with_names_and_help() -> None:
    lines = promtool("check", "metrics", text=generate_latest().decode()).splitlines()
    assert [line for line in lines if line.startswith("spiderpool_") and "_created" not in line] == []


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_ends_with_its_unit_and_has_a_sentence(metric: generate_metrics.Described) -> None:
    assert metric.exported.endswith(UNITS)
    assert metric.meaning.endswith(".")
    assert all(re.fullmatch("[a-z_]+", label) for label in metric.labels)


def test_every_metric_of_ours_is_on_the_page() -> None:
    families = {family.name for family in REGISTRY.collect() if family.name.startswith("spiderpool_")}
    assert families - {"spiderpool_tests_seconds"} == {metric.name for metric in METRICS}


@pytest.mark.parametrize("where", [*queries(), *(rule.get("alert", rule.get("record")) for rule in rules("expr"))])
def test_a_query_uses_no_name_that_nobody_exports(where: str) -> None:
    of_rules = {rule.get("alert", rule.get("record")): rule["expr"] for rule in rules("expr")}
    used = NAME.findall((queries() | of_rules)[where])
    assert used
    assert {*used} <= EXPORTED | RECORDED


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=lambda path: path.name)
def test_a_page_names_no_metric_that_nobody_exports(page: Path) -> None:
    names = EXPORTED | RECORDED | {metric.exported for metric in METRICS} | OTHERS
    assert {*NAME.findall(page.read_text())} <= names

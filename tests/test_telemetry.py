"""Gauges that are computed when somebody reads them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from spiderpool.telemetry import ComputedGauge, Values

pytestmark = pytest.mark.unit


@pytest.fixture
def gauge() -> Iterator[ComputedGauge]:
    made = ComputedGauge("spiderpool_tests_seconds", "Of a test.", ("kind",))
    yield made
    REGISTRY.unregister(made)


def value(kind: str) -> float | None:
    return REGISTRY.get_sample_value("spiderpool_tests_seconds", {"kind": kind})


def test_it_is_exported_while_somebody_knows_it(gauge: ComputedGauge) -> None:
    numbers: dict[tuple[str, ...], float] = {("pods",): 1.0}
    with gauge.computed_by(lambda: numbers):
        assert value("pods") == 1.0
        numbers["pods",] = 2.0
        assert value("pods") == 2.0
    assert value("pods") is None


def test_the_largest_is_exported_where_several_know_it(gauge: ComputedGauge) -> None:
    with gauge.computed_by(lambda: {("pods",): 3.0}), gauge.computed_by(lambda: {("pods",): 2.0, ("nodes",): 1.0}):
        assert (value("pods"), value("nodes")) == (3.0, 1.0)


def test_a_bug_in_one_hides_no_other(gauge: ComputedGauge) -> None:
    def broken() -> Values:
        raise RuntimeError("a bug")

    with gauge.computed_by(broken), gauge.computed_by(lambda: {("pods",): 1.0}):
        assert value("pods") == 1.0

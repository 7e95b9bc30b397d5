"""Every panel shows something: a real Prometheus reads what our code exports, and is asked for each query."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from spiderpool_lab.ports import free_ports
from tests.monitoring.prometheus import Prometheus, fill, prometheus
from tests.monitoring.rendered import dashboards, queries, rules
from tests.monitoring.test_names import NAME
from tests.support.eventually import wait_until

pytestmark = [pytest.mark.unit, pytest.mark.timeout(180)]

DAY = 86_400
LEFT_PER_DAY = 4


def history(now: float) -> list[str]:
    """Ten days in which the pool that the exporter shows lost four free addresses each day."""
    labels = '{job="daemon",namespace="kube-system",pool="some-pool"}'
    free = [(at, 10 + LEFT_PER_DAY * (now - at) / DAY) for at in range(int(now - 10 * DAY), int(now) - 300, 240)]
    shifted = {"": 0, ":min1h": 0, ":max1h": 0, ":min1d": 0, ":max1w_before": DAY * 8, ":min1w_before": DAY}
    return [
        f"spiderpool:ippool_free_addresses{part}{labels} {value + LEFT_PER_DAY * shift / DAY} {at}"
        for part, shift in shifted.items()
        for at, value in free
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has read two jobs for some seconds."""
    folder = tmp_path_factory.mktemp("prometheus")
    (port,) = free_ports(1)
    fill(folder, history(time.time()))
    command = [sys.executable, "-m", "tests.monitoring.exporter", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as exporter, prometheus(folder, {"daemon": port}) as server:
        assert exporter.stdin is not None
        wait_until(lambda: server.query("count_over_time(up[1m]) > 5 and up == 1") != [], "it was read", timeout=60)
        yield server
        exporter.stdin.close()


def test_there_is_a_dashboard_for_each_question() -> None:
    assert {each["uid"] for each in dashboards()} == {"spiderpool-pools", "spiderpool-pods", "spiderpool-daemons"}
    for board in dashboards():
        panels = [each for each in board["panels"] if each["type"] != "row"]
        assert len({each["id"] for each in board["panels"]}) == len(board["panels"])
        assert all(each["gridPos"]["x"] + each["gridPos"]["w"] <= 24 for each in panels)


@pytest.mark.parametrize("where", queries())
def test_a_panel_shows_something(where: str, server: Prometheus) -> None:
    query = queries()[where]
    wait_until(lambda: server.query(query) != [], f"{query} has data", timeout=10)
    labels = {*server.query(query)[0]["metric"]} - {"__name__"}
    assert {*re.findall(r"\{\{(\w+)\}\}", where)} <= labels, "the legend names labels that the series have"


@pytest.mark.parametrize("rule", rules("expr"), ids=lambda rule: str(rule.get("alert") or rule["record"]))
def test_a_rule_uses_series_that_are_there(rule: dict[str, str], server: Prometheus) -> None:
    assert {*NAME.findall(rule["expr"])} <= server.names()


def test_prometheus_says_how_long_a_pool_lasts(server: Prometheus) -> None:
    (found,) = server.query('spiderpool:ippool_exhaustion:seconds{trend="days"}')
    assert found["metric"]["pool"] == "some-pool"
    assert float(found["value"][1]) / DAY == pytest.approx(10 / LEFT_PER_DAY, rel=0.1)


def test_no_rule_fails(server: Prometheus) -> None:
    assert server.failing_rules() == []
    assert "level=error" not in server.log.read_text()

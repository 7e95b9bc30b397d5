"""Each alert fires when it should, and none does in a cluster that is well."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scripts.generate_metrics import ROOT

from spiderpool.cli.finding import CHECKS
from spiderpool.cli.installation import COMPONENTS
from spiderpool.cli.main import cli
from tests.monitoring.promtool import STEP, failures, firing, promtool, rule_file
from tests.monitoring.rendered import rules

pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]

HOUR = 60 // STEP
ALERTS = [rule["alert"] for rule in rules("alert")]
ELSEWHERE = {"SpiderpoolPoolExhausts"}
"""Alerts with tests of their own, in test_exhaustion.py."""


NO_FINDINGS = {"spiderpool-webhook-certs"}
"""What runbooks name and is written as findings are."""


@dataclass(frozen=True)
class Case:
    """Series, in promtool's notation, of which each begins with steps in which all is well."""

    series: dict[str, str]
    fires: int
    """The step at which it fires."""
    well: int = 1
    """A step at which it does not."""
    labels: str = field(default="")


def counts(name: str, labels: str = "") -> dict[str, str]:
    """A counter that grows from the third step on."""
    return {f'{name}{{job="j",namespace="n",instance="i"{labels}}}': "0x2 1+1x30"}


def gauge(name: str, before: float, after: float, labels: str = "") -> dict[str, str]:
    """A gauge that changes at the third step."""
    return {f'{name}{{job="j",namespace="n",instance="i"{labels}}}': f"{before}x2 {after}x60"}


def histogram(name: str, buckets: dict[str, str]) -> dict[str, str]:
    """The buckets of a histogram."""
    return {f'{name}_bucket{{job="j",namespace="n",instance="i",le="{le}"}}': values for le, values in buckets.items()}


DURATION = "spiderpool_ipam_allocation_duration_seconds"
LATE = {
    **histogram(DURATION, {"10.0": "0+1x30"}),
    f'{DURATION}_count{{job="j",namespace="n",instance="i"}}': "0+1x2 4+2x30",
}
SLOW = {
    f'{DURATION}_count{{job="j",namespace="n",instance="i"}}': "0+1x30",
    f'{DURATION}_sum{{job="j",namespace="n",instance="i"}}': "0+0.1x2 5+5x30",
}
LAG = histogram(
    "spiderpool_event_loop_lag_seconds", {"0.25": "0+1000x2 2900+900x30", "0.5": "0+1000x30", "+Inf": "0+1000x30"}
)
CALLS = "spiderpool_cloud_calls_total"
CERTIFICATE = "spiderpool_certificate_expiry_timestamp_seconds"
CASES = {
    "SpiderpoolAllocationFails": Case(counts("spiderpool_ipam_allocation_failure_counts_total"), 6),
    "SpiderpoolAllocationLate": Case(LATE, 6, 2),
    "SpiderpoolAllocationSlow": Case(SLOW, 6, 2),
    "SpiderpoolReleaseFails": Case(counts("spiderpool_ipam_release_failure_counts_total"), 6),
    "SpiderpoolAddressDuplicate": Case(counts("spiderpool_ip_duplicate_counts_total"), 4),
    "SpiderpoolAddressConflict": Case(counts("spiderpool_ip_conflict_counts_total"), 4),
    "SpiderpoolRecordRestored": Case(counts("spiderpool_ip_restored_counts_total"), 4),
    "SpiderpoolMetadataOpen": Case(gauge("spiderpool_metadata_open_to_pods", 0, 1), 5),
    "SpiderpoolMetadataUnread": Case(
        {
            **counts("spiderpool_metadata_readings_total", ',outcome="unanswered"'),
            'spiderpool_metadata_readings_total{job="j",namespace="n",instance="i",outcome="good"}': "0+1x3 3x30",
        },
        9,
        3,
    ),
    "SpiderpoolCollectionFails": Case(counts("spiderpool_ip_gc_failure_counts_total"), 6),
    "SpiderpoolAddressesLeaked": Case(counts("spiderpool_ip_gc_counts_total"), 4),
    "SpiderpoolCollectionWaits": Case(gauge("spiderpool_ip_gc_waiting", 0, 3), 10, 8),
    "SpiderpoolPoolFull": Case(
        {
            **gauge("spiderpool_ippool_free_addresses", 5, 0, ',pool="p"'),
            **gauge("spiderpool_ippool_addresses", 9, 9, ',pool="p"'),
            **gauge("spiderpool_ippool_free_addresses", 0, 0, ',pool="empty"'),
            **gauge("spiderpool_ippool_addresses", 0, 0, ',pool="empty"'),
        },
        7,
        5,
    ),
    "SpiderpoolSubnetFull": Case(
        {
            **gauge("spiderpool_subnet_full_ippools", 2, 2, ',subnet="s"'),
            **gauge("spiderpool_subnet_free_addresses", 5, 0, ',subnet="s"'),
            **gauge("spiderpool_subnet_full_ippools", 0, 0, ',subnet="cut"'),
            **gauge("spiderpool_subnet_free_addresses", 0, 0, ',subnet="cut"'),
        },
        7,
        5,
    ),
    "SpiderpoolAddressesUnregistered": Case(gauge("spiderpool_unregistered_addresses", 0, 2, ',pool="p"'), 5),
    "SpiderpoolCertificateExpires": Case(gauge(CERTIFICATE, 9e9, 6 * 86_400, ',certificate="serving"'), 20, 2),
    "SpiderpoolCertificateEnds": Case(gauge(CERTIFICATE, 9e9, 86_000, ',certificate="serving"'), 5, 2),
    "SpiderpoolNoLeader": Case({'spiderpool_total_ippool_counts{job="j"}': "3x2 stale"}, 6, 2),
    "SpiderpoolCacheStale": Case(gauge("spiderpool_cache_age_seconds", 60, 400, ',kind="pods"'), 5),
    "SpiderpoolEventLoopSlow": Case(LAG, 6, 2),
    "SpiderpoolEventLoopBlocked": Case(
        {'spiderpool_event_loop_block_seconds_sum{job="j",namespace="n",instance="i"}': "0x2 9x30"}, 3
    ),
    "SpiderpoolCloudBudgetSpent": Case(
        {
            f'{CALLS}{{job="j",instance="i",action="A",outcome="OK"}}': "0+10x2 500+480x30",
            'spiderpool_cloud_call_budget{job="j",instance="i",action="A"}': "100x40",
        },
        8,
        2,
    ),
    "SpiderpoolCloudCallsFail": Case(
        {
            f'{CALLS}{{job="j",instance="i",action="A",outcome="OK"}}': "0+10x2 20x30",
            f'{CALLS}{{job="j",instance="i",action="A",outcome="NotPermitted"}}': "0x2 10+10x30",
        },
        12,
        2,
    ),
    "SpiderpoolVSwitchNearlyFull": Case(gauge("spiderpool_cloud_vswitch_free_addresses", 40, 4, ',switch="v"'), 6),
    "SpiderpoolLoadBalancersOrphaned": Case(gauge("spiderpool_load_balancers", 0, 1, ',state="orphaned"'), 20, 10),
    "SpiderpoolServicesRefused": Case(counts("spiderpool_load_balancer_refusals_total", ',reason="grant"'), 4),
}


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    output = promtool("check", "rules", rule_file(tmp_path))
    assert f"SUCCESS: {len(rules('alert')) + len(rules('record'))} rules found" in output


def test_every_alert_is_tested() -> None:
    assert {*CASES, *ELSEWHERE} == {*ALERTS}


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_should(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    expected = {(firing(alert), case.well): None, (firing(alert), case.fires): 1.0}
    assert failures(tmp_path, case.series, expected) == ""


def test_none_fires_in_a_cluster_that_is_well(tmp_path: Path) -> None:
    """Nothing that is counted happens, and what is measured stays as it is."""
    steady = {
        name: values.partition(" ")[0].partition("x")[0]
        for case in CASES.values()
        for name, values in case.series.items()
    }
    series = {name: f"{first}x{2 * HOUR}" for name, first in steady.items() if 'pool="empty"' not in name}
    expected = dict.fromkeys([('count(ALERTS{alertstate="firing"})', step) for step in range(0, 2 * HOUR, 4)])
    assert failures(tmp_path, series, expected) == ""


def test_a_certificate_that_has_expired_is_critical(tmp_path: Path) -> None:
    """From the day before on, and for as long as it is not renewed; a week before it is no more than a warning."""
    name, soon = f'{CERTIFICATE}{{job="j",namespace="n",instance="i",certificate="serving"}}', 2 * 86_400
    urgent, series = firing("SpiderpoolCertificateEnds"), {name: f"{soon}x{60 * HOUR}"}
    expected = {(urgent, 20 * HOUR): None, (firing("SpiderpoolCertificateExpires"), 20 * HOUR): 1.0}
    expected |= {(urgent, 25 * HOUR): 1.0, (urgent, 59 * HOUR): 1.0}
    assert failures(tmp_path, series, expected) == ""


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    case = CASES["SpiderpoolPoolFull"]
    assert "got" in failures(tmp_path, case.series, {(firing("SpiderpoolPoolFull"), case.fires): None})


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_and_where_to_read_on(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["summary"]
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page.name == f"{rule['alert']}.md"
    text = page.read_text()
    assert text.startswith(f"# {rule['alert']}\n")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## What it means", "## What to look at", "## What to do"]


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "runbooks").glob("*.md")), ids=lambda page: page.stem)
def test_a_runbook_names_what_there_is(page: Path) -> None:
    """Commands of spiderpoolctl and its findings; and logs of all replicas, of which only one leads."""
    text = page.read_text()
    assert {*re.findall(r"spiderpoolctl ([a-z]+)", text)} <= {*cli.commands}
    assert {*re.findall(r"`([a-z]+(?:-[a-z]+)+)`", text)} - NO_FINDINGS <= {*CHECKS}
    assert "logs deployment/" not in text
    components = re.findall(r"app\.kubernetes\.io/component=(\S+)", text)
    assert {*components} <= {*COMPONENTS}


def test_runbooks_lead_to_the_diagnosis() -> None:
    texts = [path.read_text() for path in (ROOT / "docs" / "runbooks").glob("*.md")]
    assert sum("spiderpoolctl doctor" in text for text in texts) >= 10
    assert sum("spiderpoolctl bundle" in text for text in texts) >= 2


def test_no_runbook_is_of_an_alert_that_does_not_exist() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} - {"index"}
    assert pages == {*ALERTS}


def test_the_page_about_monitoring_leads_to_each() -> None:
    page = (ROOT / "docs" / "usage" / "monitoring.md").read_text()
    assert [alert for alert in ALERTS if f"[{alert}](../runbooks/{alert}.md)" not in page] == []


def test_links_begin_as_the_value_says() -> None:
    made = rules("alert", "global.runbookURL=https://example.com/runbooks/")
    assert made[0]["annotations"]["runbook_url"] == "https://example.com/runbooks/SpiderpoolAllocationFails.md"


def test_alerts_can_be_left_out() -> None:
    left = [
        rule["alert"]
        for rule in rules(
            "alert",
            "spiderpoolController.prometheus.prometheusRule.disabledAlerts={SpiderpoolPoolFull}",
            "spiderpoolAgent.prometheus.prometheusRule.enableWarningIPAMAllocationFailure=false",
        )
    ]
    assert {*ALERTS} - {*left} == {"SpiderpoolPoolFull", "SpiderpoolAllocationFails"}

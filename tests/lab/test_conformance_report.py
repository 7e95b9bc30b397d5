from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool_lab.conformance_report import E2EOutcome, Run, failures, junit, read_junit, section, updated
from spiderpool_lab.conformance_tests import Plan

pytestmark = pytest.mark.unit

GINKGO = """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="5" disabled="1" errors="0" failures="1" time="1.1">
  <testsuite name="Kubernetes e2e suite" package="/tmp" tests="5" disabled="0" skipped="1" errors="0" failures="1" time="1.1">
    <testcase name="[ReportBeforeSuite]" classname="Kubernetes e2e suite" status="passed" time="0.0002"></testcase>
    <testcase name="[It] [sig-network] DNS a [Conformance]" classname="Kubernetes e2e suite" status="passed" time="20.5">
      <system-err>&gt; Enter [BeforeEach]</system-err>
    </testcase>
    <testcase name="[It] [sig-network] DNS b" classname="Kubernetes e2e suite" status="skipped" time="0">
      <skipped message="skipped"></skipped>
    </testcase>
    <testcase name="[It] [sig-apps] StatefulSet c" classname="Kubernetes e2e suite" status="skipped" time="3.4">
      <skipped message="skipped - No default StorageClass"></skipped>
    </testcase>
    <testcase name="[It] [sig-network] HostPort d" classname="Kubernetes e2e suite" status="failed" time="82">
      <failure message="Can not connect to &#34;127.0.0.1&#34; | port 54323&#xA;more" type="failed">at hostport.go:1</failure>
    </testcase>
    <testcase name="[It] [sig-network] Services e" classname="Kubernetes e2e suite" status="timedout" time="300">
      <error message="A suite timeout occurred" type="timedout">at service.go:1</error>
    </testcase>
  </testsuite>
</testsuites>
"""  # noqa: E501  # as Ginkgo writes it
OUTCOMES = [
    E2EOutcome("[sig-network] DNS a [Conformance]", "passed", 20.5),
    E2EOutcome("[sig-apps] StatefulSet c", "skipped", 3.4, "No default StorageClass"),
    E2EOutcome("[sig-network] HostPort d", "failed", 82.0, 'Can not connect to "127.0.0.1" | port 54323'),
    E2EOutcome("[sig-network] Services e", "failed", 300.0, "A suite timeout occurred"),
]


def test_outcomes_are_those_of_tests_that_were_not_filtered_out() -> None:
    assert read_junit(GINKGO) == OUTCOMES
    name = OUTCOMES[0].name
    assert read_junit(GINKGO.replace(name, f"{name} ")) == OUTCOMES, "the list of tests shows no blank at the end"


def test_why_a_test_failed_is_also_read_where_only_the_text_says_it() -> None:
    without = GINKGO.replace(
        '<error message="A suite timeout occurred" type="timedout">at', "<error>\nA suite timeout occurred\nat"
    )
    assert without != GINKGO
    assert read_junit(without) == OUTCOMES


def test_what_is_no_junit_file_is_refused() -> None:
    with pytest.raises(ValueError, match="no JUnit file"):
        read_junit("half a fi")


def test_a_merged_file_says_the_same() -> None:
    outcomes = [replace(outcome, tested="2026-11-28 commit abc1234") for outcome in OUTCOMES]
    merged = junit(outcomes)
    assert read_junit(merged) == outcomes
    assert 'tests="4" failures="2" skipped="1"' in merged


def test_failures_of_the_lab_are_none_of_the_network() -> None:
    lab = E2EOutcome("[sig-network] Services should be rejected for evicted pods", "failed", 1.0, "timed out")
    assert failures([*OUTCOMES, lab]) == OUTCOMES[2:]


RUN = Run(
    version="v1.37.2",
    command="KUBERNETES=1.37 make conformance",
    plan=Plan(
        (*(case.name for case in OUTCOMES), "[sig-network] DNS f"),
        {"[sig-network] Netpol g": "is not supported"},
        available=3206,
    ),
    outcomes=[
        replace(outcome, tested=f"2026-11-{day} commit abc123{day}")
        for day, outcome in zip((28, 27, 28, 28), OUTCOMES, strict=True)
    ],
)


def test_a_section_names_every_test_that_did_not_pass() -> None:
    text = section(RUN)
    unknown = section(replace(RUN, outcomes=[replace(RUN.outcomes[0], tested=""), *RUN.outcomes[1:]]))
    assert "make conformance`: 2026-11-27 commit abc12327; 2026-11-28 commit abc12328; not recorded when\n" in unknown
    assert "make conformance`: 2026-11-27 commit abc12327; 2026-11-28 commit abc12328\n" in text
    assert "`e2e.test` has 3206 tests, of which 6 judge a network. 4 were run: 1 passed, 2 failed" in text
    assert "1 skipped themselves. 1 have not been run yet, 1 are left out." in text
    assert "| [sig-network] … [Conformance] | 1 | 0 | 0 | 0 |" in text
    assert '| [sig-network] HostPort d | Can not connect to "127.0.0.1" \\| port 54323 |' in text
    assert "### Left out\n\nIs not supported (1):\n\n- [sig-network] Netpol g" in text
    assert "### Not run yet\n\nThe run was ended before (1):\n\n- [sig-network] DNS f" in text
    assert "### Skipped themselves\n\nNo default StorageClass (1):\n\n- [sig-apps] StatefulSet c" in text


def test_a_page_keeps_the_sections_of_other_versions() -> None:
    first = updated("", "v1.30.14", "## Kubernetes v1.30.14\n\nold\n")
    both = updated(first, "v1.37.2", section(RUN))
    again = updated(both, "v1.30.14", "## Kubernetes v1.30.14\n\nnew\n")
    assert again == both.replace("\nold\n", "\nnew\n")
    assert again.index("## Kubernetes v1.37.2") < again.index("## Kubernetes v1.30.14")
    assert again.startswith("# Kubernetes' own tests\n")

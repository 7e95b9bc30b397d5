"""`spiderpoolctl doctor`: how findings are printed, and the options that go together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest

from spiderpool.cli.doctor.diagnosis import diagnosis
from spiderpool.cli.doctor.fix import Fixing
from spiderpool.cli.finding import CHECKS
from spiderpool.cli.printing import View, printed
from tests.cli.doctor.snapshots import NOW, diagnosed, record, snapshot

pytestmark = pytest.mark.unit


class TestReport:
    """How findings are printed."""

    def test_people_see_what_evidence_consequence_and_remedy(self) -> None:
        text = printed(diagnosed(record(5, "web", "u")), "table", View(width=80))
        assert text == (
            "Spiderpool in kube-system: 1 finding, causes first\n"
            "\n"
            "! warning, record-leaked: 10.0.0.5 is kept for pod shop/web, which does not hold\n"
            "  it any more\n"
            "    Evidence:     the pod is gone, has ended, or is another one (UID u had it);\n"
            "                  its node says that no sandbox has it\n"
            "    Consequence:  nobody gets the address\n"
            "    Remedy:       it is released once the agent of node n1 says that no sandbox\n"
            "                  has it; by hand: spiderpoolctl ip release 10.0.0.5\n"
            "    --fix:        releases 10.0.0.5, if its node says that no sandbox has it"
        )

    def test_programs_see_all_of_it(self) -> None:
        document = json.loads(printed(diagnosed(record(5, "web", "u")), "json", View()))
        assert document["findings"][0]["check"] == "record-leaked"
        assert (document["findings"][0]["severity"], document["findings"][0]["fixable"]) == ("warning", True)
        assert [*diagnosed(record(5, "web", "u")).names()] == ["spiderip.spiderpool.spidernet.io/10.0.0.5"]

    def test_a_cluster_that_is_well_says_so(self) -> None:
        assert printed(diagnosed(node="n1"), "table", View()) == (
            "Spiderpool in kube-system, node n1: nothing is found wrong"
        )

    def test_without_our_kinds_nothing_else_is_told(self) -> None:
        bare = replace(snapshot().installation, served=False)
        found = diagnosis(replace(snapshot(), installation=bare), {}, NOW).findings
        assert [each.check for each in found] == ["not-installed"]

    def test_the_page_lists_all_checks_in_their_order(self) -> None:
        page = (Path(__file__).parents[3] / "docs/usage/spiderpoolctl.md").read_text()
        listed = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4]
        assert [each for each in listed if each in CHECKS] == [*CHECKS]


@pytest.mark.parametrize("options", [{"yes": True, "dry_run": False}, {"yes": False, "dry_run": True}])
def test_how_is_nothing_without_fix(options: dict[str, bool]) -> None:
    with pytest.raises(click.UsageError, match="give --fix as well"):
        Fixing(fix=False, **options)

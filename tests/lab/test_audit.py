"""The audit log of an API server tells what our accounts did, and the page of rights what each right is for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scripts.rights import PAGE, REASONS, allowed, main

import spiderpool
from spiderpool_lab.audit import Call, Right, calls

AGENT = "system:serviceaccount:kube-system:spiderpool-agent"


def event(user: str, verb: str, decision: str = "allow", code: int = 200, **reference: str) -> str:
    annotations = {"authorization.k8s.io/decision": decision}
    answer = {"objectRef": reference, "annotations": annotations, "responseStatus": {"code": code}}
    return json.dumps({"user": {"username": user}, "verb": verb, **answer})


@pytest.mark.unit
def test_calls_of_our_accounts_are_read() -> None:
    group = "spiderpool.spidernet.io"
    lines = [
        event(AGENT, "patch", apiGroup=group, resource="spidernodes", subresource="status", name="n1"),
        event(AGENT, "delete", "forbid", 403, resource="nodes", name="n1"),
        event(AGENT, "create", code=403, apiGroup=group, resource="spiderips"),
        event("system:serviceaccount:kube-system:coredns", "list", resource="pods"),
        event("spiderpool-agent", "list", resource="pods"),
        json.dumps({"user": {"username": AGENT}, "verb": "get", "requestURI": "/version"}),
        event(AGENT, "list", resource="pods")[:-5],
    ]
    assert [*calls(lines)] == [
        Call(Right("spiderpool-agent", f"spidernodes/status.{group}", "patch"), allowed=True),
        Call(Right("spiderpool-agent", "nodes", "delete"), allowed=False, refused=True),
        Call(Right("spiderpool-agent", "spiderips.spiderpool.spidernet.io", "create"), allowed=True, refused=True),
    ]


def page() -> dict[str, str]:
    """Each right of the page, and what uses it."""
    section, rows = "", {}
    for line in PAGE.read_text().splitlines():
        section = line.removeprefix("## ") if line.startswith("## ") else section
        if found := re.fullmatch(r"\| `(.+)` \| (.+) \| (.+) \|", line):
            rows[f"{section} {found[2]} {found[1]}"] = found[3]
    return rows


@pytest.mark.unit
def test_the_page_has_every_right_and_no_other() -> None:
    assert sorted(page()) == sorted(map(str, allowed())), "see the page for how it is made"


@pytest.mark.unit
def test_each_right_was_seen_in_use_or_has_a_reason() -> None:
    reasoned = {right: text for right, text in page().items() if not {*text.split(", ")} <= {"walkthrough", "tests"}}
    assert reasoned == REASONS


@pytest.mark.unit
def test_the_code_that_a_reason_names_is_there() -> None:
    product = Path(spiderpool.__file__).parent
    for reason in REASONS.values():
        (file,) = re.findall(r"`(\S+\.py)`", reason)
        assert (product / file).is_file(), reason


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder of calls with every right that has no reason in place of a use."""
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "walkthrough").touch()
    (folder / "tests-1").write_text("".join(f"{right}\n" for right in allowed() if str(right) not in REASONS))
    return folder


@pytest.mark.unit
class TestWriting:
    def test_a_whole_record_makes_the_page(self, recorded: Path, tmp_path: Path) -> None:
        written = tmp_path / "rights.md"
        assert main([str(recorded)], written) == 0
        assert "| walkthrough" not in written.read_text()
        assert written.read_text().count("| tests |") == len(allowed()) - len(REASONS)

    def test_without_a_folder_the_usage_is_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            main([])
        assert "the following arguments are required: DIR" in capsys.readouterr().err

    @pytest.mark.parametrize(("file", "place"), [("walkthrough", "walkthrough"), ("tests-1", "tests")])
    def test_a_record_that_lacks_a_part_is_refused(
        self, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, place: str
    ) -> None:
        (recorded / file).unlink()
        assert main([str(recorded)], tmp_path / "rights.md") == 1
        assert f"{recorded} has no calls of {place}: make test ARGS=" in capsys.readouterr().out
        assert not (tmp_path / "rights.md").exists()

    @pytest.mark.parametrize("used", [True, False])
    def test_a_right_without_a_use_or_with_a_reason_beside_it_leaves_the_page(
        self, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], used: bool
    ) -> None:
        right = next(iter(REASONS))
        lines = (recorded / "tests-1").read_text().splitlines(keepends=True)
        (recorded / "tests-1").write_text("".join([*lines, f"{right}\n"] if used else lines[1:]))
        assert main([str(recorded)], tmp_path / "rights.md") == 1
        wanted = f"needs no reason: {right}" if used else f"not seen in use: {lines[0].strip()}"
        assert wanted in capsys.readouterr().out
        assert not (tmp_path / "rights.md").exists()

"""A short run of one target under libFuzzer, as ``make fuzz`` makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzzing.__main__ import AGENT, NAMES, FuzzRun, fuzz, repeat, report
from tests.fuzzing.targets import TARGETS

pytestmark = pytest.mark.unit


def test_the_corpus_has_a_folder_for_each_target() -> None:
    assert {*NAMES} == {*TARGETS, AGENT}


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_run_reaches_new_code_and_keeps_what_did(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="there is no Atheris for this kind of machine")
    run = fuzz("netlink", 1, 1, tmp_path)
    assert (run.failure, run.findings) == ("", ())
    assert run.executions > 38
    assert 0 < run.coverage[0] <= run.coverage[1]
    assert run.inputs == len([*(tmp_path / "corpus" / "netlink").iterdir()]) > 0


def test_a_finding_is_told_with_the_command_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parent / "corpus" / "netlink" / "link.hex"
    report(FuzzRun("netlink", 7, (1, 2), 3, (path,)))
    told = capsys.readouterr().out
    assert "7 executions, coverage 1 → 2, 3 inputs kept, 1 findings" in told
    assert "make fuzz REPEAT=tests/fuzzing/corpus/netlink/link.hex" in told
    assert repeat(path) == 0
    assert "no finding any more" in capsys.readouterr().out

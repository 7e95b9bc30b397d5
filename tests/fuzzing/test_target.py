"""What counts as a finding, and how inputs are changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool.telemetry import logger
from tests.fuzzing import target as under_test
from tests.fuzzing.mutation import Vocabulary, mutated_bytes, mutated_json
from tests.fuzzing.parts import each_alone
from tests.fuzzing.target import FuzzTarget, read_seed

pytestmark = pytest.mark.unit


def refused() -> None:
    raise BadConfig("no")


def bug() -> None:
    raise KeyError("bug")


def survived() -> None:
    try:
        raise IndexError("survived")
    except IndexError as error:
        logger("fuzzed").exception("a bug", error=str(error))


def warned() -> None:
    logger("fuzzed").warning("no bug", exc_info=False)


def slow() -> None:
    end = time.thread_time() + 0.02
    while time.thread_time() < end:
        pass


def deep() -> None:
    deep()


def problem(code: Callable[[], None]) -> str:
    return FuzzTarget("x", lambda _: code(), (BadConfig,)).problem(b"")


@pytest.mark.parametrize(
    ("code", "words"),
    [(bug, "KeyError: 'bug'"), (survived, "IndexError: survived"), (slow, "s of CPU"), (deep, "RecursionError")],
)
def test_findings(monkeypatch: pytest.MonkeyPatch, code: Callable[[], None], words: str) -> None:
    if code is slow:
        monkeypatch.setattr(under_test, "MOST_SECONDS", 0.001)
    assert words in problem(code)


@pytest.mark.parametrize("code", [refused, warned])
def test_what_is_no_finding(code: Callable[[], None]) -> None:
    assert problem(code) == ""


def test_each_part_is_run_and_an_internal_error_is_a_bug() -> None:
    ran: list[str] = []

    def part(name: str, error: Exception | None) -> None:
        ran.append(name)
        if error:
            raise error

    each_alone(lambda: part("a", BadConfig("no")), lambda: part("b", None))
    with pytest.raises(SpiderpoolError, match="internal"):
        each_alone(lambda: part("c", SpiderpoolError("internal")))
    with pytest.raises(KeyError):
        each_alone(lambda: part("d", KeyError()))
    assert ran == ["a", "b", "c", "d"]


def test_seeds_may_be_hexadecimal(tmp_path: Path) -> None:
    (tmp_path / "a.hex").write_text("# words\n0a0b 0c # more\n0d\n")
    (tmp_path / "a.txt").write_text("0a")
    assert (read_seed(tmp_path / "a.hex"), read_seed(tmp_path / "a.txt")) == (b"\x0a\x0b\x0c\x0d", b"0a")


def test_json_stays_json_also_in_a_text_and_behind_a_head() -> None:
    seed = b'head: x\n\n{"a": "[{\\"b\\": 1}]", "c": {"d": [1, 2]}}'
    vocabulary = Vocabulary.of([seed])
    assert {"a", "b", "c", "d"} <= {*vocabulary.keys}
    changed = [mutated_json(seed, Random(number), vocabulary) for number in range(300)]
    bodies = [json.loads(each.removeprefix(b"head: x\n\n").decode(errors="surrogatepass")) for each in changed if each]
    assert len(bodies) == 300
    inner = [json.loads(each["a"]) for each in bodies if isinstance(each, dict) and str(each.get("a"))[:2] == "[{"]
    assert any(each != [{"b": 1}] for each in inner)
    assert mutated_json(b"\xff", Random(1), vocabulary) is None


def test_bytes_are_changed_anywhere() -> None:
    changed = {mutated_bytes(b"0123456789", Random(number)) for number in range(200)}
    assert {len(each) > 10 for each in changed} == {True, False}
    assert any(each[:1] != b"0" for each in changed)
    assert mutated_bytes(b"", Random(1)) == b""

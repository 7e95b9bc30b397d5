"""A short run of the target ``agent`` of ``make fuzz``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.fuzzing.agent_endpoint import Target, fuzz_target, run_fuzz, violation


@pytest.fixture(scope="module")
def one(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    # The namespaces have this name too, and a run that was killed leaves its own behind.
    directory = tmp_path_factory.mktemp(f"fuzz-{os.getpid()}-")
    with fuzz_target(control_plane, Processes(directory / "processes"), directory) as one:
        yield one


@pytest.mark.control_plane
@pytest.mark.lab
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_comes_gets_a_valid_answer_and_nothing_is_left(one: Target, seed: int) -> None:
    result = asyncio.run(run_fuzz(one, seed=seed, count=400))
    assert result.violations == []
    assert {0, 4, 6, 7} <= result.codes.keys()


@pytest.mark.unit
@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (200, b"", ""),
        (200, b'{"cniVersion": "1.0.0"}', ""),
        (200, b"[]", "no object"),
        (500, b'{"cniVersion": "1.0.0", "code": 7, "msg": "no"}', ""),
        (500, b'{"cniVersion": "1.0.0", "code": 7, "msg": ""}', "without words"),
        (500, b'{"cniVersion": "1.0.0", "code": 999, "msg": "bug"}', "internal error"),
        (500, b"500: Internal Server Error", "without JSON"),
        (400, b'"no"', "without a CNI error"),
    ],
)
def test_what_is_wrong_with_an_answer(status: int, answer: bytes, words: str) -> None:
    found = violation(status, answer)
    assert (words in found, bool(found)) == (True, bool(words))

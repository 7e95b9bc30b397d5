"""Every seed of every fuzz target, and a short random run that is the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.fuzzing import targets
from tests.fuzzing.mutation import Vocabulary, mutated_bytes, mutated_json
from tests.fuzzing.targets import TARGETS

pytestmark = pytest.mark.unit

RUNS = 150
"""Random inputs for each target."""


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    yield
    targets.close()


@pytest.mark.parametrize("name", TARGETS)
def test_no_seed_is_a_finding(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    assert len(seeds) >= 20
    problems = [f"{file}: {problem}" for file, data in seeds.items() if (problem := target.problem(data))]
    assert problems == []


@pytest.mark.parametrize("name", TARGETS)
def test_no_random_input_is_a_finding(name: str) -> None:
    target, random = TARGETS[name], Random(name)
    seeds = [*target.seeds().values()]
    vocabulary = Vocabulary.of(seeds)
    for _ in range(RUNS):
        seed = random.choice(seeds)
        data = random.choice((mutated_bytes(seed, random), mutated_json(seed, random, vocabulary) or seed))
        assert not (problem := target.problem(data)), f"{problem} of {data!r}"

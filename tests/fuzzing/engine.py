"""One fuzz target under libFuzzer, by Atheris, in a process of its own: libFuzzer ends the process that it runs in.

It keeps inputs that reach new code in the grown corpus, and writes a file for each finding; it goes on after one.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["spiderpool"]):
    from tests.fuzzing.targets import TARGETS

from tests.fuzzing.mutation import Vocabulary, mutated_json
from tests.fuzzing.target import FuzzTarget

LONGEST = 1 << 14
"""Bytes of an input. What only a longer one shows is for tests/security/test_tenant_texts.py."""
HANG = 60
"""Seconds after which libFuzzer gives an input up, and the run with it; others may have the machine meanwhile."""
MEMORY = 2048
"""MiB that the process may have."""
_PLACE = re.compile(r'File ".*?/(?:src|tests)/(\S+)", line (\d+)')


class Findings:
    """The findings of a run, one for each place in the code."""

    def __init__(self, target: FuzzTarget, directory: Path) -> None:
        self._target = target
        self._directory = directory
        self._places: set[tuple[str, ...]] = set()

    def test(self, data: bytes) -> None:
        """Run an input, and keep it if it is a finding at a new place."""
        problem = self._target.problem(data)
        if not problem:
            return
        place = tuple(":".join(found) for found in _PLACE.findall(problem)[-2:])
        if place not in self._places:
            self._places.add(place)
            path = self._directory / hashlib.sha256(data).hexdigest()[:16]
            path.write_bytes(data)
            path.with_suffix(".txt").write_text(problem)


def mutator(target: FuzzTarget) -> Callable[[bytes, int, int], bytes]:
    """Changes of an input: in its JSON or, as libFuzzer does it, in its bytes."""
    vocabulary = Vocabulary.of(target.seeds().values())

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        changed = mutated_json(data, random, vocabulary) if random.random() < 0.6 else None
        if changed is not None and len(changed) <= longest:
            return changed
        return bytes(atheris.Mutate(data, longest))

    return mutate


def main() -> None:
    """Run; never returns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seeds", type=Path, required=True, help="an empty directory for the seeds")
    parser.add_argument("--corpus", type=Path, required=True, help="the grown corpus")
    parser.add_argument("--findings", type=Path, required=True)
    options = parser.parse_args()
    target = TARGETS[options.target]
    for name, data in target.seeds().items():
        (options.seeds / name).write_bytes(data)
    limits = {"max_total_time": options.seconds, "max_len": LONGEST, "timeout": HANG, "rss_limit_mb": MEMORY}
    reports = {"print_final_stats": 1, "report_slow_units": HANG, "artifact_prefix": f"{options.findings}/"}
    flags = [f"-{name}={value}" for name, value in {**limits, **reports, "seed": options.seed}.items()]
    arguments = [sys.argv[0], *flags, str(options.corpus), str(options.seeds)]
    atheris.Setup(arguments, Findings(target, options.findings).test, custom_mutator=mutator(target))
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Fuzzing: ``make fuzz``. Each target gets an equal part of the time; exit status 1 if there is a finding.

Inputs that reach new code stay in .fuzzing/corpus, and later runs begin with them; findings are in .fuzzing/findings.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DIRECTORY = ROOT / ".fuzzing"
AGENT = "agent"
"""The target that needs root and a real API server: `agent_endpoint`."""
NAMES = (*sorted(path.name for path in (Path(__file__).parent / "corpus").iterdir()), AGENT)
_COVERAGE = re.compile(r"^#\d+\s+(INITED|DONE)\s+cov: (\d+)", re.MULTILINE)
_EXECUTIONS = re.compile(r"^stat::number_of_executed_units: (\d+)", re.MULTILINE)
START = 300.0
"""Seconds in which a process may start and end, beside the time of its run."""


@dataclass(frozen=True, slots=True)
class FuzzRun:
    """What a run of a target has shown."""

    name: str
    executions: int
    coverage: tuple[int, int]
    """Edges of the code that were reached with the first inputs, and at the end."""
    inputs: int
    """Inputs in the grown corpus."""
    findings: tuple[Path, ...]
    failure: str = ""
    """What the process said, if it ended too early."""

    def __str__(self) -> str:
        before, after = self.coverage
        grown = f"coverage {before} → {after}, {self.inputs} inputs kept"
        return f"{self.name:12} {self.executions:8} executions, {grown}, {len(self.findings)} findings"


def fuzz(name: str, seconds: int, seed: int, directory: Path = DIRECTORY) -> FuzzRun:
    """Run a target under libFuzzer."""
    corpus, findings = directory / "corpus" / name, directory / "findings" / name
    for each in (corpus, findings):
        each.mkdir(parents=True, exist_ok=True)
    former = _written(findings)
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as seeds:
        command = [sys.executable, "-m", "tests.fuzzing.engine", name, f"--seconds={seconds}", f"--seed={seed}"]
        command += [f"--seeds={seeds}", f"--corpus={corpus}", f"--findings={findings}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=seconds + START)
    text = done.stderr.decode(errors="replace")
    executed, reached = _EXECUTIONS.search(text), [int(found[1]) for found in _COVERAGE.findall(text)]
    found = tuple(sorted(path for path, when in _written(findings).items() if former.get(path) != when))
    return FuzzRun(
        name,
        int(executed[1]) if executed else 0,
        (reached[0], reached[-1]) if reached else (0, 0),
        len([*corpus.iterdir()]),
        found,
        "" if done.returncode == 0 or found else text[-2000:],
    )


def _written(findings: Path) -> dict[Path, int]:
    """The findings of all runs, and when they were found last."""
    return {path: path.stat().st_mtime_ns for path in findings.iterdir() if path.suffix != ".txt"}


def report(run: FuzzRun) -> None:
    """Print what a run has shown, with the command that repeats each finding."""
    print(run, flush=True)
    for path in run.findings:
        words = path.with_suffix(".txt")
        text = words.read_text() if words.exists() else "the process ended: a hang, or too much memory"
        print(f"    {text.strip().splitlines()[-1][:200]}")
        print(f"    repeat it: make fuzz REPEAT={path.relative_to(ROOT)}", flush=True)
    if run.failure:
        print(f"    the run has failed:\n{run.failure}", flush=True)


def repeat(path: Path) -> int:
    """Run the input of a finding once more, without libFuzzer; the exit status."""
    from tests.fuzzing.target import read_seed
    from tests.fuzzing.targets import TARGETS

    problem = TARGETS[path.resolve().parent.name].problem(read_seed(path))
    print(problem or "this input is no finding any more")
    return 1 if problem else 0


def run_all(names: list[str], seconds: int, seed: int) -> int:
    """Run targets one after the other; the exit status."""
    share, failed = max(1, seconds // len(names)), False
    print(f"fuzzing {', '.join(names)} for {share} s each, seed {seed}", flush=True)
    for name in names:
        if name == AGENT:
            from tests.fuzzing import agent_endpoint

            failed |= agent_endpoint.run(share, seed) != 0
            continue
        run = fuzz(name, share, seed)
        report(run)
        failed |= bool(run.findings or run.failure)
    return 1 if failed else 0


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *NAMES], help="all, unless some are named")
    parser.add_argument("--time", type=int, default=60, help="seconds for all targets together")
    parser.add_argument("--seed", type=int, default=int(time.time()) & 0x7FFFFFFF)
    parser.add_argument("--repeat", type=Path, help="the file of a finding: run this input alone")
    options = parser.parse_args()
    if options.repeat:
        return repeat(options.repeat)
    names = options.targets or [*NAMES]
    if names != [AGENT] and not importlib.util.find_spec("atheris"):
        print(
            "there is no Atheris for this kind of machine or Python; only the target `agent` can run", file=sys.stderr
        )
        names = [AGENT]
    return run_all(names, options.time, options.seed)


if __name__ == "__main__":
    sys.exit(main())

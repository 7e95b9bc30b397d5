"""Check that the own tests of every file of core/ and api/ run each line of it.

``python -m scripts.coverage [source file …]``. Run it as a module: run by its path, it would hide the library
``coverage``.

The own tests of ``src/spiderpool/core/admission/ippool.py`` are ``tests/core/admission/test_ippool.py`` and
``tests/core/admission/test_ippool_*.py``. Those of a package, ``admission/__init__.py``, are
``tests/core/test_admission.py``; a package that only imports names needs none. Branches that mypy proves unreachable
(``assert_never``) do not count.
"""

from __future__ import annotations

import sys

if not __package__:
    sys.exit("run it as a module: python -m scripts.coverage")

import re
from collections.abc import Generator, Iterable
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import coverage
import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "spiderpool"
TESTS = ROOT / "tests"
FOLDERS = ("core", "api")
NEVER = r"case _:\s+assert_never\("
T = TypeVar("T")
IMPORT = ""
"""The context of lines that run when the file is imported: they count as run by each of its tests."""


class Contexts:
    """A pytest plugin that sets the context of the measurement to the test file that runs."""

    def __init__(self, measurement: coverage.Coverage) -> None:
        self._measurement = measurement

    def pytest_configure(self) -> None:
        """Make hypothesis generate few examples, the same in every run: no line may be covered by luck."""
        from hypothesis import settings  # not earlier: pytest rewrites the assertions of plugins at their import

        settings.register_profile("few", derandomize=True, max_examples=10, deadline=None)
        settings.load_profile("few")

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, T, T]:
        """Set the context while a test file is imported: it may call what it tests to make its tables."""
        return (yield from self._within(collector))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, T, T]:
        """Set the context while a test and its fixtures run."""
        return (yield from self._within(item))

    def _within(self, node: pytest.Item | pytest.Collector) -> Generator[None, T, T]:
        self._measurement.switch_context(str(node.path))
        try:
            return (yield)
        finally:
            self._measurement.switch_context(IMPORT)


def sources() -> list[Path]:
    """All files that are checked."""
    return sorted(path for folder in FOLDERS for path in (SOURCE / folder).rglob("*.py"))


def own_tests(source: Path) -> list[Path]:
    """The test files of a source file."""
    place = TESTS / source.relative_to(SOURCE).with_suffix("")
    if place.name == "__init__":
        path = place.parent.with_name(f"test_{place.parent.name}.py")
        return [path] if path.exists() else []
    return sorted({*place.parent.glob(f"test_{place.name}.py"), *place.parent.glob(f"test_{place.name}_*.py")})


def module(source: Path) -> str:
    """The name under which a source file is imported."""
    return ".".join(source.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def measure(chosen: Iterable[Path]) -> coverage.Coverage:
    """Import source files, run their own tests once, and return the measurement. Exits when tests fail."""
    tests = sorted({str(test) for source in chosen for test in own_tests(source)})
    measurement = coverage.Coverage(data_file=None, config_file=False, source=[str(SOURCE)])
    measurement.exclude(NEVER)
    measurement.start()
    try:
        for source in chosen:
            import_module(module(source))
        options = ["-q", "-p", "no:cacheprovider", "--no-header"]
        failed = pytest.main([*options, *tests], plugins=[Contexts(measurement)]) if tests else None
    finally:
        measurement.stop()
    if failed:
        sys.exit("the tests fail, so their coverage is not measured")
    return measurement


def complaint(measurement: coverage.Coverage, source: Path) -> str | None:
    """What is wrong with the tests of a file; None if they run all of it."""
    own = own_tests(source)
    measurement.get_data().set_query_contexts([f"^{re.escape(context)}$" for context in (IMPORT, *map(str, own))])
    _, statements, _, missing, _ = measurement.analysis2(str(source))
    if statements and not own and (missing or source.name != "__init__.py"):
        return "has no tests of its own"
    return f"{100 - 100 * len(missing) / len(statements):.1f} %, not run: {spans(missing)}" if missing else None


def spans(lines: list[int]) -> str:
    """Line numbers as text: ``3, 5-7``."""
    starts = [line for line in lines if line - 1 not in lines]
    ends = [line for line in lines if line + 1 not in lines]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def main(names: list[str]) -> None:
    """Measure all files, or the named ones. Exits with status 1 if a line is not run."""
    chosen = [Path(name).resolve() for name in names] or sources()
    measurement = measure(chosen)
    complaints = {source: complaint(measurement, source) for source in chosen}
    for source, text in complaints.items():
        if text:
            print(f"{source.relative_to(ROOT)}: {text}")
    if any(complaints.values()):
        sys.exit(1)
    print(f"each line of {len(chosen)} files is run by the tests of its own file")


if __name__ == "__main__":
    main(sys.argv[1:])

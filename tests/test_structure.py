"""Names and places: a class name is enough to find a class, a source file to find its tests, a folder is explained.

The lists of exceptions only shrink: an entry that is no longer needed fails, too.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from scripts.coverage import own_tests
from scripts.structure import Layout, Source, homes, sources

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
LAYOUT = Layout.of(ROOT)
SOURCES = [*LAYOUT.product_sources(), *sources(LAYOUT.lab)]

NOT_OURS = {"dist"}
"""Top folders that builds make."""

MIRRORED = ("core", "kube", "cloud")
"""Folders of which every file has a test file of its own."""

WITHOUT_TESTS: set[str] = set()

TWICE_IN_A_LAYER: set[str] = set()

IN_MANY_MODULES: set[str] = set()

RULES = {"C901", "PLR0913"}

PRIVATE_WORDS = {
    *("ask", "asks", "demand", "demands", "doomed", "doubt", "doubts", "ghost", "ghosts", "insist", "lack", "lacks"),
    *("leg", "legs", "pace", "promise", "promises", "remains", "scene", "shelf", "shelves", "shunned", "sight", "tell"),
    *("told", "twin", "twins", "upkeep", "wiring", "wish", "wished", "wishes", "world"),
}
"""Words that once stood for a standard term, or for none. docs/glossary.md has those that we use instead."""

PRIVATE_WORDS_LEFT: dict[str, str] = {}
"""Names with private words that are still there, by file."""


def layer(source: Source) -> str:
    """The first folder below the product; the lab is one layer."""
    if source.path.is_relative_to(LAYOUT.lab):
        return LAYOUT.lab.name
    return source.path.relative_to(LAYOUT.product).parts[0]


def unexpected(found: Iterable[str], exceptions: Iterable[str]) -> str:
    """What fails and is no exception, and which exceptions have to go; empty when nothing does."""
    actual, allowed = {*found}, {*exceptions}
    parts = [("not allowed", actual - allowed), ("no longer needed as an exception", allowed - actual)]
    return "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in parts if names)


def test_a_class_name_stands_once_in_a_layer() -> None:
    twice = set()
    for name, found in homes(SOURCES).items():
        layers = [layer(source) for source in found]
        if len(layers) > len({*layers}):
            twice.add(name)
    assert not unexpected(twice, TWICE_IN_A_LAYER)


def test_a_class_name_stands_in_two_modules_at_most() -> None:
    many = {name for name, found in homes(SOURCES).items() if len(found) > 2 and not name.startswith("_")}
    assert not unexpected(many, IN_MANY_MODULES)


def test_a_source_file_has_its_own_test_file() -> None:
    files = [path for folder in MIRRORED for path in (LAYOUT.product / folder).rglob("*.py")]
    without = [path for path in files if path.name != "__init__.py" and not own_tests(path)]
    assert not unexpected((str(path.relative_to(LAYOUT.product)) for path in without), WITHOUT_TESTS)


def test_contributing_explains_every_folder() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    files = [path for pattern in ("*.py", "*.c") for path in LAYOUT.product.rglob(pattern)]
    folders = {f"{path.parent.relative_to(LAYOUT.product)}/" for path in files} - {"./"}
    folders |= {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    missing = [folder for folder in folders - {f"{name}/" for name in NOT_OURS} if f"`{folder}`" not in text]
    assert missing == []


def words(source: Source) -> set[str]:
    """The words of all names of a file, in lower case."""
    tokens = tokenize.generate_tokens(io.StringIO(source.text).readline)
    names = {token.string for token in tokens if token.type == tokenize.NAME}
    return {word.lower() for name in names for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_names_use_standard_terms() -> None:
    found = {
        f"{source.path.relative_to(ROOT / 'src')}: {word}"
        for source in SOURCES
        for word in words(source) & PRIVATE_WORDS
    }
    left = {f"{file}: {word}" for file, listed in PRIVATE_WORDS_LEFT.items() for word in listed.split()}
    assert not unexpected(found, left)


def test_files_with_exceptions_from_limits_still_need_them() -> None:
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    excepted = {f"{file} {rule}" for file, rules in ruff["per-file-ignores"].items() for rule in rules if rule in RULES}
    limits = f"lint.mccabe.max-complexity={ruff['mccabe']['max-complexity']}"
    options = ["--isolated", "--no-cache", "--select", ",".join(RULES), "--config", limits, "--output-format", "json"]
    folders = ["src", "tests", "bench", "scripts"]
    command = [str(Path(sys.executable).with_name("ruff")), "check", *options, *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    failing = defaultdict(set)
    for fault in json.loads(done.stdout):
        failing[fault["code"]].add(str(Path(fault["filename"]).relative_to(ROOT)))
    assert not unexpected((f"{file} {rule}" for rule, files in failing.items() for file in files), excepted)


CAUGHT_ELSEWHERE = {
    "agent/discovery.py: _publish_for": "agent/test_discovery_bugs.py::test_a_bug_of_the_writing_stops_nothing",
    "agent/discovery.py: run": "agent/test_discovery_bugs.py::test_a_bug_of_the_reading_stops_nothing",
    "agent/metadata_access.py: run": "agent/test_metadata_namespaces.py::test_a_bug_of_a_load_does_not_end_the_looks",
    "controller/registration.py: _reconcile_forever": "controller/test_registration_bugs.py::test_a_bug_is_tried_again",
    "kube/informer.py: run": "kube/test_informer.py::test_a_bug_does_not_stop_the_informer",
    "kube/lease.py: run": "kube/test_lease.py::TestElection::"
    "test_what_the_work_raises_is_told_and_the_lease_given_back",  # by the daemon, which ends
    "kube/workqueue.py: _work": "kube/test_workqueue.py::test_a_bug_in_a_handler_is_a_failure_of_its_key_only",
}
"""Loops of daemons whose body calls what catches every exception, or what raises none: the test that shows it."""

ENDS_WITH_ITS_CALL = {
    "agent/allocator.py: _undo",
    "agent/attach.py: _finish",
    "cli/connectivity/run.py: remove",
    "cli/connectivity/run.py: until_running",
    "cli/migration/steps.py: _until_old_agents_ended",
    "cloud/alibaba/source_lists.py: _fill",
    "cloud/alibaba/source_lists.py: change",
    "cloudcontroller/service_removal.py: _remove_all",  # each round finds another balancer
    "controller/removal.py: _let_go",
    "controller/removal.py: nodes_are_clean",
    "controller/admission_server.py: _connected",  # one connection, whose errors are caught around the loop
    "kernel/events.py: _until_quiet",
    "kernel/events.py: address_changes",  # the agent's loops that read these two catch all
    "kernel/events.py: routing_losses",
    "kube/informer.py: _list",
    "kube/lease.py: _acquire",
    "kube/lease.py: _hold",
}
"""Loops that are part of one call: their error is that of the call."""


def endless_loops(tree: ast.AST) -> Iterator[tuple[str, ast.While]]:
    """The loops of coroutines that no return or raise of their own ends, with the coroutine's name."""
    for function in ast.walk(tree):
        if isinstance(function, ast.AsyncFunctionDef):
            for loop in ast.walk(function):
                if isinstance(loop, ast.While) and not any(
                    isinstance(each, ast.Return | ast.Raise) for each in ast.walk(loop)
                ):
                    yield function.name, loop


def catches_all(loop: ast.While) -> bool:
    handlers = (each.type for each in ast.walk(loop) if isinstance(each, ast.ExceptHandler))
    return any(isinstance(caught, ast.Name) and caught.id == "Exception" for caught in handlers)


def test_a_loop_of_a_daemon_survives_any_exception() -> None:
    mortal = {
        f"{source.path.relative_to(LAYOUT.product)}: {name}"
        for source in LAYOUT.product_sources()
        for name, loop in endless_loops(ast.parse(source.path.read_text()))
        if not catches_all(loop)
    }
    assert not unexpected(mortal, {*CAUGHT_ELSEWHERE, *ENDS_WITH_ITS_CALL})


@pytest.mark.parametrize("test", CAUGHT_ELSEWHERE.values())
def test_a_test_shows_that_a_loop_survives(test: str) -> None:
    file, *_, name = test.split("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text()

"""How a page's commands are run: one after the other, with variables and names of those before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pages.blocks import Command
from tests.pages.shell import Shell, report

pytestmark = pytest.mark.unit


@pytest.fixture
def at(tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"PATH": os.environ["PATH"]})


def test_what_a_command_prints_is_compared(at: Shell) -> None:
    assert at.play(Command(1, "echo web 3s", ("web   9s",))) == ""
    assert at.play(Command(1, "echo web 1/1", ("web 0/1",))).endswith("-web 0/1\n+web 1/1")


def test_a_command_without_output_has_to_succeed(at: Shell) -> None:
    assert at.play(Command(1, "true")) == ""
    assert at.play(Command(1, "echo no; false | true")) == "exit status 1:\nno\n"


def test_a_command_knows_variables_and_generated_names_of_those_before(at: Shell) -> None:
    assert at.play(Command(1, "S=/run/socket")) == ""
    assert at.play(Command(2, "echo $S web-ft2jx", ("/run/socket web-4jpfd",))) == ""
    assert at.play(Command(3, "test $(echo web-4jpfd) = web-ft2jx && echo .venv/bin/x", ("x",))) == ""


def test_a_finding_names_page_line_and_command() -> None:
    found = report("docs/usage/a.md", Command(7, "kubectl get pods \\\n  -A"), "-a\n+b")
    assert found == "docs/usage/a.md:7: kubectl get pods \\\n    -a\n    +b"

"""The commands of the documentation, run as they stand there, in labs; what they print is what the pages show."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spiderpool_lab.cluster import LabCluster, LabOptions, temporary
from tests.lab.names import lab_name
from tests.pages.accounts import PLAYS, Environment
from tests.pages.shell import Shell, findings, shell

pytestmark = [
    pytest.mark.lab,
    pytest.mark.full,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("public_authorities"),
]

SPIDERPOOL_LAB = """#!/bin/bash
words=("$1"); shift
[[ $words != cloud ]] || { words+=("$1"); shift; }
exec PROGRAM "${words[@]}" --name NAME "$@"
"""
"""The program for one lab: the option comes after the word, or both words, that say what is to be done."""


@pytest.fixture(
    scope="module", params=[Environment.DISCOVERED, Environment.WRITTEN], ids=lambda each: each.name.lower()
)
def lab(request: pytest.FixtureRequest) -> Iterator[LabCluster]:
    """A lab of each kind. It is not called `cluster`, since its logs say nothing of pages."""
    discovery = request.param is Environment.DISCOVERED
    with temporary(lab_name(f"pages-{request.param.name.lower()}"), LabOptions(discovery=discovery)) as cluster:
        yield cluster


def in_lab(cluster: LabCluster, folder: Path) -> Shell:
    """A shell whose commands reach the lab."""
    program = folder / "programs" / "spiderpool-lab"
    program.parent.mkdir()
    script = SPIDERPOOL_LAB.replace("PROGRAM", str(Path(sys.executable).with_name("spiderpool-lab")))
    program.write_text(script.replace("NAME", cluster.name))
    program.chmod(0o755)
    state = str(cluster.directory.parents[2])
    return shell(folder, cluster.plane.admin_kubeconfig, XDG_STATE_HOME=state, LAB_FOLDER=str(cluster.directory))


def test_commands_of_pages_print_what_the_pages_show(lab: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    wrong = []
    for play in PLAYS:
        if play.environment is (Environment.DISCOVERED if lab.discovery else Environment.WRITTEN):
            wrong += findings(play, in_lab(lab, tmp_path_factory.mktemp("page")))
    assert not wrong, "\n\n".join(wrong)

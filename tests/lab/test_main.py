"""The command line of the lab, where nothing is brought up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from spiderpool import __version__
from spiderpool_lab import chart_release, reservations
from spiderpool_lab import main as lab
from spiderpool_lab.alibaba.__main__ import main as simulated_cloud
from spiderpool_lab.chart_release import WALKTHROUGH
from spiderpool_lab.cluster import LabCluster, LabOptions

pytestmark = pytest.mark.unit


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """A group, and all below it, with their paths."""
    yield path, group
    for name, command in group.commands.items():
        whole = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, whole)
        else:
            yield whole, command


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing is reserved, with a folder for the state of labs; its user counts as root."""
    monkeypatch.setattr(reservations, "directory", lambda: tmp_path / "reserved")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(lab, "need_root", lambda: None)
    return tmp_path


@pytest.mark.parametrize(("path", "command"), list(commands(lab.main)))
def test_every_command_has_examples_and_the_short_option_for_help(path: str, command: click.Command) -> None:
    shown = CliRunner().invoke(lab.main, [*path.split(), "-h"])
    assert shown.exit_code == 0
    assert f"spiderpool-lab {path}".strip() in shown.output.partition("Examples:")[2]
    assert all(len(line) <= 80 for line in shown.output.splitlines()), shown.output
    assert command.help, "what it does"


@pytest.mark.parametrize("program", [lab.main, simulated_cloud])
def test_programs_tell_their_version(program: click.Command) -> None:
    assert __version__ in CliRunner().invoke(program, ["--version"]).output
    assert "Examples:" in CliRunner().invoke(program, ["-h"]).output


@pytest.mark.parametrize("name", ["", "a/b", "-a", ".", "ä", "a" * 41])
def test_a_name_that_no_lab_can_have_is_refused_before_anything_is_made(machine: Path, name: str) -> None:
    refused = CliRunner().invoke(lab.main, ["up", f"--name={name}"])
    assert refused.exit_code == 1
    assert "cannot name a lab: use at most 40 letters, digits" in refused.stderr
    assert list(machine.iterdir()) == []


def test_fewer_than_no_spare_addresses_are_refused_at_once(machine: Path) -> None:
    refused = CliRunner().invoke(lab.main, ["up", "--spare", "-1"])
    assert refused.exit_code == 2
    assert "-1 is not in the range x>=0" in refused.stderr
    assert list(machine.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--set", "ipam.enableIPv4=maybe"], "enableIPv4"),
        (["--set", "nosuch.key=1"], "nosuch"),
        (["--values", "values.yaml"], "enableIPv4"),
        (["--values", "list.yaml"], "holds list, not a mapping of keys"),
    ],
)
def test_values_that_the_chart_refuses_are_told_before_anything_is_made(
    machine: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], complaint: str
) -> None:
    (machine / "values.yaml").write_text("ipam: {enableIPv4: maybe}")
    (machine / "list.yaml").write_text("- a")
    monkeypatch.chdir(machine)
    refused = CliRunner().invoke(lab.main, ["up", *words])
    assert refused.exit_code == 1
    assert complaint in refused.stderr
    assert {each.name for each in machine.iterdir()} == {"values.yaml", "list.yaml"}


def test_a_user_s_values_go_before_those_of_the_lab(machine: Path) -> None:
    values = {"ipam": {"enableStatefulSet": True}, "cloud": {"clusterID": "mine"}}
    options = LabOptions(discovery=True, values=values, sets=("ipam.enableIPv6=false",))
    settings = LabCluster("any", options)._chosen_settings()
    assert (settings["enableStatefulSet"], settings["enableIPv6"], settings["enableIPv4"]) == (True, False, True)
    assert (settings["cloud"]["clusterID"], settings["cloud"]["provider"]) == ("mine", "alibaba")
    assert settings["cloud"]["loadBalancers"]["vpcID"] == "vpc-lab", "what the user leaves is the lab's"


def test_what_the_walkthrough_sets_gives_way_to_a_file_of_values() -> None:
    assert chart_release.sets({}, ["a=1"]) == (*WALKTHROUGH, "a=1")
    assert chart_release.sets({"ipam": {"enableStatefulSet": True}}, []) == WALKTHROUGH[1:]

"""Names and ports are reserved once per machine, and come back when whoever reserved them is gone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from spiderpool.errors import BadConfig
from spiderpool_lab import ports, reservations
from spiderpool_lab.processes import WITH_PARENT, Processes
from spiderpool_lab.reservations import LabName

pytestmark = pytest.mark.unit

RIVALS = 6

RIVAL = """
import json, sys
from pathlib import Path
from spiderpool.errors import BadConfig
from spiderpool_lab import ports, reservations
from spiderpool_lab.reservations import LabName

reservations.directory = lambda: Path(sys.argv[1])
sys.stdin.readline()  # so that all begin at once
try:
    LabName("contested").reserve()
    won = True
except BadConfig:
    won = False
print(json.dumps([won, ports.free_ports(20)]), flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a machine on which nothing is reserved."""
    folder = tmp_path / "machine"
    monkeypatch.setattr(reservations, "directory", lambda: folder)
    return folder


@contextmanager
def rival(machine: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that reserves a name and ports when it is sent a line, and keeps them until the next."""
    pipe = subprocess.PIPE
    command = [*WITH_PARENT, sys.executable, "-c", RIVAL, str(machine)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process


def send_line(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def result(process: subprocess.Popen[str]) -> tuple[bool, list[int]]:
    assert process.stdout is not None
    won, taken = json.loads(process.stdout.readline())
    return won, taken


def test_of_concurrent_processes_one_gets_a_name_and_all_get_different_ports(machine: Path) -> None:
    with ExitStack() as stack:
        rivals = [stack.enter_context(rival(machine)) for _ in range(RIVALS)]
        for process in rivals:
            send_line(process)
        results = [result(process) for process in rivals]
        with pytest.raises(BadConfig, match="spiderpool-lab down --name contested, or choose another --name"):
            LabName("contested").reserve()
        taken = [*(port for _, ports_of_one in results for port in ports_of_one), *ports.free_ports(20)]
        for process in rivals:
            send_line(process)
    assert [won for won, _ in results].count(True) == 1
    assert len(set(taken)) == 20 * (RIVALS + 1)


def test_what_a_dead_process_reserved_is_free_again_and_its_files_are_removed(machine: Path, tmp_path: Path) -> None:
    with rival(machine) as process:
        send_line(process)
        _, taken = result(process)
        process.kill()
    LabName("contested", directory=tmp_path / "state").reserve()
    assert not [port for port in taken if (machine / f"port-{port}").exists()]


def test_a_process_keeps_its_ports_although_a_dead_one_had_its_pid(machine: Path) -> None:
    LabName("former").reserve()
    disown(machine)
    (machine / "name-former").rename(machine / "held-back")
    (port,) = ports.free_ports(1)
    (machine / "held-back").rename(machine / "name-former")
    LabName("mine").reserve()
    assert not (machine / "name-former").exists()
    assert (machine / f"port-{port}").exists()


def test_a_lab_whose_processes_outlive_the_one_that_started_them_keeps_its_name_and_ports(
    machine: Path, tmp_path: Path
) -> None:
    processes = Processes(tmp_path / "state" / "processes")
    mine = LabName("detached", processes=processes.directory, directory=tmp_path / "state")
    mine.reserve()
    (port,) = ports.free_ports(1, processes.directory)
    disown(machine)
    processes.start("server", ["sleep", "60"])
    try:
        with pytest.raises(BadConfig, match=f"files are in {tmp_path}/state"):
            LabName("detached").reserve()
        with pytest.raises(BadConfig, match="is another one"):
            LabName("detached", processes=tmp_path / "elsewhere").check_ours()
        LabName("detached", processes=tmp_path / "elsewhere").release()
        LabName("detached", processes=processes.directory).check_ours()
        assert (machine / f"port-{port}").exists()
    finally:
        processes.kill("server", signal.SIGKILL)
        processes.stop("server")
    LabName("detached").reserve()
    assert not (machine / f"port-{port}").exists()
    assert not (tmp_path / "state").exists()


def disown(machine: Path) -> None:
    """Change every reservation as if the process that made it were gone."""
    for file in (*machine.glob("name-*"), *machine.glob("port-*")):
        file.write_text(json.dumps({**json.loads(file.read_text()), "start": -1}))


def test_a_name_is_reserved_once_per_object_and_given_back(machine: Path) -> None:
    name = LabName("mine")
    name.reserve()
    name.reserve()
    with pytest.raises(BadConfig, match="'mine' is up already"):
        LabName("mine").reserve()
    name.release()
    name.release()
    LabName("mine").reserve()


def test_ports_are_given_back_together(machine: Path, tmp_path: Path) -> None:
    ports.free_ports(3, tmp_path / "one")
    ports.free_ports(2, tmp_path / "other")
    reservations.release_ports(tmp_path / "one")
    assert len(list(machine.glob("port-*"))) == 2


def test_a_reservation_that_a_crash_left_half_written_counts_for_nothing(machine: Path) -> None:
    machine.mkdir()
    (machine / "name-mine").write_text('{"pid": 1')
    LabName("mine").reserve()


@pytest.mark.parametrize("name", ["", "../other", "two words", "-x"])
def test_a_name_that_cannot_be_that_of_a_namespace_is_refused(name: str) -> None:
    with pytest.raises(BadConfig, match="cannot name a lab"):
        LabName(name)


def test_too_few_ports_are_told(machine: Path) -> None:
    with pytest.raises(BadConfig, match="only 2 of 3 TCP ports"):
        reservations.reserve_ports([20001, 20002], 3, None)

"""The command as a user runs it: interrupted, it leaves nothing; a cluster that stays up serves other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from spiderpool_lab.namespaces import DIRECTORY
from spiderpool_lab.processes import Processes, start_ticks
from tests.lab.names import lab_name
from tests.support.eventually import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

SPIDERPOOL = Path(sys.executable).with_name("spiderpool-lab")

Identity = tuple[int, int]


class Command:
    """Runs ``spiderpool-lab`` for one lab with a state folder of its own, and finds what it leaves."""

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.state = state
        self.environment = {**os.environ, "XDG_STATE_HOME": str(state), "PYTHONUNBUFFERED": "1"}

    def start(self, word: str) -> subprocess.Popen[str]:
        """Start it as a terminal does: in a process group of its own."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self._argv(word), env=self.environment, text=True, process_group=0, stdout=pipe, stderr=pipe
        )

    def run(self, word: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self._argv(word, *arguments), env=self.environment, text=True, capture_output=True, timeout=120, check=False
        )

    def wait_for_process(self, name: str, timeout: float = 30.0) -> None:
        """Wait until a process of the lab has been started."""
        processes = Processes(self.state / "spiderpool" / "lab" / self.name / "processes")
        wait_until(lambda: processes.pid(name) is not None, f"{name} is started", timeout=timeout, interval=0.01)

    def traces(self) -> list[str]:
        """Processes, namespaces, mounts and files of the lab that are left."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        ours = (str(self.state), f"spl-{self.name}-")
        return [
            *(f"process {pid}" for pid in _pids() if str(self.state).encode() in _read(f"/proc/{pid}/environ")),
            *(f"namespace {path.name}" for path in DIRECTORY.glob(f"spl-{self.name}-*")),
            *(f"mount {line}" for line in mounts if any(word in line for word in ours)),
            *(f"file {path}" for path in self.state.glob("spiderpool/lab/*")),
            *(f"file {path}" for path in Path("/run").glob(f"spl-{self.name}-*")),
        ]

    def _argv(self, word: str, *arguments: str) -> list[str]:
        words = [word, *arguments[:1]] if word == "cloud" else [word]
        return [str(SPIDERPOOL), *words, "--name", self.name, *arguments[len(words) - 1 :]]


@pytest.fixture
def command(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Command]:
    """The command for a lab named by the test's parameter, taken down also when the test fails."""
    command = Command(lab_name(request.param), tmp_path / "state")
    yield command
    if command.traces():
        command.run("down")


@pytest.mark.parametrize("command", ["interrupt"], indirect=True)
@pytest.mark.parametrize(
    ("number", "words", "process"),
    [
        (signal.SIGINT, "control plane: etcd", "kube-apiserver"),
        pytest.param(signal.SIGTERM, "helm install", "chart-repository", marks=pytest.mark.full),
        pytest.param(signal.SIGINT, "nodes master, worker", "node-worker", marks=pytest.mark.full),
        pytest.param(signal.SIGINT, "Which server is which", "node-worker", marks=pytest.mark.full),
    ],
    ids=["control plane", "terminated", "nodes", "checks"],
)
def test_an_interrupted_demo_leaves_nothing(command: Command, number: int, words: str, process: str) -> None:
    """The signal comes once these words are printed and that process is started."""
    with command.start("demo") as demo:
        try:
            _read_until(demo, words)
            command.wait_for_process(process)
            started = _descendants(demo.pid)
            os.killpg(demo.pid, number)
            _, errors = demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert (demo.returncode, "interrupted" in errors) == (130, True), errors
    assert len(started) > 2
    wait_until(lambda: _still_there(started) == [], "every process that the demo started has ended", timeout=5)
    assert command.traces() == []


def _still_there(processes: Iterable[Identity]) -> list[int]:
    """Pids of processes that still run; the kernel may take a moment for those that end with their parent."""
    return [pid for pid, start in processes if start_ticks(pid) == start]


@pytest.mark.parametrize("command", ["kept"], indirect=True)
@pytest.mark.parametrize("is_brief", [True, pytest.param(False, marks=pytest.mark.full)])
def test_a_kept_cluster_serves_other_processes_until_it_is_taken_down(command: Command, is_brief: bool) -> None:
    up = command.run("up", "--spare", "6", "--nodes", "fast", "--set", "ipam.enableIPv6=false")
    assert up.returncode == 0, up.stderr
    assert f"spiderpool-lab down --name {command.name}" in up.stdout
    assert f"kubeconfig: {command.state}/spiderpool/lab/{command.name}/" in up.stdout, "on one line"
    settings = command.state / "spiderpool" / "lab" / command.name / "conf.yml"
    assert yaml.safe_load(settings.read_text())["enableIPv6"] is False
    status = command.run("status").stdout
    assert all(word in status for word in ("kube-apiserver", "spiderpool-controller", "node-worker", " Ready "))
    assert "172.31.199.183/20" in command.run("exec", "master", "ip", "address").stdout
    assert command.run("kubectl", "get", "nodes", "-o", "name").stdout.split() == ["node/master", "node/worker"]
    assert command.run("exec", "master", "sh", "-c", "exit 3").returncode == 3
    if not is_brief:
        keeps_addresses_in_advance(command)
        breaks_its_cloud(command)
    stays_when_its_name_is_asked_for_again(command)
    assert "'elsewhere'" in command.run("exec", "elsewhere", "true").stderr
    assert command.run("down").stdout == f"lab '{command.name}' is taken down\n"
    assert command.traces() == []
    assert f"no lab named {command.name!r} is up" in command.run("status").stderr


def stays_when_its_name_is_asked_for_again(command: Command) -> None:
    """``up`` and ``demo`` of the name are refused with the remedy, also with another state folder."""
    elsewhere = Command(command.name, command.state.with_name("elsewhere"))
    for refused in (command.run("up"), command.run("demo"), elsewhere.run("up")):
        assert refused.returncode == 1
        assert f"take it down by: spiderpool-lab down --name {command.name}" in refused.stderr
    assert "is another one" in elsewhere.run("down").stderr
    assert command.run("exec", "master", "true").returncode == 0


def keeps_addresses_in_advance(command: Command) -> None:
    """spiderpool-cloud keeps spare addresses on every ENI: 5 of the topology become 9, and the pools follow."""
    counts = "jsonpath={range .items[?(@.spec.ipVersion==4)]}{.status.totalIPCount} {end}"
    wait_until(
        lambda: command.run("kubectl", "get", "spiderippools", "-o", counts).stdout.split() == ["9"] * 4,
        "every pool has 9 addresses",
        timeout=60,
        interval=0.5,
    )


def breaks_its_cloud(command: Command) -> None:
    """Faults show as the cloud's own error codes, and in the status."""
    assert "fault 1 is set" in command.run("cloud", "fault", "throttle", "--actions", "ecs:Assign*").stdout
    assert "1: throttle ecs:Assign*, every 1" in command.run("status").stdout
    assign = (
        "ecs",
        "AssignPrivateIpAddresses",
        "NetworkInterfaceId=eni-master-eth0",
        "SecondaryPrivateIpAddressCount=1",
    )
    assert "Throttling.User" in command.run("cloud", "call", *assign).stderr
    assert "set are 1" in command.run("cloud", "repair", "99").stderr
    assert command.run("cloud", "repair").stdout == "fault 1 is taken away\n"
    assert command.run("cloud", "repair").stdout == "no fault was set\n"
    assert "there is no action nosuch:*" in command.run("cloud", "fault", "drop", "--actions", "nosuch:*").stderr
    assert "vSwitch vsw0 has no free address" in command.run("cloud", "full", "vsw0").stdout
    assert "IpNotEnough" in command.run("cloud", "call", *assign).stderr
    command.run("cloud", "full", "vsw0", "--undo")
    assert "172.31.192." in command.run("cloud", "call", *assign).stdout
    assert "console ecs:AssignPrivateIpAddresses OK" in command.run("cloud", "state").stdout  # its last calls
    assert "write NAME=VALUE" in command.run("cloud", "call", "ecs", "DescribeInstances", "everything").stderr
    assert "i-worker" in command.run("cloud", "lose", "nobody").stderr
    lost = command.run("cloud", "lose", "worker")
    assert (lost.returncode, "Its Node stays Ready until" in lost.stdout) == (0, True)
    shown = command.run("cloud", "state").stdout
    servers = [line.split()[0] for line in shown.splitlines() if line.startswith("i-")]
    assert servers == ["i-operations", "i-master", "i-plane"]


def _read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if words in line:
            return
    raise AssertionError(f"it never printed {words!r}, but {''.join(printed)}")


def _descendants(root: int) -> list[Identity]:
    """A process and its descendants, in other sessions as well."""
    parents = {pid: _parent(pid) for pid in _pids()}
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return [(pid, begin) for pid in found if (begin := start_ticks(pid)) is not None]


def _parent(pid: int) -> int | None:
    """proc(5), stat field 4."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else None


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(path: str) -> bytes:
    """A file of a process that may end meanwhile."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""

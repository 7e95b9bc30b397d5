"""The same tests on a kernel that has ipvlan and lacks nftables' inet family: User Mode Linux, one process.

A guest uses one CPU, so two guests share the tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from spiderpool.errors import IOFailure
from spiderpool_lab import binaries, uml
from tests.kernel.environment import has_kind

PROJECT = Path(__file__).parent.parent.parent
INTERFACES = (
    "interfaces",
    "interfaces_pods",
    "interfaces_kinds",
    "interfaces_chained",
    "interfaces_users",
    "node_tuning",
)
TESTS = (
    *(f"tests/agent/test_{name}.py" for name in INTERFACES),
    *(f"tests/security/test_{name}.py" for name in ("sources", "pod_metadata")),
    *(f"tests/kernel/test_{name}.py" for name in ("marks", "hostports", "masquerade", "arp", "rtnetlink")),
)

MODULES = (
    *("veth", "ipv6", "ipvlan", "macvlan", "nf_tables", "ip_tables", "iptable_mangle", "iptable_nat"),
    *("xt_conntrack", "xt_connmark", "xt_mark", "xt_nat", "xt_MASQUERADE", "xt_tcpudp", "xt_addrtype", "xt_multiport"),
    *("iptable_raw", "iptable_filter", "nf_conntrack_netlink", "sctp", "xt_comment"),
    *("ip6table_raw", "ipt_rpfilter", "ip6t_rpfilter", "sch_ingress", "cls_bpf", "cls_u32"),
    *("ip6_tables", "ip6table_mangle", "ip6table_nat", "8021q", "bonding", "dummy"),
)

GUESTS = 2
SMOKE = 7
"""Every how many-th of the tests a run without ``--full`` has, beside the first of each file (``shard.py``).

Each takes ten times as long in a guest as here. Odd, since many tests are there for IPv4 and IPv6 in turn.
"""

POOR = ("veth",)
"""Modules of a kernel that has neither ipvlan, VLANs, IPv6 nor a packet filter."""

POOR_TESTS = ("tests/kernel/test_poor_kernel.py",)


@pytest.mark.lab
@pytest.mark.timeout(400)
def test_ipvlan_in_user_mode_linux(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    if has_kind("ipvlan"):
        pytest.skip("this kernel has ipvlan: the tests ran here")
    every = 1 if pytestconfig.getoption("--full") else SMOKE
    shares = [Share(MODULES, TESTS, f"{number}/{GUESTS}/{every}") for number in range(GUESTS)]
    for output in _run(tmp_path, shares):
        assert "no ipvlan" not in output, output


@pytest.mark.full
@pytest.mark.lab
@pytest.mark.timeout(400)
def test_a_kernel_without_what_networks_need(tmp_path: Path) -> None:
    [output] = _run(tmp_path, [Share(POOR, POOR_TESTS)])
    assert "skipped" not in output, output


@dataclass(frozen=True)
class Share:
    """What a guest does: its kernel's modules, the tests' files, and its part of the tests (``shard.py``)."""

    modules: Sequence[str]
    tests: Sequence[str]
    part: str = "0/1/1"


def _run(directory: Path, shares: Sequence[Share]) -> list[str]:
    """The output of all guests, each of which must have succeeded."""
    try:
        kernel, modules = uml.kernel_command(), binaries.uml_modules()
    except IOFailure as error:
        pytest.skip(error.message)
    guests = [Guest(directory / str(number), share, _cpu(number)) for number, share in enumerate(shares)]
    try:
        for guest in guests:
            guest.start(kernel, modules)
        for guest in guests:
            guest.wait()
    finally:
        for guest in guests:
            guest.stop()
    for guest in guests:
        assert guest.status() == "0", guest.output()
    return [guest.output() for guest in guests]


def _cpu(number: int) -> int:
    """A CPU for each guest: a kernel of User Mode Linux uses one, and is slower when it moves."""
    cpus = sorted(os.sched_getaffinity(0), reverse=True)
    return cpus[number % len(cpus)]


class Guest:
    """One guest with its share of the tests, in a session of its own: it is many processes, and none may stay."""

    def __init__(self, directory: Path, work: Share, cpu: int) -> None:
        self._directory = directory
        self._share = directory / "share"
        self._work = work
        self._cpu = cpu
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, kernel: list[str], modules: Path) -> None:
        self._share.mkdir(parents=True)
        work = self._work
        command = [
            *("taskset", "-c", str(self._cpu)),
            *(*kernel, "mem=1G", "root=/dev/root", "rootfstype=hostfs", "ro"),
            *("con=null", "con0=null,fd:1", "ssl=null", "quiet", "loglevel=3"),
            *(f"umid=guest{self._cpu}", f"uml_dir={self._directory}/uml", f"PYTHONPATH={PROJECT}/src"),
            *(f"init={sys.executable}", "--", str(Path(__file__).with_name("guest.py"))),
            *(str(self._share), str(modules), str(PROJECT), ",".join(work.modules), work.part, *work.tests),
        ]
        with self._console.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self) -> None:
        assert self._process is not None
        self._process.wait(timeout=360)

    def stop(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def status(self) -> str:
        """Exit status of the guest's pytest."""
        file = self._share / "status"
        return file.read_text() if file.exists() else "no status"

    def output(self) -> str:
        """What pytest printed, or the guest if it did not come so far."""
        file = self._share / "output"
        return (file if file.exists() else self._console).read_text()[-20000:]

    @property
    def _console(self) -> Path:
        return self._directory / "console"

"""First program of a User Mode Linux guest: prepare it, run pytest, say how it went, switch off.

The guest sees the host's files read-only. ``sys.argv`` is the folder it may write, the folder of its modules, the
folder that holds the tests, and the test files; the kernel appends a ``console=`` of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from spiderpool.lab import syscalls

MODULES = (
    *("veth", "ipv6", "ipvlan", "macvlan", "nf_tables", "ip_tables", "iptable_mangle", "iptable_nat"),
    *("xt_conntrack", "xt_connmark", "xt_mark", "xt_nat", "xt_MASQUERADE", "xt_tcpudp"),
)

PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "-ra", "--durations=5", "-p", "no:cacheprovider"),
    *("-p", "no:hypothesispytest", "-m", "lab", "-k", "not macvlan"),
)


def main(share: str, modules: str, project: str, *files: str) -> None:
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        syscalls.mount(kind, Path(place), kind)
    for place in ("/run/netns", "/run/tmp", "/run/share"):
        Path(place).mkdir()
    syscalls.mount("none", Path("/run/share"), "hostfs", data=share)
    try:
        _load(Path(modules) / os.uname().release)
        # iptables makes the kernel ask for modules that do not exist; here each modprobe takes 0.2 s.
        Path("/proc/sys/kernel/modprobe").write_text("\n")
        with Path("/run/share/output").open("wb") as output:
            done = subprocess.run(
                [*PYTEST, *(file for file in files if not file.startswith("console="))],
                cwd=project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": "/run/tmp", "PYTHONDONTWRITEBYTECODE": "1"},
                check=False,
            )
        Path("/run/share/status").write_text(str(done.returncode))
    finally:
        Path("/proc/sysrq-trigger").write_text("o")
        time.sleep(5)


def _load(folder: Path) -> None:
    """Load the modules and what they need; modules.dep lists the nearest dependency first."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[_name(file)] = [*reversed(others.split()), file]
    for name in MODULES:
        for file in needs.get(name, ()):  # built in otherwise
            syscalls.load_module(folder / file)


def _name(file: str) -> str:
    return Path(file).name.split(".")[0].replace("-", "_")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""First program of a User Mode Linux guest: prepare it, run pytest, say how it went, switch off.

The guest sees the host's files read-only. ``sys.argv`` is the folder it may write, the folder of its modules, the
folder that holds the tests, this guest's part of them (see ``shard.py``), and the test files; the
kernel appends a ``console=`` of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from spiderpool_lab import kernel_modules, syscalls

MODULES = (
    *("veth", "ipv6", "ipvlan", "macvlan", "nf_tables", "ip_tables", "iptable_mangle", "iptable_nat"),
    *("xt_conntrack", "xt_connmark", "xt_mark", "xt_nat", "xt_MASQUERADE", "xt_tcpudp", "xt_addrtype", "xt_multiport"),
    *("iptable_raw", "nf_conntrack_netlink", "sctp"),
    *("ip6_tables", "ip6table_mangle", "ip6table_nat", "8021q", "bonding", "dummy"),
)

PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "-ra", "--durations=5", "-p", "no:cacheprovider"),
    *("-p", "no:hypothesispytest", "-p", "tests.kernel.shard", "-m", "lab", "-k", "not macvlan"),
)

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": "/run/tmp", "PYTHONDONTWRITEBYTECODE": "1"}


def main(share: str, modules: str, project: str, guest: str, *files: str) -> None:
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        syscalls.mount(kind, Path(place), kind)
    for place in ("/run/netns", "/run/tmp", "/run/share"):
        Path(place).mkdir()
    syscalls.mount("none", Path("/run/share"), "hostfs", data=share)
    try:
        kernel_modules.load(Path(modules) / os.uname().release, MODULES)
        with Path("/run/share/output").open("wb") as output:
            done = subprocess.run(
                [*PYTEST, *(file for file in files if not file.startswith("console="))],
                cwd=project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**ENVIRONMENT, "GUEST": guest},
                check=False,
            )
        Path("/run/share/status").write_text(str(done.returncode))
    finally:
        Path("/proc/sysrq-trigger").write_text("o")
        time.sleep(5)


if __name__ == "__main__":
    main(*sys.argv[1:])

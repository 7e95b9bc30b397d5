"""Connection marks in a pod: an answer leaves by the link by which the request came.

When a Service keeps the client's address, the node hands the packet to the pod over the veth pair. By its routes the
pod would answer straight through its card, past the node that translated the address, and the client would not
recognise the answer. So connections that begin on the veth are marked, and a policy rule sends marked packets back.

One rule set in two renderings: nftables, and iptables (legacy) for kernels without nftables' inet family. The rules
touch no mark but ours, so an application's or a sidecar's own marks survive.

Everything here runs in the network namespace of the calling thread, inside `namespaces.run_inside`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Literal, TypeAlias

from spiderpool.errors import KernelFailure

Backend: TypeAlias = Literal["nft", "iptables"]

TABLE = "spiderpool"
TIMEOUT = 10.0
"""Seconds for one call of nft or iptables."""

_LOCK = "/proc/self/ns/net"
"""What iptables locks: the namespace itself. By default all namespaces of a node share one lock with kube-proxy."""

_backends: list[Backend] = ["nft", "iptables"]
"""Backends to try, in order; once one has taken the rules, only that one."""


def load(link: str, mark: int, *, afresh: bool) -> None:
    """Load the rules for connections that begin on ``link``.

    ``afresh`` replaces rules of an earlier attempt; with nftables the table is complete or absent, so there is
    nothing to replace.

    Raises:
        KernelFailure: neither nftables nor iptables took the rules; says what both answered.
    """
    refusals = []
    for backend in tuple(_backends):
        refusal = _load_nft(link, mark) if backend == "nft" else _load_iptables(link, mark, afresh)
        if not refusal:
            _backends[:] = [backend]
            return
        refusals.append(f"{backend}: {refusal}")
    raise KernelFailure(f"mark {mark:#x} on connections from {link} could not be set", "\n".join(refusals))


def loaded() -> bool:
    """Whether our rules are present."""
    if _run(["nft", "list", "table", "inet", TABLE], "")[0] == 0:
        return True
    code, rules = _run(["iptables-legacy-save", "-t", "mangle"], "")
    return code == 0 and "CONNMARK --restore-mark" in rules


def nft_script(link: str, mark: int) -> str:
    """The rules for ``nft -f -``. ``create`` fails if the table exists, which makes loading all or nothing."""
    return f"""\
create table inet {TABLE}
table inet {TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority mangle;
    iifname "{link}" ct state new ct mark set {mark:#x}
  }}
  chain output {{
    type route hook output priority mangle;
    ct mark {mark:#x} meta mark set {mark:#x}
  }}
}}
"""


def iptables_script(link: str, mark: int) -> str:
    """The same rules for iptables-restore, which covers IPv4 only; nftables' inet family covers both."""
    whole = f"{mark:#x}/0xffffffff"
    return f"""\
*mangle
-A PREROUTING -i {link} -m conntrack --ctstate NEW -j CONNMARK --set-xmark {whole}
-A OUTPUT -m connmark --mark {whole} -j CONNMARK --restore-mark
COMMIT
"""


def _load_nft(link: str, mark: int) -> str:
    code, output = _run(["nft", "-f", "-"], nft_script(link, mark))
    return "" if code == 0 or "File exists" in output else output


def _load_iptables(link: str, mark: int, afresh: bool) -> str:
    keep = () if afresh else ("--noflush",)
    code, output = _run(["iptables-legacy-restore", "--wait=5", *keep], iptables_script(link, mark))
    return "" if code == 0 else output


def _run(command: Sequence[str], text: str) -> tuple[int, str]:
    """Exit status and all output; a missing program or one that hangs counts as a failure with a reason."""
    environment = {**os.environ, "XTABLES_LOCKFILE": _LOCK}
    try:
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            env=environment,
        )
    except OSError as error:
        return 127, str(error)
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {TIMEOUT:g} seconds"
    return done.returncode, done.stdout.strip()

"""Connection marks: an answer leaves by the link by which the request came.

In a pod: when a Service keeps the client's address, the node hands the packet to the pod over the veth pair. By its
routes the pod would answer straight through its NIC, past the node that translated the address, and the client would
not recognise the answer. So connections that begin on the veth are marked, and a policy rule sends marked packets back.
On a node with several NICs the same is done for each NIC.

One rule set in two renderings: nftables, whose inet family covers IPv4 and IPv6, and iptables (legacy) for kernels
without that family. The rules touch no mark but ours, so an application's or a sidecar's own marks survive.

Everything here but `detect` runs in the network namespace of the calling thread, inside `namespaces.run_inside`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from spiderpool.errors import KernelFailure
from spiderpool.kernel.namespaces import enter_new, run_inside

Backend: TypeAlias = Literal["nft", "iptables"]

TABLE = "spiderpool"
NIC_TABLE = "spiderpool_cards"
NIC_CHAINS = {"PREROUTING": "SPIDERPOOL-IN", "OUTPUT": "SPIDERPOOL-OUT"}
TIMEOUT = 10.0
"""Seconds for one call of nft or iptables."""

_LOCK = "/proc/self/ns/net"
"""What iptables locks: the namespace itself. By default all namespaces of a node share one lock with kube-proxy."""

_PROGRAMS = {4: "iptables", 6: "ip6tables"}
_RESTORED = "CONNMARK --restore-mark"

_backends: list[Backend] = ["nft", "iptables"]
"""Backends to try, in order; once one has taken the rules, only that one."""


async def detect() -> Backend:
    """Find out, in a namespace made for it, which backend this kernel has, and use that from now on.

    Raises:
        KernelFailure: neither; says what both answered.
    """
    return await run_inside(None, _detect)


def _detect() -> Backend:
    enter_new()
    load("veth0", 0x1, (4,), afresh=False)
    return _backends[0]


def load(link: str, mark: int, versions: tuple[int, ...] = (4,), *, afresh: bool) -> None:
    """Load the rules for connections that begin on ``link``.

    ``afresh`` replaces rules of an earlier attempt; with nftables the table is complete or absent, so there is
    nothing to replace.

    Raises:
        KernelFailure: neither nftables nor iptables took the rules; says what both answered.
    """
    script = iptables_script(link, mark)
    refusals = []
    for backend in tuple(_backends):
        refusal = _load_nft(nft_script(link, mark)) if backend == "nft" else _load_iptables(script, versions, afresh)
        if not refusal:
            _backends[:] = [backend]
            return
        refusals.append(f"{backend}: {refusal}")
    raise KernelFailure(f"mark {mark:#x} on connections from {link} could not be set", "\n".join(refusals))


def loaded() -> tuple[int, ...]:
    """The families whose rules are present."""
    if "nft" in _backends and _run(["nft", "list", "table", "inet", TABLE], "")[0] == 0:
        return (4, 6)
    answers = {version: _run([f"{name}-legacy-save", "-t", "mangle"], "") for version, name in _PROGRAMS.items()}
    return tuple(version for version, (code, rules) in answers.items() if code == 0 and _RESTORED in rules)


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
    """The same rules for iptables-restore and ip6tables-restore."""
    whole = f"{mark:#x}/0xffffffff"
    return f"""\
*mangle
-A PREROUTING -i {link} -m conntrack --ctstate NEW -j CONNMARK --set-xmark {whole}
-A OUTPUT -m connmark --mark {whole} -j CONNMARK --restore-mark
COMMIT
"""


def load_nics(nics: Sequence[tuple[str, int]], mask: int, versions: tuple[int, ...]) -> None:
    """Mark connections that begin on a NIC, and what pods answer to them; replaces what was loaded before.

    In one step a family: a connection that begins meanwhile finds the old rules or the new ones.

    Raises:
        KernelFailure: neither nftables nor iptables took the rules.
    """
    refusals = []
    if "nft" in _backends:
        refusals.append(f"nft: {_load_nft(nft_nic_script(nics, mask))}")
        if refusals == ["nft: "]:
            return
    refusals += [f"iptables: {output}" for output in (_load_nics_of(nics, mask, one) for one in versions) if output]
    if any(refusal.startswith("iptables: ") for refusal in refusals):
        raise KernelFailure("connections could not be marked by NIC", "\n".join(refusals))


def _load_nics_of(nics: Sequence[tuple[str, int]], mask: int, version: int) -> str:
    """By iptables, for one family; what it refused."""
    _, rules = _run([f"{_PROGRAMS[version]}-legacy-save", "-t", "mangle"], "")
    hooks = [hook for hook, chain in NIC_CHAINS.items() if f"-A {hook} -j {chain}" not in rules]
    return _load_iptables(iptables_nic_script(nics, mask, hooks), (version,), afresh=False)


def drop_nics() -> None:
    """Remove the rules of `load_nics`; none is success."""
    _run(["nft", "delete", "table", "inet", NIC_TABLE], "")
    for name in _PROGRAMS.values():
        code, rules = _run([f"{name}-legacy-save", "-t", "mangle"], "")
        if code == 0 and NIC_CHAINS["PREROUTING"] in rules:
            _run([f"{name}-legacy-restore", "--wait=5", "--noflush"], _IPTABLES_WITHOUT_NICS)


_IPTABLES_WITHOUT_NICS = "\n".join(
    [
        "*mangle",
        *(f"-D {hook} -j {chain}" for hook, chain in NIC_CHAINS.items()),
        *(line for chain in NIC_CHAINS.values() for line in (f"-F {chain}", f"-X {chain}")),
        "COMMIT\n",
    ]
)


def nics_loaded() -> tuple[str, ...]:
    """The NICs for which `load_nics` is in force."""
    commands = (["nft", "list", "table", "inet", NIC_TABLE], ["iptables-legacy-save", "-t", "mangle"])
    answers = [output for code, output in (_run(command, "") for command in commands) if code == 0]
    found = re.findall(rf'iifname "(\S+)"|-A {NIC_CHAINS["PREROUTING"]} -i (\S+)', "\n".join(answers))
    return tuple(dict.fromkeys(by_nft or by_iptables for by_nft, by_iptables in found))


def nft_nic_script(nics: Sequence[tuple[str, int]], mask: int) -> str:
    """The rules for ``nft -f -``; the table is made so that its deletion cannot fail, and then made anew."""
    rest = f"{~mask & 0xFFFFFFFF:#x}"
    begun = "\n".join(
        f'    iifname "{link}" ct state new ct mark set ct mark & {rest} | {mark:#x}' for link, mark in nics
    )
    known = "\n".join(
        f"    ct direction reply ct mark & {mask:#x} == {mark:#x} meta mark set meta mark & {rest} | {mark:#x}"
        for _, mark in nics
    )
    return f"""\
table inet {NIC_TABLE}
delete table inet {NIC_TABLE}
table inet {NIC_TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority mangle;
{begun}
{known}
  }}
  chain output {{
    type route hook output priority mangle;
{known}
  }}
}}
"""


def iptables_nic_script(nics: Sequence[tuple[str, int]], mask: int, hooks: Iterable[str] = NIC_CHAINS) -> str:
    """The same rules for iptables-restore and ip6tables-restore, in chains of their own, which this makes or replaces.

    ``hooks`` are those that do not lead to our chains yet.
    """
    incoming, outgoing = NIC_CHAINS["PREROUTING"], NIC_CHAINS["OUTPUT"]
    lines = ["*mangle", f":{incoming} - [0:0]", f":{outgoing} - [0:0]"]
    for link, mark in nics:
        value = f"{mark:#x}/{mask:#x}"
        lines.append(f"-A {incoming} -i {link} -m conntrack --ctstate NEW -j CONNMARK --set-xmark {value}")
        answer = f"-m conntrack --ctdir REPLY -m connmark --mark {value} -j MARK --set-xmark {value}"
        lines += [f"-A {chain} {answer}" for chain in (incoming, outgoing)]
    lines += [f"-A {hook} -j {NIC_CHAINS[hook]}" for hook in hooks]
    return "\n".join([*lines, "COMMIT\n"])


def _load_nft(script: str) -> str:
    code, output = _run(["nft", "-f", "-"], script)
    return "" if code == 0 or "File exists" in output else output


def _load_iptables(script: str, versions: tuple[int, ...], afresh: bool) -> str:
    """One program a family."""
    keep = () if afresh else ("--noflush",)
    refusals = []
    for version in versions:
        code, output = _run([f"{_PROGRAMS[version]}-legacy-restore", "--wait=5", *keep], script)
        refusals += [output] if code else []
    return "\n".join(refusals)


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

"""Connection marks: an answer leaves by the link by which the request came.

In a pod: when a Service keeps the client's address, the node hands the packet to the pod over the veth pair. By its
routes the pod would answer straight through its NIC, past the node that translated the address, and the client would
not recognise the answer. So connections that begin on the veth are marked, and a policy rule sends marked packets back.
On a node with several NICs the same is done for each NIC.

One rule set in two renderings: nftables, whose inet family covers IPv4 and IPv6, and iptables (legacy) for kernels
without that family. The rules change no bits of a mark but ours, so the marks of applications and sidecars survive.

Everything here but `detect` acts in the network namespace of the calling thread, inside `namespaces.run_inside`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from spiderpool.errors import KernelFailure
from spiderpool.kernel.namespaces import enter_new, run_inside
from spiderpool.kernel.programs import IPTABLES, IPTABLES_ABSENT, NFT_ABSENT, Backend, query, refusal

TABLE = "spiderpool"
NIC_TABLE = "spiderpool_cards"
NIC_CHAINS = {"PREROUTING": "SPIDERPOOL-IN", "OUTPUT": "SPIDERPOOL-OUT"}  # hook → our chain
_ENVIRONMENT = {"XTABLES_LOCKFILE": "/proc/self/ns/net"}
"""The file that iptables locks: the namespace itself. By default all namespaces of a node share kube-proxy's lock."""

_RESTORED = "CONNMARK --restore-mark"

_NEEDED = (
    "the kernel needs the modules nf_tables and nft_ct, or ip_tables, iptable_mangle, xt_conntrack and xt_connmark, "
    "of which details tell what is missing"
)

_backends: list[Backend] = ["nft", "iptables"]  # in order of preference; only the working one once it is known


async def detect() -> Backend:
    """Find out, in a new namespace, which backend this kernel has, and use only that one from now on.

    Raises:
        KernelFailure: neither works; the message quotes both.
    """
    return await run_inside(None, _detect)


def _detect() -> Backend:
    enter_new()
    load("veth0", 0x1, (4,), flush=False)
    return _backends[0]


def load(link: str, mark: int, versions: tuple[int, ...] = (4,), *, flush: bool) -> None:
    """Load the rules for connections that begin on ``link``.

    ``flush`` empties iptables' mangle table first, for rules of an interrupted attempt. nftables needs no flush: its
    table is complete or absent.

    Raises:
        KernelFailure: neither nftables nor iptables took the rules; says what both answered.
    """
    script = iptables_script(link, mark)
    refusals = []
    for backend in tuple(_backends):
        refusal = _load_nft(nft_script(link, mark)) if backend == "nft" else _load_iptables(script, versions, flush)
        if not refusal:
            _backends[:] = [backend]
            return
        refusals.append(f"{backend}: {refusal}")
    raise KernelFailure(f"mark {mark:#x} on connections from {link} could not be set: {_NEEDED}", "\n".join(refusals))


def loaded() -> tuple[int, ...]:
    """The families whose rules are present.

    Raises:
        KernelFailure: a program failed for another reason than the absence of rules.
    """
    if "nft" in _backends and _nft_table(TABLE):
        return (4, 6)
    return tuple(version for version in IPTABLES if _RESTORED in _mangle_table(version))


def nft_script(link: str, mark: int) -> str:
    """The rules for ``nft -f -``. ``create`` fails if the table exists, so a table is never half loaded."""
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
    value = f"{mark:#x}/0xffffffff"
    return f"""\
*mangle
-A PREROUTING -i {link} -m conntrack --ctstate NEW -j CONNMARK --set-xmark {value}
-A OUTPUT -m connmark --mark {value} -j CONNMARK --restore-mark
COMMIT
"""


def load_nics(nics: Sequence[tuple[str, int]], mask: int, versions: tuple[int, ...]) -> None:
    """Mark connections that begin on a NIC, and a pod's answers to them. ``nics`` holds (link, mark).

    Replaces what was loaded before, in one transaction for each family: a connection that begins meanwhile finds the
    old rules or the new ones.

    Raises:
        KernelFailure: neither nftables nor iptables took the rules; says what both answered.
    """
    refusals = []
    if "nft" in _backends:
        refusal = _load_nft(nft_nic_script(nics, mask))
        if not refusal:
            return
        refusals.append(f"nft: {refusal}")
    failed = [output for output in (_load_nics_by_iptables(nics, mask, version) for version in versions) if output]
    if failed:
        raise KernelFailure(
            "connections could not be marked by NIC", "\n".join([*refusals, *(f"iptables: {one}" for one in failed)])
        )


def _load_nics_by_iptables(nics: Sequence[tuple[str, int]], mask: int, version: int) -> str:
    """Load the rules of one family; returns iptables' error output, empty on success."""
    rules = _mangle_table(version)
    hooks = [hook for hook, chain in NIC_CHAINS.items() if f"-A {hook} -j {chain}" not in rules]
    return _load_iptables(iptables_nic_script(nics, mask, hooks), (version,), flush=False)


def drop_nics() -> None:
    """Remove the rules of `load_nics`; success if there are none. After a failure, still removes the other families'.

    Raises:
        KernelFailure: a program failed for another reason than absence; the message quotes all failures.
    """
    failures: list[KernelFailure] = []
    for drop in (_drop_nft_nics, lambda: _drop_iptables_nics(4), lambda: _drop_iptables_nics(6)):
        try:
            drop()
        except KernelFailure as failure:
            failures.append(failure)
    if failures:
        details = "\n".join(f"{failure.message}: {failure.details}" for failure in failures)
        raise KernelFailure("marks by NIC could not be removed", details) from failures[0]


def _drop_nft_nics() -> None:
    query(["nft", "delete", "table", "inet", NIC_TABLE], NFT_ABSENT)


def _drop_iptables_nics(version: int) -> None:
    if NIC_CHAINS["PREROUTING"] not in _mangle_table(version):
        return
    refusal = _load_iptables(_IPTABLES_WITHOUT_NICS, (version,), flush=False)
    if refusal:
        raise KernelFailure(f"{IPTABLES[version]} has failed", refusal)


_IPTABLES_WITHOUT_NICS = "\n".join(
    [
        "*mangle",
        *(f"-D {hook} -j {chain}" for hook, chain in NIC_CHAINS.items()),
        *(line for chain in NIC_CHAINS.values() for line in (f"-F {chain}", f"-X {chain}")),
        "COMMIT\n",
    ]
)


def nics_loaded() -> tuple[str, ...]:
    """The NICs whose connections are marked. Raises KernelFailure as `loaded`."""
    rules = f"{_nft_table(NIC_TABLE)}\n{_mangle_table(4)}"
    found = re.findall(rf'iifname "(\S+)"|-A {NIC_CHAINS["PREROUTING"]} -i (\S+)', rules)
    return tuple(dict.fromkeys(by_nft or by_iptables for by_nft, by_iptables in found))


def nft_nic_script(nics: Sequence[tuple[str, int]], mask: int) -> str:
    """The rules for ``nft -f -``. Creates the table so that deleting it cannot fail, then creates it anew."""
    rest = f"{~mask & 0xFFFFFFFF:#x}"
    new = "\n".join(
        f'    iifname "{link}" ct state new ct mark set ct mark & {rest} | {mark:#x}' for link, mark in nics
    )
    replies = "\n".join(
        f"    ct direction reply ct mark & {mask:#x} == {mark:#x} meta mark set meta mark & {rest} | {mark:#x}"
        for _, mark in nics
    )
    return f"""\
table inet {NIC_TABLE}
delete table inet {NIC_TABLE}
table inet {NIC_TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority mangle;
{new}
{replies}
  }}
  chain output {{
    type route hook output priority mangle;
{replies}
  }}
}}
"""


def iptables_nic_script(nics: Sequence[tuple[str, int]], mask: int, hooks: Iterable[str] = NIC_CHAINS) -> str:
    """The same rules for iptables-restore and ip6tables-restore, in chains of our own, created or replaced.

    ``hooks`` are those that do not jump to our chains yet.
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
    """Load a script; returns nft's error output, empty on success. A table that exists is complete: success."""
    refused = refusal(["nft", "-f", "-"], script)
    return "" if "File exists" in refused else refused


def _load_iptables(script: str, versions: tuple[int, ...], flush: bool) -> str:
    """Load a script for each family; returns the programs' error output, empty on success."""
    keep = () if flush else ("--noflush",)
    refusals = []
    for version in versions:
        refused = refusal([f"{IPTABLES[version]}-restore", "--wait=5", *keep], script, _ENVIRONMENT)
        refusals += [refused] if refused else []
    return "\n".join(refusals)


def _nft_table(name: str) -> str:
    """The rules of one of our nftables tables; empty if it does not exist."""
    return query(["nft", "list", "table", "inet", name], NFT_ABSENT)


def _mangle_table(version: int) -> str:
    """The rules of iptables' mangle table; empty if the kernel has none."""
    return query([f"{IPTABLES[version]}-save", "-t", "mangle"], IPTABLES_ABSENT, _ENVIRONMENT)

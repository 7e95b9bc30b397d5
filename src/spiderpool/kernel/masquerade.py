"""The node's packet filter rules that give a pod's connections to Services the node's address where answers need it.

kube-proxy translates the destination of what pods send through their node. Where the endpoint is on another node, the
answer would go straight to the pod's own address, past the node that has to translate it back. So a connection that
comes from the host end of a pod, was translated, and leaves by anything but such an end gets the node's address.
Whether kube-proxy does that depends on how it is told which clients are pods.

One rule set in two renderings, as in `hostports`. Everything here acts in the network namespace of the calling thread.
"""

from __future__ import annotations

from collections.abc import Collection

from spiderpool.core.network.plumbing.naming import MASQUERADE_MARK, host_interface
from spiderpool.errors import KernelFailure, SpiderpoolError, raise_all
from spiderpool.kernel.programs import IPTABLES, IPTABLES_ABSENT, query, refusal

TABLE = "spiderpool_masquerade"
"""Our nftables table, in families ip and ip6; the comment of our rules in iptables."""

_NFT_FAMILIES = {4: "ip", 6: "ip6"}
_PODS = host_interface("")  # how the names of pods' host ends begin
_MARK = f"{MASQUERADE_MARK:#x}"
_COMMENT = f"-m comment --comment {TABLE}"
_IPTABLES = {
    "mangle": f"FORWARD -i {_PODS}+ ! -o {_PODS}+ -m conntrack --ctstate DNAT --ctdir ORIGINAL {_COMMENT}"
    f" -j MARK --set-xmark {_MARK}/{_MARK}",
    "nat": f"POSTROUTING -m mark --mark {_MARK}/{_MARK} {_COMMENT} -j MASQUERADE",
}
"""Table of iptables → our rule in it."""


def load() -> None:
    """Load the rules of both families, or what is missing of them; IPv6 only where the kernel has it.

    Raises after both were tried:
        KernelFailure: neither nftables nor iptables took the rules; says what both answered.
    """
    failures: list[SpiderpoolError] = []
    for version in _NFT_FAMILIES:
        try:
            _load_family(version)
        except KernelFailure as error:
            failures.append(error)
    raise_all(failures)


def _load_family(version: int) -> None:
    by_nft = refusal(["nft", "-f", "-"], nft_script(version))
    by_iptables = _load_iptables(version) if by_nft else ""
    if by_iptables and not (version == 6 and any(words in by_iptables for words in IPTABLES_ABSENT)):
        details = f"nft: {by_nft}\niptables: {by_iptables}"
        raise KernelFailure(f"connections of pods to IPv{version} Services could not be masqueraded", details)


def nft_script(version: int) -> str:
    """The rules of one family for ``nft -f -``, in place of those that are there: one transaction."""
    family = _NFT_FAMILIES[version]
    return f"""\
table {family} {TABLE}
delete table {family} {TABLE}
table {family} {TABLE} {{
  chain forward {{
    type filter hook forward priority -150;
    iifname "{_PODS}*" oifname != "{_PODS}*" ct direction original ct status dnat meta mark set meta mark | {_MARK}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    meta mark & {_MARK} == {_MARK} masquerade
  }}
}}
"""


def iptables_script(tables: Collection[str]) -> str:
    """The same rules for iptables-restore without flush, in the tables that lack them; empty if none does."""
    return "".join(f"*{table}\n-A {rule}\nCOMMIT\n" for table, rule in _IPTABLES.items() if table in tables)


def _load_iptables(version: int) -> str:
    """Returns the error output of iptables-restore, empty on success. It waits for kube-proxy, by iptables' lock."""
    program = IPTABLES[version]
    absent = [table for table in _IPTABLES if TABLE not in query([f"{program}-save", "-t", table], IPTABLES_ABSENT)]
    if not absent:
        return ""
    return refusal([f"{program}-restore", "--wait=5", "--noflush"], iptables_script(absent))

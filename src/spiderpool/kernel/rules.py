"""Load a set of packet filter rules that never changes, in one of two renderings: nftables, or iptables (legacy).

Everything here acts in the network namespace of the calling thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from spiderpool.errors import KernelFailure, SpiderpoolError, raise_all
from spiderpool.kernel.programs import (
    IPTABLES,
    IPTABLES_ABSENT,
    MISSING_PROGRAM,
    NFT_ABSENT,
    query,
    refusal,
    run,
)

NFT_FAMILIES = {4: "ip", 6: "ip6"}
"""IP version → nftables' name of it."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of both families, or of those in ``versions``.

    ``name`` is that of our nftables table, and the comment of our rules in iptables. ``chains`` are the chains of the
    table, by IP version; ``iptables`` the rule of ours in each table of iptables. ``failure`` says, after the IP
    version, what does not work without them.
    """

    name: str
    chains: Callable[[int], str]
    iptables: Mapping[str, str]
    failure: str
    versions: tuple[int, ...] = (4, 6)

    def load(self) -> None:
        """Load the rules of both families, or what is missing of them; IPv6 only where the kernel has it.

        Raises after both were tried:
            KernelFailure: neither nftables nor iptables took the rules; says what both answered.
        """
        failures: list[SpiderpoolError] = []
        for version in self.versions:
            try:
                self._load_family(version)
            except KernelFailure as error:
                failures.append(error)
        raise_all(failures)

    def unload(self) -> None:
        """Remove the rules; success if there are none. Raises KernelFailure."""
        for version in self.versions:
            code, output = run(["nft", "delete", "table", NFT_FAMILIES[version], self.name])
            if code not in (0, MISSING_PROGRAM) and not any(words in output for words in NFT_ABSENT):
                raise KernelFailure(f"{self.name} could not be removed", output)
            program = IPTABLES[version]
            for table, rule in self.iptables.items():
                if self.name in query([f"{program}-save", "-t", table], IPTABLES_ABSENT):
                    script = f"*{table}\n-D {rule}\nCOMMIT\n"
                    if refused := refusal([f"{program}-restore", "--wait=5", "--noflush"], script):
                        raise KernelFailure(f"{self.name} could not be removed", refused)

    def nft_script(self, version: int) -> str:
        """The rules of one family for ``nft -f -``, in place of those that are there: one transaction."""
        table = f"table {NFT_FAMILIES[version]} {self.name}"
        return f"{table}\ndelete {table}\n{table} {{\n{self.chains(version)}}}\n"

    def iptables_script(self, tables: Collection[str]) -> str:
        """The rules for iptables-restore without flush, in the tables that lack them; empty if none does."""
        return "".join(f"*{table}\n-A {rule}\nCOMMIT\n" for table, rule in self.iptables.items() if table in tables)

    def _load_family(self, version: int) -> None:
        by_nft = refusal(["nft", "-f", "-"], self.nft_script(version))
        by_iptables = self._load_iptables(version) if by_nft else ""
        if by_iptables and not (version == 6 and any(words in by_iptables for words in IPTABLES_ABSENT)):
            raise KernelFailure(f"IPv{version} {self.failure}", f"nft: {by_nft}\niptables: {by_iptables}")

    def _load_iptables(self, version: int) -> str:
        """Returns iptables-restore's error output, empty on success. It waits for kube-proxy, by iptables' lock."""
        program = IPTABLES[version]
        tables = list(self.iptables)
        absent = [name for name in tables if self.name not in query([f"{program}-save", "-t", name], IPTABLES_ABSENT)]
        if not absent:
            return ""
        return refusal([f"{program}-restore", "--wait=5", "--noflush"], self.iptables_script(absent))

"""Load a set of packet filter rules, in one of two renderings: nftables, or iptables (legacy).

The rules of a set never change, but for those of its own chains of iptables, which each load replaces.

Everything here acts in the network namespace of the calling thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
    version, what does not work without them. Where ``own_chain`` is named, the rules of iptables jump to that chain of
    ours in their table, whose rules are those of ``own_rules``.
    """

    name: str
    chains: Callable[[int], str]
    iptables: Mapping[str, str]
    failure: str
    versions: tuple[int, ...] = (4, 6)
    own_chain: str = ""
    own_rules: Mapping[str, Sequence[str]] = field(default_factory=dict)

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
            script = "".join(map(self._removal_script, self.iptables, self._saved(version)))
            if script and (refused := _restore(version, script)):
                raise KernelFailure(f"{self.name} could not be removed", refused)

    def nft_script(self, version: int) -> str:
        """The rules of one family for ``nft -f -``, in place of those that are there: one transaction."""
        table = f"table {NFT_FAMILIES[version]} {self.name}"
        return f"{table}\ndelete {table}\n{table} {{\n{self.chains(version)}}}\n"

    def iptables_script(self, saved: Sequence[str]) -> str:
        """The rules for iptables-restore without flush, as far as they are absent; empty if none is.

        ``saved`` is what iptables-save prints of each table.
        """
        return "".join(map(self._table_script, self.iptables, saved))

    def _table_script(self, table: str, saved: str) -> str:
        """Also without our rules of an earlier version, which did not jump to our chain."""
        present = self._rules_in(saved)
        current = [rule for rule in present if not self.own_chain or rule.endswith(f" -j {self.own_chain}")]
        lines = [f"-D {rule}" for rule in present if rule not in current]
        if self.own_chain:
            chain = [f"-A {self.own_chain} {rule}" for rule in self.own_rules.get(table, ())]
            lines = [f":{self.own_chain} - [0:0]", *chain, *lines]
        if not current:
            lines.append(f"-A {self.iptables[table]}")
        return _transaction(table, lines)

    def _removal_script(self, table: str, saved: str) -> str:
        lines = [f"-D {rule}" for rule in self._rules_in(saved)]
        if self.own_chain and f":{self.own_chain} " in saved:
            lines = [f":{self.own_chain} - [0:0]", *lines, f"-X {self.own_chain}"]
        return _transaction(table, lines)

    def _rules_in(self, saved: str) -> list[str]:
        """Our rules of the built-in chains, as iptables-save prints them."""
        return [line.removeprefix("-A ") for line in saved.splitlines() if f"--comment {self.name} " in line]

    def _saved(self, version: int) -> list[str]:
        """What iptables-save prints of each table. Raises KernelFailure."""
        return [query([f"{IPTABLES[version]}-save", "-t", table], IPTABLES_ABSENT) for table in self.iptables]

    def _load_family(self, version: int) -> None:
        by_nft = refusal(["nft", "-f", "-"], self.nft_script(version))
        by_iptables = self._load_iptables(version) if by_nft else ""
        if by_iptables and not (version == 6 and any(words in by_iptables for words in IPTABLES_ABSENT)):
            raise KernelFailure(f"IPv{version} {self.failure}", f"nft: {by_nft}\niptables: {by_iptables}")

    def _load_iptables(self, version: int) -> str:
        """Returns iptables-restore's error output, empty on success. It waits for kube-proxy, by iptables' lock."""
        script = self.iptables_script(self._saved(version))
        return _restore(version, script) if script else ""


def _restore(version: int, script: str) -> str:
    return refusal([f"{IPTABLES[version]}-restore", "--wait=5", "--noflush"], script)


def _transaction(table: str, lines: Sequence[str]) -> str:
    """What iptables-restore does in one table; empty for nothing."""
    return "\n".join([f"*{table}", *lines, "COMMIT\n"]) if lines else ""

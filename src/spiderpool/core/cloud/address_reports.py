"""Which addresses several nodes report on ENIs of theirs, and which of these the cloud's answers give to one of them.

An agent can say anything of its node's ENIs. What spiderpool-cloud has registered stands in an annotation of the Node,
which agents cannot write: so that decides. Without it nobody can tell which node is right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

from spiderpool.api.spiderserver import Instance
from spiderpool.core.cloud.eni_pools import Dispute, ENIClaim

Assigned: TypeAlias = Callable[[str], Mapping[str, Collection[str]]]
"""Returns the addresses that spiderpool-cloud has registered for a node, by ENI."""
MOST_NAMED = 5
"""Addresses and nodes that a message names."""


class AddressReports:
    """The ENIs on which nodes report addresses, the nodes' own included."""

    def __init__(self) -> None:
        self._by_address: dict[str, dict[str, str]] = defaultdict(dict)  # address → node → ENI

    def note(self, node: str, before: Instance | None, after: Instance | None) -> None:
        """A node's server was ``before`` and is ``after``."""
        for address, _ in _reports(before):
            reports = self._by_address[address]
            reports.pop(node, None)
            if not reports:
                del self._by_address[address]
        for address, eni in _reports(after):
            self._by_address[address][node] = eni

    def rivals(self, node: str, eni: str, addresses: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """Yields address, node and ENI of each report of an address by another node on another ENI."""
        for address in addresses:
            for other, reported in self._by_address.get(address, {}).items():
                if other != node and reported != eni:
                    yield address, other, reported

    def dispute(self, claim: ENIClaim, assigned: Assigned) -> Dispute:
        """Returns which addresses of an ENI another node reports."""
        eni, own = claim.eni, assigned(claim.node).get(claim.eni.identity, ())
        lost: set[str] = set()
        reported: set[str] = set()
        nodes: set[str] = set()
        for address, node, rival in self.rivals(claim.node, eni.identity, eni.pod_addresses):
            is_theirs = address in assigned(node).get(rival, ())
            if address in own and not is_theirs:
                continue
            nodes.add(node)
            (lost if is_theirs and address not in own else reported).add(address)
        return Dispute(frozenset(lost), frozenset(reported - lost), frozenset(nodes))


def _reports(instance: Instance | None) -> Iterator[tuple[str, str]]:
    for eni in instance.enis if instance else ():
        for address in eni.all_addresses:
            yield address, eni.identity


def dispute_text(claim: ENIClaim) -> str | None:
    """Returns the message about the addresses of an ENI that another node reports, too; None when there are none."""
    dispute = claim.dispute
    if not dispute.nodes:
        return None
    others, addresses = _named(sorted(dispute.nodes)), sorted(dispute.lost | dispute.open)
    return (
        f"{_named(addresses)} of ENI {claim.eni.identity} of node {claim.node} is also reported by {others}, and gets "
        "into no pool anew unless spiderpool-cloud registers it: see which server has it in the cloud, and "
        "check the other node"
    )


def claims_text(eni: str, claims: Iterable[ENIClaim]) -> str:
    """Returns the message about an ENI without a pool that several nodes report."""
    return (
        f"ENI {eni} is reported by several nodes, {_named(sorted(claim.node for claim in claims))}, and gets no pool "
        "until spiderpool-cloud registers an address for one of them, or only one reports it: see which server has it "
        "in the cloud, and check the other node"
    )


def _named(words: list[str]) -> str:
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return ", ".join(words[:MOST_NAMED]) + more

"""The address families of the ENIs of all nodes, which addresses are kept for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

from spiderpool.api.core_v1 import Node
from spiderpool.api.spiderserver import ENI, Instance
from spiderpool.core.cloud.instances import ProviderIDParser
from spiderpool.core.cloud.nodes import mismatch
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.kube.turns import in_turns


@dataclass(frozen=True, slots=True)
class ENIFamily:
    """One address family of one ENI of one node."""

    node: Node
    instance: Instance
    eni: ENI
    version: int

    @property
    def key(self) -> tuple[str, int]:
        """Identifies the family in dicts."""
        return self.eni.identity, self.version


@dataclass(slots=True)
class ENIFamilyState:
    """State of a family of an ENI between two plans. Times are those of the reconciler's clock."""

    idle_since: dict[str, float] = field(default_factory=dict)
    """Address → time from which on no pod has had it."""
    fenced_since: dict[str, float] = field(default_factory=dict)
    """Address → time from which on every pool has excluded it."""
    gone_since: dict[str, float] = field(default_factory=dict)
    """Address → time from which on it is fenced and gone."""
    absent: frozenset[str] = frozenset()
    """Addresses whose removal we requested and that were not on the ENI when we looked last."""
    back_since: dict[str, float] = field(default_factory=dict)
    """Address that was absent → time from which on it is on the ENI again, by its descriptions."""
    requested: dict[str, float] = field(default_factory=dict)
    """Address → time at which we requested its removal last."""
    inherited: frozenset[str] | None = None
    """Addresses that were to be returned when we first looked, and still are; None before that."""
    began: float = 0.0
    """Time of that look."""
    not_before: float = 0.0
    """Time before which no step is tried, after a refusal."""
    unassign_not_before: float = 0.0
    """Time before which it is not asked again whether the node's agent knows what is to be removed."""


async def eni_families(
    nodes: Informer[Node], servers: NodeServers, parse: ProviderIDParser, versions: Collection[int], primary: bool
) -> AsyncIterator[ENIFamily]:
    """Yields the families of the ENIs of all nodes whose kubelet reports and whose server is the Node's.

    Several nodes may report one ENI, after a move or by a lie. The cloud's description says which server has it; so
    only a claim for the same server is left out, where a Node with a provider ID comes before one without.
    """
    listed: set[tuple[str, str]] = set()  # (server, ENI)
    ordered = sorted(nodes.items(), key=lambda each: (not each.spec.providerID, not each.ready, each.name))
    async for node in in_turns(ordered):
        instance = servers.of(node)
        if instance is None or node.ready_status == "Unknown":
            continue
        if mismatch(node, instance, parse):
            continue
        for eni in instance.enis:
            claim = instance.identity, eni.identity
            if claim in listed or (eni.primary and not primary):
                continue
            listed.add(claim)
            for version in sorted(versions):
                if eni.subnet_of(version):
                    yield ENIFamily(node, instance, eni, version)

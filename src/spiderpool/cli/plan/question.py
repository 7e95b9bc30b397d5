"""The question of `plan`: which pods are to come, and by which settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TextIO

import click

from spiderpool.cli.connection import Cluster
from spiderpool.cli.files import text_of
from spiderpool.cli.plan.answer import AddressPlan, address_plan
from spiderpool.cli.plan.case import after_end, planned_groups, read_facts
from spiderpool.cli.plan.growth import with_grown_pools
from spiderpool.cli.plan.pods import SCALABLE, PlannedChange, of_drain, of_manifests, of_scale
from spiderpool.cli.policies import PolicyOptions, read_policies

USAGE = (
    "say what is to come: `plan -f FILE`, `plan deploy NAMESPACE/NAME --replicas N` (or sts, rs), or `plan drain NODE`"
)


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """Manifests, a workload that is scaled, or nodes that are drained."""

    manifests: tuple[str, ...]
    words: tuple[str, ...]
    """``drain`` and nodes, or a kind and ``name`` or ``namespace/name``."""
    replicas: int | None
    namespace: str | None
    policies: PolicyOptions

    @classmethod
    def of(cls, words: Sequence[str], manifests: Sequence[TextIO], **options: Any) -> Self:
        """From the command line. Raises UsageError, and BadConfig for a file that cannot be read."""
        replicas: int | None = options["replicas"]
        match tuple(words):
            case ():
                known = bool(manifests) and replicas is None
            case ("drain", _, *_):
                known = not manifests and replicas is None
            case (kind, _):
                known = kind in SCALABLE and not manifests and replicas is not None
            case _:
                known = False
        if not known:
            raise click.UsageError(USAGE)
        texts = tuple(map(text_of, manifests))
        policies = PolicyOptions(options["spiderpool_namespace"], options["values"], options["default_network"])
        return cls(texts, tuple(words), replicas, options["namespace"], policies)

    async def answer(self, cluster: Cluster) -> AddressPlan:
        """The plan. Raises Refused for what does not exist or may not be read, BadConfig for a wrong manifest."""
        policies = await read_policies(cluster, self.policies)
        change = await self._change(cluster)
        facts = await read_facts(cluster, policies, datetime.now(UTC).timestamp())
        then, growth = with_grown_pools(after_end(facts, change.ended), change)
        groups = await planned_groups(cluster, then, change)
        return address_plan(facts, then, groups, growth, change.notes)

    async def _change(self, cluster: Cluster) -> PlannedChange:
        namespace = self.namespace or cluster.namespace
        match self.words:
            case ():
                return await of_manifests(cluster, self.manifests, namespace)
            case ("drain", *nodes):
                return await of_drain(cluster, nodes)
            case _:
                kind, name = self.words
                key = name if "/" in name else f"{namespace}/{name}"
                return await of_scale(cluster, SCALABLE[kind], key, self.replicas or 0)

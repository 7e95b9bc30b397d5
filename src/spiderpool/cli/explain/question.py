"""The question of `explain`: which pod, on which node, and by which settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TextIO

import click

from spiderpool.api.core_v1 import Pod
from spiderpool.cli.connection import Cluster
from spiderpool.cli.explain.answer import Explanation, explain
from spiderpool.cli.explain.case import find_pod, pod_of_manifest, read_case, with_records
from spiderpool.cli.explain.pod_plan import needed_records
from spiderpool.cli.files import text_of
from spiderpool.cli.policies import PolicyOptions, read_policies


@dataclass(frozen=True, slots=True)
class PodQuestion:
    """A pod of the cluster, or of a manifest."""

    pod: str
    """``name`` or ``namespace/name``; empty for a manifest."""
    manifest: str | None
    node: str | None
    namespace: str | None
    policies: PolicyOptions

    @classmethod
    def of(cls, words: Sequence[str], manifest: TextIO | None, **options: Any) -> Self:
        """From the command line. Raises UsageError, and BadConfig for a file that cannot be read."""
        match words:
            case () if manifest is not None:
                name = ""
            case ("pod" | "pods" | "po", name) if manifest is None:
                pass
            case (word,) if word.startswith("pod/") and manifest is None:
                name = word.removeprefix("pod/")
            case _:
                raise click.UsageError("name one pod: `explain pod NAMESPACE/NAME`, or a manifest: `explain -f FILE`")
        values: Path | None = options["values"]
        policies = PolicyOptions(options["spiderpool_namespace"], values, options["default_network"])
        text = text_of(manifest) if manifest else None
        return cls(name, text, options["node"], options["namespace"], policies)

    async def answer(self, cluster: Cluster) -> Explanation:
        """The explanation. Raises Refused for a pod that does not exist, BadConfig for a wrong manifest."""
        namespace = self.namespace or cluster.namespace
        if self.manifest is None:
            first, slash, rest = self.pod.partition("/")
            pod = await find_pod(cluster, first if slash else namespace, rest if slash else first)
        else:
            pod = pod_of_manifest(self.manifest, namespace)
        return await self.answer_about(cluster, pod)

    async def answer_about(self, cluster: Cluster, pod: Pod) -> Explanation:
        """The explanation of a pod that has been read."""
        policies = await read_policies(cluster, self.policies)
        case = await read_case(cluster, pod, self.node, policies, exists=self.manifest is None)
        case = await with_records(cluster, case, *needed_records(case))
        return explain(case, datetime.now(UTC))

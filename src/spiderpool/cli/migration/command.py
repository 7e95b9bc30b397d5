"""`migrate`: takes a cluster over from Spiderpool's own release, whose programs are in Go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiderpool.cli.connection import Cluster
from spiderpool.cli.migration.back import give_back, preview
from spiderpool.cli.migration.look import Places, read_state
from spiderpool.cli.migration.report import MigrationReport, report_of
from spiderpool.cli.migration.steps import take_over
from spiderpool.cli.migration.values import value_rows
from spiderpool.errors import BadRequest
from spiderpool.kube.client import Client


@dataclass(frozen=True, slots=True)
class Migration:
    """What is wanted, by the options of the command."""

    apply: bool
    undo: bool
    nodes: Sequence[str]
    namespace: str
    former: str
    config: str
    removed: bool
    chart: Path
    patience: float
    file: Path | None
    """The values file of the other release."""
    given: Mapping[str, Any]
    """What is in it."""

    async def answer(self, cluster: Cluster) -> MigrationReport:
        """Do what is wanted, and tell how the cluster is afterwards. Raises SpiderpoolError."""
        rows = value_rows(self.given, self.chart) if self.file else []
        done = await self._do(cluster.client)
        state = await read_state(cluster.client, self._places)
        return report_of(state, values=rows, file=str(self.file) if self.file else None, done=done)

    async def _do(self, client: Client) -> list[str]:
        if self.undo:
            return await give_back(client, self._places) if self.apply else await preview(client, self._places)
        return await take_over(client, self._places, self.nodes, self.patience) if self.apply else []

    @property
    def _places(self) -> Places:
        namespace, _, name = self.former.partition("/")
        if not (namespace and name):
            raise BadRequest(f"--from is {self.former}: write Namespace and name of the DaemonSet, joined by /")
        return Places(self.namespace, (namespace, name), self.config, self.removed)

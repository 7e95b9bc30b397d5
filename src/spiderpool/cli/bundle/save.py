"""Reads the files of a support archive one after the other, and writes each at once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from spiderpool.cli.bundle import redaction
from spiderpool.cli.bundle.archive import ArchiveEntry, written
from spiderpool.cli.bundle.contents import content_of, prepare
from spiderpool.cli.bundle.index import index
from spiderpool.cli.connection import Cluster


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be in the archive, and where it is to be."""

    target: Path
    namespace: str | None
    node: str | None
    now: datetime


async def save(cluster: Cluster, wanted: Wanted) -> list[ArchiveEntry]:
    """Write the archive; its files. Raises ApiUnavailable, OSError."""
    bundle = await prepare(cluster, wanted.namespace, wanted.node, wanted.now)
    with written(wanted.target, wanted.now) as archive:
        with click.progressbar(bundle.parts, label="Reading", file=sys.stderr) as parts:
            for part in parts:
                found = await content_of(part)
                archive.add(part.name, part.description, found.text, found.note)
        left_out = [*bundle.left_out, *(redaction.text(each) for each in sorted(cluster.left_out))]
        archive.add("index.html", "this page", index(archive, bundle.diagnosis, bundle.versions, left_out))
    return archive.entries

"""The command `bundle`: a support archive."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from spiderpool.api.core_v1 import Node
from spiderpool.cli.bundle.save import Wanted, save
from spiderpool.cli.completion import names_of
from spiderpool.cli.connection import Connection, connected, examples
from spiderpool.cli.printing import printable


@click.command(
    "bundle",
    epilog=examples("spiderpoolctl bundle", "spiderpoolctl bundle --node worker-1 /tmp/support.tar.gz"),
)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--node", metavar="NAME", shell_complete=names_of(Node), help="Node whose agent's log is to be among them."
)
@click.option(
    "--namespace", "-n", metavar="NAME", help="Namespace of Spiderpool. Default: where its leader's Lease is."
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@connected
def write_bundle(
    file: Path | None, node: str | None, namespace: str | None, force: bool, connection: Connection
) -> None:
    """Write a support archive to FILE (default: spiderpool-bundle-TIME.tar.gz): objects, Events, logs, doctor's report.

    Secrets are not read, and credentials in settings, annotations, variables and logs are replaced by REDACTED. Look
    through it before you hand it on: index.html in it lists the files. The file is there whole, or not at all.
    """
    now = datetime.now(UTC)
    target = file or Path(f"spiderpool-bundle-{now:%Y%m%d-%H%M%S}.tar.gz")
    if target.exists() and not force:
        raise click.ClickException(f"{target} exists; name another file, or replace it by --force")
    try:
        entries = connection.run(lambda cluster: save(cluster, Wanted(target, namespace, node, now)))
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error}") from error
    size = f"{target.stat().st_size / 1024:.0f} KiB"
    click.echo(printable(f"{target}: {len(entries)} files, {size}; begin with index.html in it"))

"""The command `ui`."""

from __future__ import annotations

import click

from spiderpool.cli.connection import Connection, connected, examples
from spiderpool.cli.ui.serving import serve


@click.command("ui", epilog=examples("spiderpoolctl ui", "spiderpoolctl ui --port 8001 --context production"))
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    metavar="PORT",
    help="Port on 127.0.0.1. Default: one that is free.",
)
@click.option(
    "--namespace", "-n", metavar="NAME", help="Namespace of Spiderpool. Default: where its leader's Lease is."
)
@connected
def show_page(port: int, namespace: str | None, connection: Connection) -> None:
    """Serve a page that shows pools as maps of their addresses, nodes, pods and changes, until Ctrl-C.

    It listens on 127.0.0.1 alone and shows what your kubeconfig may read, as kubectl would; it changes nothing. Open
    the address that it prints: its token is good for one visit.
    """
    connection.run(lambda cluster: serve(cluster, port, namespace))

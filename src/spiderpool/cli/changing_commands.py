"""The commands that change something: addresses, nodes, and whose cluster it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spiderpool.api.core_v1 import Node
from spiderpool.api.ip import SpiderIP
from spiderpool.cli import addresses, nodes
from spiderpool.cli.completion import names_of
from spiderpool.cli.connection import (
    Connection,
    Show,
    connected,
    end,
    examples,
    shown,
)
from spiderpool.cli.files import EXISTING, values_at
from spiderpool.cli.migration.command import Migration
from spiderpool.cli.migration.look import DEFAULT_PLACES
from spiderpool.cli.printing import Done, object_reference
from spiderpool.cli.who import AddressParameter
from spiderpool.core.addresses import object_name


@click.group(epilog=examples("spiderpoolctl ip release 172.31.199.187"))
def ip() -> None:
    """Addresses of pods."""


@ip.command("release", epilog=examples("spiderpoolctl ip release 172.31.199.187"))
@click.argument("address", shell_complete=names_of(SpiderIP))
@shown
@connected
def release_address(address: str, connection: Connection, show: Show) -> None:
    """Release ADDRESS, unless a sandbox has it by the word of its node, which is asked first."""
    said = connection.run(lambda cluster: addresses.release(cluster.client, address))
    name = object_name(AddressParameter().convert(address, None, None))
    show(Done(object_reference(SpiderIP, name), said))


@click.group(epilog=examples("spiderpoolctl node fence worker-1", "spiderpoolctl node unfence worker-1"))
def node() -> None:
    """Nodes that do not answer."""


@node.command("fence", epilog=examples("spiderpoolctl node fence worker-1"))
@click.argument("name", metavar="NODE", shell_complete=names_of(Node))
@shown
@connected
def fence_node(name: str, connection: Connection, show: Show) -> None:
    """State that nothing of the present boot of NODE runs any more, so that its addresses may be given to others.

    Switch the machine off first, or take its NICs off the network: what runs on keeps its addresses.
    """
    said = connection.run(lambda cluster: nodes.fence(cluster.client, name))
    show(Done(object_reference(Node, name), said))


@node.command("unfence", epilog=examples("spiderpoolctl node unfence worker-1"))
@click.argument("name", metavar="NODE", shell_complete=names_of(Node))
@shown
@connected
def unfence_node(name: str, connection: Connection, show: Show) -> None:
    """Take back what `fence` has stated about NODE."""
    said = connection.run(lambda cluster: nodes.unfence(cluster.client, name))
    show(Done(object_reference(Node, name), said))


@click.command(
    "migrate",
    epilog=examples(
        "spiderpoolctl migrate",
        "spiderpoolctl migrate --values spiderpool-values.yaml -o wide",
        "spiderpoolctl migrate --apply --node worker-1",
        "spiderpoolctl migrate --undo --apply",
    ),
)
@click.option("--apply", is_flag=True, help="Do it. Default: print what would be done, and change nothing.")
@click.option("--undo", is_flag=True, help="Give all nodes back to the other release, when our agents are removed.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME",
    shell_complete=names_of(Node),
    help="Node to move, with those of its group. Default: all.",
)
@click.option(
    "--namespace",
    "-n",
    default=DEFAULT_PLACES.namespace,
    show_default=True,
    metavar="NAME",
    help="Namespace of our release.",
)
@click.option(
    "--from",
    "former",
    default="/".join(DEFAULT_PLACES.former),
    show_default=True,
    metavar="NAMESPACE/NAME",
    help="DaemonSet of the other release's agents.",
)
@click.option(
    "--config", default=DEFAULT_PLACES.config, show_default=True, metavar="NAME", help="ConfigMap of the other release."
)
@click.option("--removed", is_flag=True, help="State that the other release is removed, and none of its agents runs.")
@click.option("--values", type=EXISTING, help="Values of the other release's chart, to be looked through.")
@click.option(
    "--chart",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("charts/spiderpool"),
    show_default=True,
    help="Our chart, whose table says which values are served.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=1.0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time until the other release's agents have ended on the nodes of a group.",
)
@shown
@connected
def migrate_cluster(connection: Connection, show: Show, values: Path | None, **options: Any) -> None:
    """Take a cluster over from Spiderpool's own release, whose programs are in Go, so that pods keep their addresses.

    Without --apply: print what is taken over as it is, what is translated, what has no counterpart here, which nodes
    change hands together, and the next command. What stands in the way, or is held back, comes last, each line with a
    "!"; then the exit status is 1.
    """
    migration = Migration(file=values, given=values_at(values) if values else {}, **options)
    answer = connection.run(migration.answer)
    show(answer)
    end(bool(answer.problems))

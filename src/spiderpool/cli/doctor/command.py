"""The command `doctor`: what is wrong, and mending what can be mended without harm."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from spiderpool.api.core_v1 import Node
from spiderpool.cli.completion import names_of
from spiderpool.cli.connection import Connection, Show, connected, end, examples, shown
from spiderpool.cli.doctor.diagnosis import Diagnosis, examine
from spiderpool.cli.doctor.fix import Fixing, FixOutcome, mend
from spiderpool.cli.printing import printable


@click.command(
    "doctor",
    epilog=examples(
        "spiderpoolctl doctor",
        "spiderpoolctl doctor --node worker-1 -o wide",
        "spiderpoolctl doctor --fix --dry-run",
        "spiderpoolctl doctor --fix --yes",
    ),
)
@click.option(
    "--node",
    metavar="NAME",
    shell_complete=names_of(Node),
    help="Look at this node, and at what concerns the whole cluster. Default: all.",
)
@click.option(
    "--namespace", "-n", metavar="NAME", help="Namespace of Spiderpool. Default: where its leader's Lease is."
)
@click.option("--fix", is_flag=True, help="Mend what can be mended without harm, one after the other; asks first.")
@click.option("--yes", "-y", is_flag=True, help="With --fix: do not ask.")
@click.option("--dry-run", is_flag=True, help="With --fix: say what would be done, and change nothing.")
@shown
@connected
def show_diagnosis(node: str | None, namespace: str | None, connection: Connection, show: Show, **options: Any) -> None:
    """Find out what is wrong, and say of each finding: what, evidence, consequence, remedy.

    It holds records against pods, against what the nodes say of their sandboxes and against the ENIs of their servers;
    networks, webhooks, certificates, rights of the daemons and custom resources. Causes come before what follows from
    them. With a finding, or where something could not be read, the exit status is 1.
    """
    how = Fixing(**options)
    answer = connection.run(lambda cluster: examine(cluster, namespace, node, datetime.now(UTC)))
    show(answer)
    outcomes = _mended(connection, answer, how) if how.fix else []
    end(bool(answer.unread) or len(answer.findings) > sum(each.done for each in outcomes))


def _mended(connection: Connection, answer: Diagnosis, how: Fixing) -> list[FixOutcome]:
    """What became of the findings that can be mended, and that the user has agreed to."""
    chosen = [each for each in answer.mendable if how.agrees(each)]
    outcomes = connection.run(lambda cluster: mend(cluster.client, chosen)) if chosen else []
    for each in outcomes:
        click.echo(printable(each.text), err=True)
    if not answer.mendable:
        click.echo("--fix can mend none of it", err=True)
    return outcomes

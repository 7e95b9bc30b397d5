"""Entry point of spiderpoolctl, which is also installed as a plugin of kubectl."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from spiderpool import __version__
from spiderpool.cli import top
from spiderpool.cli.account_commands import cloud
from spiderpool.cli.bundle.command import write_bundle
from spiderpool.cli.changing_commands import ip, migrate_cluster, node
from spiderpool.cli.cloud_commands import policy, service
from spiderpool.cli.completion import SHELLS, VARIABLE, complete_for_kubectl, script
from spiderpool.cli.connection import (
    Connection,
    Interruptible,
    Show,
    connected,
    end,
    examples,
    is_watching,
    shown,
    watched,
)
from spiderpool.cli.connectivity.command import connectivity
from spiderpool.cli.doctor.command import show_diagnosis
from spiderpool.cli.explain.command import explain_pod
from spiderpool.cli.holder_commands import past_holders, show_holder
from spiderpool.cli.plan.command import show_plan
from spiderpool.cli.pool_commands import pool, subnet
from spiderpool.cli.status import read_status
from spiderpool.cli.trace.command import trace
from spiderpool.cli.ui.command import show_page

PLUGIN = "kubectl-"
"""What the name of a program begins with that kubectl finds as its plugin."""
EXIT_STATUS = """\b
Exit status:
  0    it is done, or the answer is above, and nothing in it needs attention
  1    it was refused, there was no answer, or something needs attention
  2    the command line is wrong
  130  it was interrupted"""


FIRST_EXAMPLES = examples(
    "spiderpoolctl status", "spiderpoolctl explain pod default/web-5", "spiderpoolctl who 172.31.199.187"
)


@click.group(
    cls=Interruptible,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{EXIT_STATUS}\n\n{FIRST_EXAMPLES}",
)
@click.version_option(__version__, prog_name="spiderpoolctl")
def cli() -> None:
    """Ask Spiderpool, and state what it cannot know."""


@cli.command("status", epilog=examples("spiderpoolctl status", "spiderpoolctl status -o wide -n spiderpool"))
@click.option(
    "--namespace", "-n", metavar="NAME", help="Namespace of Spiderpool. Default: where its leader's Lease is."
)
@watched
@shown
@connected
def show_status(namespace: str | None, connection: Connection, show: Show) -> None:
    """Show on one screen how Spiderpool is: daemons, agents, webhooks, pools, last warnings.

    What needs attention comes last, each line with a "!"; then the exit status is 1, also where something could not be
    read.
    """
    answer = connection.run(lambda cluster: read_status(cluster, namespace))
    show(answer)
    end(bool(answer.problems or answer.unread))


@cli.group("top", epilog=examples("spiderpoolctl top pools", "spiderpoolctl top nodes --watch"))
def fullness() -> None:
    """How full pools, nodes and subnets are now, the fullest first."""


@fullness.command("pools", epilog=examples("spiderpoolctl top pools", "spiderpoolctl top pools -o wide --no-headers"))
@click.option("--growth/--no-growth", default=None, help="Read the history for it. Default: but with --watch.")
@watched
@shown
@connected
def show_pools(growth: bool | None, connection: Connection, show: Show) -> None:
    """Show the addresses of each pool: used, free, all that pods may get, how it grows, and when it is full.

    What is reserved, or cools down, is not free. Numbers of used addresses are counted by the controller, and some
    seconds old. Growth is that of a day, by the history of up to fourteen days. When a pool is full is a range, with a
    word for how far to trust it: high, medium or low; of less than two days it is always low.
    """
    reads_history = not is_watching() if growth is None else growth
    now = datetime.now(UTC) if reads_history else None
    show(connection.run(lambda cluster: top.top_pools(cluster, now)))


@fullness.command("nodes", epilog=examples("spiderpoolctl top nodes"))
@watched
@shown
@connected
def show_nodes(connection: Connection, show: Show) -> None:
    """Show the addresses of each node: those of pools that it alone may use, and those that it has from shared ones."""
    show(connection.run(top.top_nodes))


@fullness.command("subnets", epilog=examples("spiderpoolctl top subnets -o json"))
@watched
@shown
@connected
def show_subnets(connection: Connection, show: Show) -> None:
    """Show how much of each SpiderSubnet its pools hold."""
    show(connection.run(top.top_subnets))


@cli.command(
    "completion",
    epilog=examples(
        "source <(spiderpoolctl completion bash)",
        "source <(spiderpoolctl completion zsh)",
        "spiderpoolctl completion fish >~/.config/fish/completions/spiderpoolctl.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
def print_completion(shell: str) -> None:
    """Print what SHELL has to read to complete commands, options, and names of the cluster.

    As a plugin, kubectl completes them by its own: the program kubectl_complete-spiderpool has to be in the PATH.
    """
    click.echo(script(cli, shell))


for command in (
    show_diagnosis,
    write_bundle,
    show_holder,
    past_holders,
    explain_pod,
    show_plan,
    trace,
    connectivity,
    policy,
    cloud,
    service,
    ip,
    node,
    pool,
    subnet,
    migrate_cluster,
    show_page,
):
    cli.add_command(command)


def main() -> None:
    """Runs a command. Exits with 1 and a message on invalid input, with 2 on invalid options."""
    program = "kubectl spiderpool" if Path(sys.argv[0]).name.startswith(PLUGIN) else "spiderpoolctl"
    cli(prog_name=program, complete_var=VARIABLE)


def complete() -> None:
    """Tells kubectl (1.26 or later) what may follow `kubectl spiderpool` and the words of the command line."""
    click.echo(str(complete_for_kubectl(cli, sys.argv[1:])))


if __name__ == "__main__":
    main()

"""Entry point of spiderpoolctl, which is also installed as a plugin of kubectl."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click

from spiderpool import __version__
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.cli import top
from spiderpool.cli.agent_options import as_agents_are_set
from spiderpool.cli.bundle.save import Wanted, save
from spiderpool.cli.changing_commands import ip, migrate_cluster, node
from spiderpool.cli.cloud_commands import policy, service
from spiderpool.cli.completion import SHELLS, VARIABLE, complete_for_kubectl, names_of, pod_words, script
from spiderpool.cli.connection import (
    LONG_WATCH_INTERVAL,
    Cluster,
    Connection,
    Interruptible,
    Show,
    connected,
    end,
    examples,
    is_watching,
    shown,
    watched,
    watched_every,
)
from spiderpool.cli.connectivity.command import connectivity
from spiderpool.cli.doctor.diagnosis import Diagnosis, examine
from spiderpool.cli.doctor.fix import Fixing, FixOutcome, mend
from spiderpool.cli.explain.question import PodQuestion
from spiderpool.cli.history import HistorySubject, answer_at, history_table, look_back
from spiderpool.cli.plan.answer import Placement
from spiderpool.cli.plan.question import PlanQuestion
from spiderpool.cli.pool_commands import pool, subnet
from spiderpool.cli.printing import printable
from spiderpool.cli.status import read_status
from spiderpool.cli.times import TIME_HELP, TimeParameter
from spiderpool.cli.trace.command import trace
from spiderpool.cli.who import AddressParameter, answer, look_for

PLUGIN = "kubectl-"
"""What the name of a program begins with that kubectl finds as its plugin."""
SINCE = click.option(
    "--since", type=TimeParameter(), metavar="TIME", help=f"Leave out what was over by then. TIME: {TIME_HELP}."
)
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


@cli.command(
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


@cli.command(
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


@cli.command(
    "who",
    epilog=examples(
        "spiderpoolctl who 172.31.199.187",
        "spiderpoolctl who fd00::7 -o json | jq -r .pod",
        "spiderpoolctl who 172.31.199.187 --at -2h",
        "spiderpoolctl who 172.31.199.187 --at 2026-11-29T11:30:00Z",
    ),
)
@click.argument("address", type=AddressParameter(), shell_complete=names_of(SpiderIP))
@click.option("--at", type=TimeParameter(), metavar="TIME", help=f"Who had it then. TIME: {TIME_HELP}.")
@watched_every(LONG_WATCH_INTERVAL)
@shown
@connected
def show_holder(address: str, at: datetime | None, connection: Connection, show: Show) -> None:
    """Tell who has ADDRESS: pod, node, interface, pool, owner, cooldown; or which pool would give it.

    What contradicts that, such as a second pod with the address, comes last, each line with a "!"; then the exit
    status is 1. With --at: who had it at that time, by the history that the controller writes.
    """
    now = datetime.now(UTC)
    if at is not None:
        subject = HistorySubject.address(address)
        past = answer_at(connection.run(lambda cluster: look_back(cluster, subject, now)), at, now)
        show(past)
        end(bool(past.problems))
    found = answer(connection.run(lambda cluster: look_for(cluster, address)), now)
    show(found)
    end(bool(found.problems))


@cli.group(
    "history",
    epilog=examples("spiderpoolctl history pod shop/web-1", "spiderpoolctl history node worker-1 --since -1d"),
)
def past_holders() -> None:
    """Who held which address, and when; it outlives pods."""


def _show_history(
    connection: Connection, show: Show, subject: Callable[[Cluster], HistorySubject], since: datetime | None
) -> None:
    now = datetime.now(UTC)
    found = history_table(connection.run(lambda cluster: look_back(cluster, subject(cluster), now)), since, now)
    show(found)
    end(bool(found.problems))


@past_holders.command("address", epilog=examples("spiderpoolctl history address 172.31.199.187"))
@click.argument("address", type=AddressParameter(), shell_complete=names_of(SpiderIP))
@SINCE
@shown
@connected
def show_history_of_address(address: str, since: datetime | None, connection: Connection, show: Show) -> None:
    """Show the pods that held ADDRESS, the earliest first."""
    _show_history(connection, show, lambda _: HistorySubject.address(address), since)


@past_holders.command("pod", epilog=examples("spiderpoolctl history pod shop/web-1 --since -7d"))
@click.argument("name", metavar="[NAMESPACE/]NAME", shell_complete=names_of(Pod))
@click.option(
    "--namespace",
    "-n",
    metavar="NAME",
    shell_complete=names_of(Namespace),
    help="Namespace of the pod. Default: that of the context.",
)
@SINCE
@shown
@connected
def show_history_of_pod(
    name: str, namespace: str | None, since: datetime | None, connection: Connection, show: Show
) -> None:
    """Show the addresses that all pods of a name held, the earliest first; the pods may be gone."""
    first, slash, rest = name.partition("/")

    def subject(cluster: Cluster) -> HistorySubject:
        return HistorySubject.pod(first, rest) if slash else HistorySubject.pod(namespace or cluster.namespace, first)

    _show_history(connection, show, subject, since)


@past_holders.command("node", epilog=examples("spiderpoolctl history node worker-1 --since -1d -o json"))
@click.argument("name", metavar="NODE", shell_complete=names_of(Node))
@SINCE
@shown
@connected
def show_history_of_node(name: str, since: datetime | None, connection: Connection, show: Show) -> None:
    """Show the addresses that pods of NODE held, the earliest first; pods and node may be gone."""
    _show_history(connection, show, lambda _: HistorySubject.node(name), since)


@cli.command(
    "explain",
    epilog=examples(
        "spiderpoolctl explain pod default/web-5",
        "spiderpoolctl explain pod web-5 -n default -o wide",
        "spiderpoolctl explain -f deployment.yaml --node worker-1",
    ),
)
@click.argument("words", nargs=-1, metavar="[pod [NAMESPACE/]NAME]", shell_complete=pod_words)
@click.option(
    "--filename", "-f", type=click.File(), help="A manifest instead of a pod of the cluster; -: standard input."
)
@click.option("--node", metavar="NAME", shell_complete=names_of(Node), help="Node, for a pod that is on none yet.")
@click.option(
    "--namespace",
    "-n",
    metavar="NAME",
    shell_complete=names_of(Namespace),
    help="Namespace of the pod. Default: that of the context.",
)
@as_agents_are_set
@shown
@connected
def explain_pod(
    words: Sequence[str], filename: TextIO | None, connection: Connection, show: Show, **options: Any
) -> None:
    """Explain why a pod has its addresses, would get them, or gets none.

    It shows the networks, the pools that are considered, the rule by which each is kept or dropped, what is granted,
    what the last attempts said, and what to change, by the functions that the agents decide with. For a pod without
    an address the exit status is 1.
    """
    question = PodQuestion.of(words, filename, **options)
    answer = connection.run(question.answer)
    show(answer)
    end(answer.refusal is not None)


@cli.command(
    "plan",
    epilog=examples(
        "spiderpoolctl plan -f deployment.yaml",
        "spiderpoolctl plan deploy shop/web --replicas 40",
        "spiderpoolctl plan sts db --replicas 5 -n shop -o wide",
        "spiderpoolctl plan drain worker-1 worker-2",
        "spiderpoolctl plan deploy shop/web --replicas 40 --placement even",
    ),
)
@click.argument("words", nargs=-1, metavar="[deploy|sts|rs [NAMESPACE/]NAME | drain NODE...]")
@click.option(
    "--filename", "-f", "filenames", type=click.File(), multiple=True, help="Manifests; repeatable; -: standard input."
)
@click.option("--replicas", type=click.IntRange(min=0), metavar="N", help="Pods that the workload is to have.")
@click.option(
    "--placement",
    type=click.Choice(list(Placement)),
    default=Placement.WORST,
    show_default=True,
    help="Placement of pods on nodes that decides the exit status.",
)
@click.option("--namespace", "-n", metavar="NAME", help="Namespace of the workload. Default: that of the context.")
@as_agents_are_set
@shown
@connected
def show_plan(connection: Connection, show: Show, placement: str, **options: Any) -> None:
    """Tell whether pods that are to come would get addresses: of manifests, a scaled workload, or drained nodes.

    Pods are looked at in the best, an even and the worst placement on the nodes that may take them, by the functions
    that the agents decide with. Where pods would be refused, no node may take them, or something that has a say could
    not be read, the exit status is 1.
    """
    question = PlanQuestion.of(options.pop("words"), options.pop("filenames"), **options)
    answer = connection.run(question.answer)
    show(answer)
    end(bool(answer.refused(Placement(placement)) or answer.pending or answer.unread))


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


def _mended(connection: Connection, answer: Diagnosis, how: Fixing) -> list[FixOutcome]:
    """What became of the findings that can be mended, and that the user has agreed to."""
    chosen = [each for each in answer.mendable if how.agrees(each)]
    outcomes = connection.run(lambda cluster: mend(cluster.client, chosen)) if chosen else []
    for each in outcomes:
        click.echo(printable(each.text), err=True)
    if not answer.mendable:
        click.echo("--fix can mend none of it", err=True)
    return outcomes


for command in (policy, service, ip, node, pool, subnet, migrate_cluster, trace, connectivity):
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

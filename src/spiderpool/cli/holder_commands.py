"""The commands `who` and `history`: who has an address, and who had it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import click

from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.cli.completion import names_of
from spiderpool.cli.connection import (
    LONG_WATCH_INTERVAL,
    Cluster,
    Connection,
    Show,
    connected,
    end,
    examples,
    shown,
    watched_every,
)
from spiderpool.cli.history import HistorySubject, answer_at, history_table, look_back
from spiderpool.cli.times import TIME_HELP, TimeParameter
from spiderpool.cli.who import AddressParameter, answer, look_for

SINCE = click.option(
    "--since", type=TimeParameter(), metavar="TIME", help=f"Leave out what was over by then. TIME: {TIME_HELP}."
)


@click.command(
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


@click.group(
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

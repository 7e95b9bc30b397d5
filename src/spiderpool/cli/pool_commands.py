"""The commands that move pods to other addresses: of a pool, of a part of one, of a subnet."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import click

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.completion import names_of
from spiderpool.cli.connection import Cluster, Connection, F, Show, connected, end, examples, shown
from spiderpool.cli.installation import DEFAULT_NAMESPACE
from spiderpool.cli.policies import PolicyOptions
from spiderpool.cli.printing import Say, say
from spiderpool.cli.renumbering.drain import PoolDrain
from spiderpool.cli.renumbering.options import MoveOptions
from spiderpool.cli.renumbering.renumber import SubnetRenumbering
from spiderpool.cli.renumbering.report import MovePlan
from spiderpool.cli.renumbering.resize import AddressChange, PoolResize


class Renumbering(Protocol):
    """What these commands have in common."""

    async def plan(self, cluster: Cluster) -> MovePlan:
        """What would be done."""

    async def carry_out(self, cluster: Cluster, say: Say) -> bool:
        """Do it; whether nothing is left to do."""

    async def undo(self, cluster: Cluster, say: Say) -> bool:
        """Take back what can be taken back."""

    @property
    def ways(self) -> str:
        """How to go on after an interruption, and how to go back."""


@dataclass(frozen=True, slots=True)
class Consent:
    """Whether something is changed, and whether the user is asked. Raises UsageError."""

    yes: bool
    dry_run: bool
    undo: bool

    def __post_init__(self) -> None:
        if self.undo and self.dry_run:
            raise click.UsageError("--dry-run prints what would be done, --undo takes it back: give one of them")


def _finite(_: click.Context, __: click.Parameter, seconds: float) -> float:
    if not math.isfinite(seconds):
        raise click.BadParameter(f"{seconds} is no number of seconds")
    return seconds


def moving(command: F) -> F:
    """Give a command the options about moving pods, as ``options`` and ``consent``."""
    given = (
        click.option("--move", is_flag=True, help="Evict the pods that have a controller, one after the other."),
        click.option("--move-unmanaged", is_flag=True, help="Evict pods that nobody makes again, too."),
        click.option("--move-jobs", is_flag=True, help="Evict pods of Jobs, too, which counts as a failure of theirs."),
        click.option("--even-if-full", is_flag=True, help="Begin though not all pods would get other addresses."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=1.0),
            callback=_finite,
            default=300.0,
            show_default=True,
            metavar="SECONDS",
            help="Longest time until a pod may be evicted, and until another serves in its place.",
        ),
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing."),
        click.option("--undo", is_flag=True, help="Take it back; pods that have moved stay where they are."),
        click.option(
            "--spiderpool-namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Where Spiderpool is."
        ),
        click.option("--default-network", metavar="NAME", help="Network of pods that name none."),
    )

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> Any:
        policies = PolicyOptions(options.pop("spiderpool_namespace"), default_network=options.pop("default_network"))
        consent = Consent(**{name: options.pop(name) for name in ("yes", "dry_run", "undo")})
        names = ("move", "move_unmanaged", "move_jobs", "even_if_full", "timeout")
        how = MoveOptions(**{name: options.pop(name) for name in names}, policies=policies)
        return command(*args, options=how, consent=consent, **options)

    found: Any = wrapped
    for option in reversed(given):
        found = option(found)
    return cast("F", found)


def carry_out(work: Renumbering, connection: Connection, show: Show, consent: Consent) -> None:
    """Show the plan, ask, do it; the answer is on standard output, what becomes of it on standard error."""
    if consent.undo:
        end(not _finished(work, connection, work.undo))
    plan = connection.run(work.plan)
    show(plan)
    sys.stdout.flush()
    if plan.refusals or consent.dry_run:
        end(bool(plan.refusals or plan.holders))
    if not (consent.yes or click.confirm("Do it?", err=True)):
        end(True)
    end(not _finished(work, connection, work.carry_out))


def _finished(work: Renumbering, connection: Connection, step: Callable[..., Any]) -> bool:
    try:
        is_done: bool = connection.run(lambda cluster: step(cluster, say))
    except (KeyboardInterrupt, click.ClickException):
        say(work.ways)
        raise
    if not is_done:
        say(work.ways)
    return is_done


@click.group(epilog=examples("spiderpoolctl pool drain blue --dry-run"))
def pool() -> None:
    """Pools that are emptied or change their size."""


@pool.command(
    "drain",
    epilog=examples(
        "spiderpoolctl pool drain blue --dry-run",
        "spiderpoolctl pool drain blue --move",
        "spiderpoolctl pool drain blue --undo",
    ),
)
@click.argument("name", metavar="POOL", shell_complete=names_of(SpiderIPPool))
@moving
@shown
@connected
def drain_pool(name: str, options: MoveOptions, consent: Consent, connection: Connection, show: Show) -> None:
    """Have POOL give no new address, and with --move its pods get others, until it is empty.

    Pods are evicted one after the other, as PodDisruptionBudgets allow, and the next one when another serves in the
    place of the last. What cannot be moved so is told, and the exit status is 1 until the pool is empty.
    """
    carry_out(PoolDrain(name, options), connection, show, consent)


@pool.command(
    "resize",
    epilog=examples(
        "spiderpoolctl pool resize blue --add 10.6.0.40-10.6.0.60",
        "spiderpoolctl pool resize blue --remove 10.6.0.10-10.6.0.20 --move",
        "spiderpoolctl pool resize blue --undo",
    ),
)
@click.argument("name", metavar="POOL", shell_complete=names_of(SpiderIPPool))
@click.option("--add", "added", multiple=True, metavar="RANGE", help="Address or range that is added; repeatable.")
@click.option("--remove", "removed", multiple=True, metavar="RANGE", help="The same of what is removed.")
@click.option("--ips", multiple=True, metavar="RANGE", help="All that there are to be, instead; repeatable.")
@moving
@shown
@connected
def resize_pool(
    name: str,
    options: MoveOptions,
    consent: Consent,
    connection: Connection,
    show: Show,
    **ranges: tuple[str, ...],
) -> None:
    """Give POOL more addresses, or take some away that nobody holds.

    What the webhook would refuse is told before anything changes. With --move those that hold what goes get other
    addresses, as by `pool drain`.
    """
    change = AddressChange(**ranges)
    if not consent.undo and bool(change.ips) is bool(change.added or change.removed):
        raise click.UsageError("say what changes: --add and --remove, or --ips for all addresses")
    carry_out(PoolResize(name, change, options), connection, show, consent)


@click.group(epilog=examples("spiderpoolctl subnet renumber old new --dry-run"))
def subnet() -> None:
    """Subnets whose pods move to another one."""


@subnet.command(
    "renumber",
    epilog=examples(
        "spiderpoolctl subnet renumber old new --dry-run",
        "spiderpoolctl subnet renumber old new --move",
        "spiderpoolctl subnet renumber old new --move --delete-old",
        "spiderpoolctl subnet renumber old new --ips 10.7.0.10-10.7.0.99",
    ),
)
@click.argument("old", shell_complete=names_of(SpiderSubnet))
@click.argument("new", shell_complete=names_of(SpiderSubnet))
@click.option("--ips", multiple=True, metavar="RANGE", help="Addresses of NEW that pools may have; repeatable.")
@click.option("--gateway", metavar="IP", help="Gateway of the new pools. Default: that of the SpiderSubnet.")
@click.option("--delete-old", is_flag=True, help="Delete each old pool once nobody holds an address of it.")
@moving
@shown
@connected
def renumber_subnet(options: MoveOptions, consent: Consent, connection: Connection, show: Show, **subnets: Any) -> None:
    """Move the pods of OLD's pools to NEW: both are names of SpiderSubnets, or CIDRs.

    Pools of NEW are made for the same pods, those of OLD give no new address, and with --move they are emptied one by
    one, as by `pool drain`. What names OLD or its pools is listed with the place where to change it.
    """
    carry_out(SubnetRenumbering(options=options, **subnets), connection, show, consent)

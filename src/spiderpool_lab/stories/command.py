"""``spiderpool-lab stories``: plays stories on a lab of their own."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import TypedDict, Unpack

import click
from rich.console import Console

from spiderpool.cli.connection import examples
from spiderpool.errors import BadConfig
from spiderpool_lab import images
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.cluster import LabCluster, LabOptions, temporary
from spiderpool_lab.running import need_root
from spiderpool_lab.signals import exit_on_signals
from spiderpool_lab.stand_in import StandIn
from spiderpool_lab.stories import daemon_lives, networks, node_lives, packet_sizes, pod_lives, report
from spiderpool_lab.stories.report import Report
from spiderpool_lab.stories.runner import Runner
from spiderpool_lab.stories.stage import LONG, Scale
from spiderpool_lab.stories.story import STORIES, Story
from spiderpool_lab.topology import NodeKind, enlarged, with_large_mtus

SUBJECTS = (daemon_lives, networks, node_lives, packet_sizes, pod_lives)
"""The modules with the stories, in alphabetical order of their import."""
KINDS = [kind.value for kind in NodeKind]
SECONDARIES = 130
"""Secondary addresses of each ENI, for up to 110 pods."""
SEED = 11


class RunOptions(TypedDict):
    """Options of a run; ``seconds`` after which no further story is begun, 0 for no limit."""

    long: bool
    seconds: int
    write: bool


@click.command(epilog=examples("spiderpool-lab stories jobs families", "spiderpool-lab stories --nodes real --write"))
@click.argument("names", nargs=-1)
@click.option("--name", default="stories", show_default=True, help="Name of the lab.")
@click.option("--nodes", type=click.Choice(KINDS), default="fast", show_default=True, help="Kind of nodes.")
@click.option(
    "--long", is_flag=True, help="Hours instead of minutes: a full node, an end of 600 s, two hours without API."
)
@click.option("--seconds", default=0, help="Begin no story after that time.")
@click.option("--write", is_flag=True, help="Write what was seen, and the page of the documentation.")
def stories(names: tuple[str, ...], name: str, nodes: str, **run: Unpack[RunOptions]) -> None:
    """Play stories (all, or those named) and check the addresses after each."""
    need_root()
    check_names(names)
    exit_on_signals()
    console = Console(width=None if sys.stdout.isatty() else 160, emoji=False)
    end = time.monotonic() + (run["seconds"] or float("inf"))
    with temporary(name, options(NodeKind(nodes))) as cluster:
        wait_for_pools(cluster)
        progress = partial(console.print, markup=False)
        runner = Runner(cluster, LONG if run["long"] else Scale(), progress=progress)
        for story in select(names, cluster):
            if time.monotonic() < end:
                runner.play(story)
                _store(runner, run["write"])
        runner.wait_for_removals()
        _store(runner, run["write"])
        seen = runner.report()  # while there is a lab
        if not all(outcome.passed for outcome in seen.outcomes.values()):
            cluster.progress = progress
            cluster.keep_logs()
    console.print(report.table(seen.outcomes.values(), nodes))
    sys.exit(0 if _verdict(seen, NodeKind(nodes), console) else 1)


def _store(runner: Runner, write: bool) -> None:
    """Write what was seen so far: a run that is cut off leaves the stories that it has played."""
    if write:
        report.store(runner.cluster.nodes.value, runner.report())
        report.PAGE.write_text(report.page(STORIES, {kind: report.load(kind) for kind in KINDS}))


def _verdict(seen: Report, nodes: NodeKind, console: Console) -> bool:
    """Whether all stories passed, and fast nodes did what real ones were seen to do."""
    unlike = report.unlike(report.load("real"), seen, STORIES.values()) if nodes is NodeKind.FAST else {}
    for name, faults in unlike.items():
        console.print(f"{name}: fast nodes differ from real ones: {'; '.join(faults)}", style="red", markup=False)
    return not unlike and all(outcome.passed for outcome in seen.outcomes.values())


def options(nodes: NodeKind) -> LabOptions:
    """A lab that records CNI calls, with many addresses, and ENIs of several MTUs."""
    return LabOptions(
        topology=with_large_mtus(enlarged(SECONDARIES)),
        discovery=True,
        recorded=True,
        stand_in=StandIn(seed=SEED),
        nodes=nodes,
        images=(*images.DEMO, images.AGNHOST),
    )


def check_names(names: Iterable[str]) -> None:
    """Raise BadConfig for a name that is no story's."""
    if unknown := set(names) - STORIES.keys():
        raise BadConfig(f"there is no story {', '.join(sorted(unknown))}; there are {', '.join(STORIES)}")


def select(names: tuple[str, ...], cluster: LabCluster) -> list[Story]:
    """The stories of these names in that order, or all, without those that the lab's nodes cannot play."""
    real = cluster.nodes is NodeKind.REAL
    shared = cluster.fabric.backend is NodeBackend.NATIVE
    chosen = [STORIES[name] for name in names or STORIES]
    return [one for one in chosen if (real or not one.real_only) and not (shared and one.own_kernel)]


def wait_for_pools(cluster: LabCluster) -> None:
    """Wait until every ENI has its pools."""
    expected = sum(len(eni.address_configs) for node in cluster.fabric.topology.nodes for eni in node.enis)
    cluster.wait_for("every ENI has its pools", lambda: len(cluster.objects("spiderippools")) == expected, 60)

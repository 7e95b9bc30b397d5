"""The command `plan`: whether pods that are to come would get addresses."""

from __future__ import annotations

from typing import Any

import click

from spiderpool.cli.agent_options import as_agents_are_set
from spiderpool.cli.connection import Connection, Show, connected, end, examples, shown
from spiderpool.cli.plan.answer import Placement
from spiderpool.cli.plan.question import PlanQuestion


@click.command(
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

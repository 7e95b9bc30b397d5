"""The command `explain`: why a pod has its addresses, or gets none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

import click

from spiderpool.api.core_v1 import Namespace, Node
from spiderpool.cli.agent_options import as_agents_are_set
from spiderpool.cli.completion import names_of, pod_words
from spiderpool.cli.connection import Connection, Show, connected, end, examples, shown
from spiderpool.cli.explain.question import PodQuestion


@click.command(
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

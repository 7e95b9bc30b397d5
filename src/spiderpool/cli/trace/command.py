"""The command `trace`, and how its words are completed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from spiderpool.api.core_v1 import Namespace, Node, Pod, Service
from spiderpool.cli.agent_options import as_agents_are_set
from spiderpool.cli.completion import names_of
from spiderpool.cli.connection import Connection, Show, connected, end, examples, shown
from spiderpool.cli.policies import PolicyOptions
from spiderpool.cli.trace.question import TraceOptions, TraceQuestion

PROTOCOLS = ("tcp", "udp")


def trace_words(context: click.Context, parameter: click.Parameter, written: str) -> list[str]:
    """Completes the pod, and after it Services as ``svc/NAMESPACE/NAME``; with the options for other clients these."""
    before: Sequence[str] = context.params.get("words") or ()
    if context.params.get("from_outside"):
        if not before:
            return ["svc"] if "svc".startswith(written) else []
        return names_of(Service)(context, parameter, written)
    if not before and not context.params.get("from_node"):
        return names_of(Pod)(context, parameter, written)
    if not written.startswith("svc/"):
        return ["svc/"] if "svc/".startswith(written) else []
    found = names_of(Service)(context, parameter, written.removeprefix("svc/"))
    return [f"svc/{name}" for name in found]


@click.command(
    epilog=examples(
        "spiderpoolctl trace shop/web-1 172.31.199.190:8080",
        "spiderpoolctl trace shop/web-1 '[fd00::7]:53' --protocol udp",
        "spiderpoolctl trace shop/web-1 api.shop:80 -o wide",
        "spiderpoolctl trace shop/web-1 svc/api:80",
        "spiderpoolctl trace --from-node worker-1 172.31.199.190:8080",
        "spiderpoolctl trace --from-outside svc shop/api:80",
    ),
)
@click.argument("words", nargs=-1, metavar="[[NAMESPACE/]POD] TARGET", shell_complete=trace_words)
@click.option("--from-node", metavar="NODE", default="", shell_complete=names_of(Node), help="A node is the client.")
@click.option("--from-outside", is_flag=True, help="A client outside of the cluster; TARGET is svc NAMESPACE/NAME.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="tcp", show_default=True, help="Of the connection.")
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
def trace(words: Sequence[str], connection: Connection, show: Show, **options: Any) -> None:
    """Tell how a connection goes from a pod to an address and port, hop by hop, and what drops it first.

    TARGET is ADDRESS:PORT, [ADDRESS]:PORT, SERVICE.NAMESPACE:PORT or svc/NAME:PORT. No packet is sent: interfaces,
    rules and routes are those that the agents make by the cluster's objects. Where it is dropped, or something that
    decides cannot be read, the exit status is 1.
    """
    policies = PolicyOptions(options["spiderpool_namespace"], options["values"], options["default_network"])
    protocol: str = options["protocol"].upper()
    chosen = TraceOptions(options["from_node"], options["from_outside"], protocol, options["namespace"], policies)
    question = TraceQuestion.of(words, chosen)
    answer = connection.run(question.answer)
    show(answer)
    end(not answer.goes_through)

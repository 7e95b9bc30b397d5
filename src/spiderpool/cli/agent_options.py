"""Options of commands that decide as the agents do."""

from __future__ import annotations

import click

from spiderpool.cli.connection import F
from spiderpool.cli.files import EXISTING
from spiderpool.cli.installation import DEFAULT_NAMESPACE


def as_agents_are_set(command: F) -> F:
    """Give a command the options for what the agents are set to, by which they decide about addresses."""
    values = click.option(
        "--values", type=EXISTING, help="conf.yml of the agents, no values of Helm. Default: that of the cluster."
    )
    network = click.option(
        "--default-network", metavar="NAME", help="Network of pods that name none. Default: that of the agents."
    )
    namespace = click.option(
        "--spiderpool-namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Where Spiderpool is."
    )
    return values(network(namespace(command)))

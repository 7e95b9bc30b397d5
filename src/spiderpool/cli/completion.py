"""Completion in shells: the scripts for them, and the names that the cluster has.

A cluster that does not answer at once completes nothing, and nothing is said of that: the user is typing.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import Object, Scope
from spiderpool.cli.connection import Connection
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool.telemetry import configure_command

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "spiderpoolctl"
VARIABLE = "_SPIDERPOOLCTL_COMPLETE"
"""By this variable the shells' scripts ask `spiderpoolctl` for what may follow."""
SECONDS = 2.0
"""Until a cluster that has not answered completes nothing. It is asked for one page of a list."""
NO_FILES, FILES = 4, 0
"""Cobra's directives that kubectl passes on to the shell: complete no names of files where nothing else fits, or do."""

Complete = Callable[[click.Context, click.Parameter, str], list[str]]
"""What may stand for a parameter, as click asks for it: its third argument is what the user has written so far."""


def script(program: click.Command, shell: str) -> str:
    """What one of SHELLS has to read to complete the words of ``spiderpoolctl``."""
    kind = get_completion_class(shell)
    assert kind is not None, "SHELLS are those of click"
    return ShellComplete.source(kind(program, {}, PROGRAM, VARIABLE))  # click's own looks for bash on this machine


def names_of(kind: type[Object]) -> Complete:
    """Completes the name of an object; of a kind that has Namespaces as namespace/name, or as -n says without it."""

    def complete(context: click.Context, _: click.Parameter, written: str) -> list[str]:
        namespace = context.params.get("namespace")
        before, slash, _name = written.partition("/")
        if kind.KIND.scope is Scope.NAMESPACED and slash:
            namespace = before
        found = _first_page(context, kind, namespace)
        with_namespace = kind.KIND.scope is Scope.NAMESPACED and (slash or namespace is None)
        names = (each.key if with_namespace else each.name for each in found)
        return sorted(name for name in names if name.startswith(written))

    return complete


def pod_words(context: click.Context, parameter: click.Parameter, written: str) -> list[str]:
    """Completes ``pod`` and, after it, the name of a pod."""
    before: Sequence[str] = context.params.get("words") or ()
    if not before:
        return ["pod"] if "pod".startswith(written) else []
    return names_of(Pod)(context, parameter, written) if len(before) == 1 else []


def _connection(context: click.Context) -> Connection:
    return Connection(context.params.get("kubeconfig"), context.params.get("context"), SECONDS)


def _first_page(context: click.Context, kind: type[Object], namespace: str | None) -> Sequence[Object]:
    connection = _connection(context)

    async def read() -> Sequence[Object]:
        async with asyncio.timeout(SECONDS), Client(connection.access()) as client:
            return (await client.page(kind, namespace, timeout=SECONDS)).items

    with redirect_stderr(io.StringIO()):  # the shell would print it into the line that is being written
        configure_command()
        try:
            return asyncio.run(read())
        except (SpiderpoolError, TimeoutError, OSError):
            return ()


# --- as a plugin of kubectl


@dataclass(frozen=True, slots=True)
class KubectlCompletion:
    """What kubectl is told that may follow: the lines, then Cobra's directive."""

    items: Sequence[CompletionItem[str]]

    def __str__(self) -> str:
        """One line for each word, with what it means behind a tab."""
        words = [each for each in self.items if each.type == "plain"]
        lines = [f"{each.value}\t{each.help}" if each.help else str(each.value) for each in words]
        return "\n".join([*lines, f":{NO_FILES if len(words) == len(self.items) else FILES}"])


def complete_for_kubectl(program: click.Command, words: Sequence[str]) -> KubectlCompletion:
    """What may follow ``kubectl spiderpool``, by the words after that; the last one is being written."""
    *before, written = words or [""]
    complete = ShellComplete(program, {}, "kubectl spiderpool", VARIABLE)
    return KubectlCompletion(complete.get_completions(before, written))

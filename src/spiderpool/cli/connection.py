"""The options of commands that look at a cluster, and their reads, which leave out what may not be seen."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Unpack, cast

import click
import yaml

from spiderpool.api.meta import Object
from spiderpool.cli.printing import FORMATS, Report, View, printable, printed
from spiderpool.errors import ApiUnavailable, Refused, SpiderpoolError
from spiderpool.kube.client import ApiRefusal, Client, Expired, Forbidden, ListOptions, NotFound, Unauthorized
from spiderpool.kube.config import ClusterAccess, load_access
from spiderpool.telemetry import configure_command

HOME_CONFIG = Path("~/.kube/config")
"""The kubeconfig that kubectl uses by default."""
REQUEST_TIMEOUT = 10.0
"""Seconds for each request by default."""

WATCH_INTERVAL = 2.0
"""Seconds between two answers by default."""
LONG_WATCH_INTERVAL = 10.0
"""The same for commands that read what all nodes say each time."""
WATCHING = f"{__name__}.watching"
"""Key of a command's context that says that its answer is one of several."""
INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the number of SIGINT."""

T = TypeVar("T", bound=Object)
Objects = list[T]
"""Stands for ``list[T]`` inside :class:`Cluster`, whose method ``list`` hides the built-in."""
A = TypeVar("A")
Show = Callable[[Report], None]
"""Prints an answer as the options of a command say."""
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Connection:
    """Which cluster is meant, and how long each request may take."""

    kubeconfig: Path | None
    context: str | None
    timeout: float

    @property
    def file(self) -> Path | None:
        """The kubeconfig; None for the service account of our pod."""
        home = HOME_CONFIG.expanduser()
        return self.kubeconfig or (home if home.is_file() else None)

    def access(self) -> ClusterAccess:
        """The API server, and our credentials. Raises BadConfig."""
        return load_access(self.file, context=self.context)

    def run(self, work: Callable[[Cluster], Awaitable[A]]) -> A:
        """What ``work`` returns. Raises ClickException, with the remedy, where the cluster gives no answer."""
        configure_command()

        async def connected() -> A:
            access = self.access()
            async with Client(access) as client:
                cluster = Cluster(client, self.timeout, access.namespace)
                answer = await work(cluster)
                for text in sorted(cluster.left_out):
                    click.echo(printable(text), err=True)
                return answer

        try:
            return asyncio.run(connected())
        except SpiderpoolError as error:
            raise click.ClickException(printable(_with_remedy(error))) from error


class Cluster:
    """Reads objects of a cluster. What may not be listed, or does not exist there, is None, and leaves a sentence."""

    def __init__(self, client: Client, timeout: float, namespace: str = "default") -> None:
        self.client = client
        self.timeout = timeout
        self.namespace = namespace
        """That of the kubeconfig's context."""
        self.left_out: list[str] = []
        self.unseen: set[type[Object]] = set()
        """Kinds of which something may not be read, or that do not exist there."""
        self.unread: set[str] = set()
        """Names of those of them that do exist there: nobody knows what is wrong with these."""
        self._goes_on = False

    async def go_on(self) -> None:
        """From now on leave out what cannot be read, be it for lack of an answer; for commands that read many kinds.

        Raises ApiUnavailable where nothing answers at all, Unauthorized where nobody knows us.
        """
        await self.ping()
        self._goes_on = True

    async def ping(self) -> None:
        """Ask whether the API server answers us. Raises ApiUnavailable where it does not, Unauthorized."""
        try:
            await self.client.get_raw("version", timeout=self.timeout)
        except Unauthorized:
            raise
        except ApiRefusal:  # an answer all the same
            pass

    async def list(
        self, kind: type[T], namespace: str | None = None, **selectors: Unpack[ListOptions]
    ) -> list[T] | None:
        """All objects of a kind that match the selectors. Raises ApiUnavailable, Unauthorized."""
        found = self.client.list(kind, namespace, timeout=self.timeout, **selectors)
        return await self.seen(found, kind, f"{kind.KIND.name} objects")

    async def needed(self, kind: type[T], namespace: str | None = None, **selectors: Unpack[ListOptions]) -> Objects[T]:
        """As `list`, for an answer that is wrong without these objects. Raises Refused where they may not be read."""
        found = await self.list(kind, namespace, **selectors)
        if found is None:
            raise Refused(f"{kind.KIND.name} objects may not be read, or are unknown to this cluster")
        return found

    async def find(self, kind: type[T], name: str, namespace: str | None = None) -> T | None:
        """One object; None also where there is none. Raises ApiUnavailable, Unauthorized."""
        found = self.client.find(kind, name, namespace, timeout=self.timeout)
        return await self.seen(found, kind, f"{kind.KIND.name} {namespace + '/' if namespace else ''}{name}")

    async def seen(self, reading: Awaitable[A], kind: type[Object], what: str) -> A | None:
        """What a read of a kind gives; None where it may not be read, or is unknown there.

        Raises Unauthorized, and ApiUnavailable and Expired, unless this goes on without what fails.
        """
        try:
            return await reading
        except Unauthorized:  # else all would look well to who may see nothing
            raise
        except Forbidden as error:
            self._leave_out(kind, f"{what} may not be read: {error.message}")
        except NotFound:
            self.unseen.add(kind)
            self._say(f"{what} are unknown to this cluster: Spiderpool's CRDs are not installed")
        except (ApiUnavailable, Expired) as error:
            if not self._goes_on:
                raise
            self._leave_out(kind, f"{what} were not read: {error.message}")
        return None

    def _leave_out(self, kind: type[Object], text: str) -> None:
        self.unseen.add(kind)
        self.leave_out(kind.KIND.name, text)

    def leave_out(self, what: str, text: str) -> None:
        """Say why something that does exist could not be read."""
        self.unread.add(what)
        self._say(text)

    def _say(self, text: str) -> None:
        if text not in self.left_out:
            self.left_out.append(text)


def _with_remedy(error: SpiderpoolError) -> str:
    match error:
        case ApiUnavailable():
            return f"{error.message}; check the server of your kubeconfig, or name another by --kubeconfig or --context"
        case Unauthorized():
            return (
                f"{error.message}: the API server does not accept your credentials, as after a token has expired; log "
                "in again, or name another --context"
            )
        case Forbidden():
            return f"{error.message}; use a --context with that right, or let an administrator grant it"
        case _:
            return error.message


def context_names(context: click.Context, _: click.Parameter, written: str) -> list[str]:
    """Completes the name of a context of the kubeconfig."""
    try:
        file = Connection(context.params.get("kubeconfig"), None, REQUEST_TIMEOUT).file
        found = yaml.safe_load(file.read_text()) if file else None
        names = [each["name"] for each in found["contexts"]] if found else []
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and name.startswith(written)]


def connected(command: F) -> F:
    """Give a command the options of a connection, and pass it as ``connection``."""

    @click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="KUBECONFIG",
        help="Your kubeconfig. Default: ~/.kube/config if it exists, else the service account of the pod.",
    )
    @click.option(
        "--context",
        metavar="NAME",
        shell_complete=context_names,
        help="Context of the kubeconfig. Default: its current one.",
    )
    @click.option(
        "--request-timeout",
        type=click.FloatRange(min=0.1),
        default=REQUEST_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="Longest time for one request.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any, kubeconfig: Path | None, context: str | None, request_timeout: float, **options: Any
    ) -> Any:
        return command(*args, connection=Connection(kubeconfig, context, request_timeout), **options)

    return cast("F", wrapped)


def shown(command: F) -> F:
    """Give a command the options of its output, and pass them as ``show``, which prints a report."""

    @click.option(
        "--output", "-o", type=click.Choice(FORMATS), default="table", show_default=True, help="Format of the answer."
    )
    @click.option("--no-headers", is_flag=True, help="Tables without their headers.")
    @functools.wraps(command)
    def wrapped(*args: Any, output: str, no_headers: bool, **options: Any) -> Any:
        def show(report: Report) -> None:
            view = View.of_output(wide=output == "wide", headers=not no_headers)
            _begin_again(output)
            if text := printed(report, output, view):
                click.echo(text)

        return command(*args, show=show, **options)

    return cast("F", wrapped)


def watched_every(seconds: float) -> Callable[[F], F]:
    """Give a command ``--watch``, with which it asks and prints again and again. It stands above `shown`."""
    return functools.partial(_watched, seconds=seconds)


def watched(command: F) -> F:
    """As `watched_every`, for commands that read little."""
    return _watched(command, seconds=WATCH_INTERVAL)


def _watched(command: F, *, seconds: float) -> F:
    @click.option("--watch", "-w", is_flag=True, help="Ask again and again, until Ctrl-C.")
    @click.option(
        "--interval",
        type=click.FloatRange(min=0.2),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help="Time between two answers of --watch.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, watch: bool, interval: float, **options: Any) -> Any:
        if not watch:
            return command(*args, **options)
        while True:
            click.get_current_context().meta[WATCHING] = True
            try:
                command(*args, **options)
            except click.ClickException as error:  # the cluster may answer again
                error.show()
            except SystemExit:  # it would have ended with a status that says that something needs attention
                pass
            sys.stdout.flush()
            time.sleep(interval)

    return cast("F", wrapped)


def is_watching() -> bool:
    """Whether the command that runs is one answer of several."""
    return bool(click.get_current_context().meta.get(WATCHING))


def _begin_again(output: str) -> None:
    """Before one answer of several: an empty screen on a terminal, and what stands between two documents of YAML."""
    if not is_watching():
        return
    if sys.stdout.isatty():
        click.echo("\x1b[H\x1b[2J", nl=False)
    elif output == "yaml":
        click.echo("---")


class Interruptible(click.Group):
    """Ends by errors with their sentence, and by Ctrl-C as shells expect it, without a word; never by a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Carry a command out."""
        try:
            return super().invoke(ctx)
        except SpiderpoolError as error:
            raise click.ClickException(printable(error.message)) from error
        except KeyboardInterrupt:
            click.echo(err=True)  # the terminal has written ^C
            raise SystemExit(INTERRUPTED) from None


def end(needs_attention: bool) -> None:
    """End the command with the status that says so."""
    sys.exit(1 if needs_attention else 0)


def examples(*lines: str) -> str:
    """The epilog of a command: its examples, one on each line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)

"""How answers are printed: as tables for people, as JSON and YAML for programs, as names for other commands.

Texts of the cluster may hold anything, control characters of a terminal as well: `printed` passes none of these on.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

import click
import msgspec
import yaml
from rich.cells import cell_len

from spiderpool.api.meta import Object

FORMATS = ("table", "wide", "json", "yaml", "name")
NARROW = 80
"""Columns to which sentences are wrapped where nobody tells how many there are."""
LEAST = 24
"""Columns that the last column of a table gets at least."""
GAP = "  "
UNKNOWN = "-"

Cell: TypeAlias = str | int | None
"""Numbers are aligned to the right; None stands for what is not known."""
Say: TypeAlias = Callable[[str], None]
"""Tells whoever runs a command what it does meanwhile."""


@dataclass(frozen=True, slots=True)
class View:
    """How people see an answer."""

    wide: bool = False
    headers: bool = True
    width: int | None = None
    """Columns of the terminal; None: there is none, and each row of a table stays one line."""
    colour: bool = False

    @classmethod
    def of_output(cls, *, wide: bool = False, headers: bool = True) -> View:
        """What standard output is now: a terminal or not, with colours or not (https://no-color.org)."""
        terminal = sys.stdout.isatty()
        known = terminal or os.environ.get("COLUMNS", "").isdigit()
        width = shutil.get_terminal_size((NARROW, 24)).columns if known else None
        return cls(wide, headers, width, terminal and not os.environ.get("NO_COLOR"))


class Alert(str):
    """A line that is to be noticed: `printed` shows it in red where there are colours."""

    __slots__ = ()


class Report(Protocol):
    """An answer that can be printed in every format."""

    def lines(self, view: View) -> Iterable[str]:
        """The lines for people; what they hold need not be printable."""

    def document(self) -> Any:
        """The whole answer as plain values, for programs."""

    def names(self) -> Iterable[str]:
        """The objects that the answer is about, as `kubectl get -o name` writes them."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command has done to one object, in a sentence, which stays one line."""

    object: str
    """As `object_reference` writes it."""
    message: str

    def lines(self, view: View) -> Iterator[str]:
        """The sentence."""
        yield self.message

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """The object."""
        return [self.object]


def printed(report: Report, output: str, view: View) -> str:
    """An answer in one of FORMATS, without the last line's end."""
    match output:
        case "json":
            return json.dumps(report.document(), indent=2, ensure_ascii=True)
        case "yaml":
            return yaml.safe_dump(report.document(), sort_keys=False, width=NARROW).rstrip()
        case "name":
            return "\n".join(map(printable, report.names()))
        case _:
            return "\n".join(_shown(line, view) for line in report.lines(view))


def _shown(line: str, view: View) -> str:
    """A line as a terminal may get it; the only control characters are our own colours."""
    safe = printable(line)
    return f"\x1b[31m{safe}\x1b[0m" if view.colour and isinstance(line, Alert) else safe


def table(titles: Sequence[str], rows: Iterable[Sequence[Cell]], view: View) -> Iterator[str]:
    """The lines of a table. Where it is too wide for the terminal, its last column is wrapped."""
    found = list(rows)
    texts = [[UNKNOWN if cell is None else printable(str(cell)) for cell in row] for row in found]
    numeric = [_is_numeric([row[place] for row in found]) for place in range(len(titles))]
    shown = [list(titles), *texts] if view.headers else texts
    widths = [max((cell_len(row[place]) for row in shown), default=0) for place in range(len(titles))]
    for row in shown:
        yield from _wrapped(row, widths, numeric, view.width)


def _is_numeric(cells: Sequence[Cell]) -> bool:
    return any(isinstance(each, int) for each in cells) and not any(isinstance(each, str) for each in cells)


def _wrapped(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool], width: int | None) -> Iterator[str]:
    *firsts, last = row
    before = "".join(
        f"{_padded(cell, size, right=right)}{GAP}" for cell, size, right in zip(firsts, widths, numeric, strict=False)
    )
    if numeric[-1]:
        last = _padded(last, widths[-1], right=True)
    room = None if width is None else max(width - cell_len(before), LEAST)
    parts = textwrap.wrap(last, room, break_on_hyphens=False) if room and cell_len(last) > room else [last]
    for number, part in enumerate(parts or [""]):
        yield f"{before if number == 0 else ' ' * cell_len(before)}{part}".rstrip()


def _padded(text: str, size: int, *, right: bool) -> str:
    blanks = " " * (size - cell_len(text))
    return f"{blanks}{text}" if right else f"{text}{blanks}"


def facts(values: Mapping[str, Cell], view: View) -> Iterator[str]:
    """One line for each known fact, as `kubectl describe` has them."""
    rows = [(f"{name}:", value) for name, value in values.items() if value not in (None, "")]
    yield from table(("", ""), rows, View(view.wide, headers=False, width=view.width))


def sentence(text: str, view: View, indent: str = "") -> Iterator[str]:
    """A sentence, wrapped."""
    yield from textwrap.wrap(
        printable(text),
        view.width or NARROW,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def alerts(texts: Iterable[str], view: View) -> Iterator[str]:
    """Sentences that are to be noticed."""
    for text in texts:
        first, *more = sentence(text, View(width=(view.width or NARROW) - 2)) if text else ("",)
        yield Alert(f"! {first}")
        yield from (f"  {line}" for line in more)


def printable(text: str) -> str:
    """A text on one line, without anything that a terminal would obey: such characters are shown as escapes."""
    joined = " ".join(text.split("\n"))
    if joined.isprintable():
        return joined
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in joined)


def say(text: str) -> None:
    """Say on standard error what is being done. A terminal that has gone keeps nothing from being done or removed."""
    with suppress(OSError):
        click.echo(printable(text), err=True)


def plain(value: Any) -> Any:
    """Dataclasses and structs as values that JSON and YAML know."""
    return msgspec.to_builtins(value, str_keys=True)


def object_reference(kind: type[Object], name: str) -> str:
    """The name of an object as `kubectl get -o name` writes it."""
    address = kind.KIND
    return f"{address.name.lower()}{f'.{address.group}' if address.group else ''}/{name}"


def age(since: str | None, now: datetime) -> str | None:
    """How long ago a time of the API was, in its largest unit: 5s, 12m, 3h, 40d. None for what is no time."""
    seconds = seconds_since(since, now)
    if seconds is None:
        return None
    return duration(seconds)


def duration(seconds: float) -> str:
    """A time in its largest unit: 5s, 12m, 3h, 40d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"


def seconds_since(moment: str | None, now: datetime) -> float | None:
    """Seconds from a time of the API (RFC 3339, UTC) to now; None for what is no time."""
    try:
        found = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    return (now - found).total_seconds() if found.tzinfo else None

"""Write docs/reference/events.md from api/event_reasons.py and the files that emit them. Run after a change."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from spiderpool.api import event_reasons
from spiderpool.api.applications import WORKLOADS, Workload
from spiderpool.api.event_reasons import EventReason

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "spiderpool"
PAGE = ROOT / "docs" / "reference" / "events.md"

INTRODUCTION = """\
# Events

What the daemons tell of an object where `kubectl describe` shows it. A process that tells the same again raises the
count of its first Event; one that has started or become the leader since makes another. `NotEnforced` is not counted:
a leader tells it once for each generation of a policy, unless that Event is still there. kube-apiserver keeps an Event
for an hour after it was last written (`--event-ttl`). Events of one reason, in all Namespaces:

    kubectl get events --all-namespaces --field-selector reason=AddressRefused

A daemon can emit no other reasons: they are one list with types. `spiderpoolctl status` and `spiderpoolctl doctor` show
recent Warnings together with what is wrong now.

`scripts/generate_events.py` makes this page from `src/spiderpool/api/event_reasons.py`.
"""

DAEMONS = {"agent": "spiderpool-agent", "controller": "spiderpool-controller", "cloudcontroller": "spiderpool-cloud"}
"""Folder → the daemon that runs what is in it."""


@dataclass(frozen=True, slots=True)
class EmittedReason:
    """A reason, with what its declaration and the files that emit it say."""

    variable: str
    reason: EventReason[Any]
    kinds: tuple[str, ...]
    daemons: tuple[str, ...]


def emitted() -> list[EmittedReason]:
    """All reasons, in the order of the list. Raises ValueError for one that no daemon emits."""
    hints, daemons = get_type_hints(event_reasons), emitters()
    found = []
    for variable, reason in vars(event_reasons).items():
        if isinstance(reason, EventReason):
            if variable not in daemons:
                raise ValueError(f"no daemon emits {variable}: use or remove it")
            found.append(EmittedReason(variable, reason, tuple(_kinds(hints[variable])), daemons[variable]))
    return found


def _kinds(hint: Any) -> Iterator[str]:
    """The kinds that the type of a reason names: ``EventReason[Pod | Service]``."""
    (parameter,) = get_args(hint)
    for kind in get_args(parameter) or (parameter,):
        if kind is Workload:
            yield from (each.KIND.name for each in WORKLOADS)
        else:
            yield kind.KIND.name


def emitters() -> dict[str, tuple[str, ...]]:
    """Variable of a reason → the daemons whose files name it, in the order of DAEMONS."""
    found: dict[str, dict[str, None]] = {}
    for folder, daemon in DAEMONS.items():
        for path in sorted((SOURCES / folder).rglob("*.py")):
            text = path.read_text()
            for name in _named(ast.parse(text)) if event_reasons.__name__.rpartition(".")[2] in text else ():
                found.setdefault(name, {})[daemon] = None
    return {variable: tuple(daemons) for variable, daemons in found.items()}


def _named(tree: ast.Module) -> Iterator[str]:
    """The attributes of the module of reasons that a file reads."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="event_reasons"), attr=name):
                yield name


def page() -> str:
    """The whole page, as Markdown."""
    reasons = emitted()
    sections = (line for daemon in DAEMONS.values() for line in _section(daemon, reasons))
    return "\n".join([INTRODUCTION, *sections])


def _section(daemon: str, reasons: list[EmittedReason]) -> Iterator[str]:
    yield f"## {daemon}\n"
    yield "| reason | type | about | what it means | what to do |"
    yield "|---|---|---|---|---|"
    for each in reasons:
        if daemon in each.daemons:
            yield _row(each)
    yield ""


def _row(each: EmittedReason) -> str:
    reason = each.reason
    more = f"[More](../{reason.page})".replace("../reference/", "")
    cells = (f"`{reason.name}`", reason.type, ", ".join(each.kinds), reason.meaning, f"{reason.remedy} {more}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.relative_to(ROOT))

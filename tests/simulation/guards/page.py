"""``docs/reference/guards.md``: each guard, and who notices that it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.guards.guard import Guard

HEAD = """\
# Guards

What keeps an address from being lost or given twice is often a few words: a precondition, the order of two reads, a
wait. `make simulate GUARDS=1` takes each of these guards out of a copy of the product and looks who notices: first the
unit tests that concern it and, where they do not, the [simulation](../usage/simulation.md#guards) with {operations:,}
operations. It has written this page. `tests/simulation/guards/` has the guards.

{count} guards: {by_tests} noticed by unit tests, {by_simulation} by the simulation, {survived} by nothing.

| guard | without it | noticed by |
|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who has noticed that a guard was missing."""

    guard: Guard
    test: str = ""
    violation: str = ""
    """The rule of the simulation, and after how many operations."""

    @property
    def is_noticed(self) -> bool:
        """Whether a test or the simulation has noticed it."""
        return bool(self.test or self.violation)

    @property
    def text(self) -> str:
        """Who has noticed it, or why it is all right that nobody has."""
        if self.test:
            return f"`{self.test}`"
        if self.violation:
            return f"simulation: {self.violation}"
        return f"nothing: {self.guard.survives}" if self.guard.survives else "**nothing**"


def page(outcomes: Sequence[Outcome], operations: int) -> str:
    """The text of the page."""
    head = HEAD.format(
        operations=operations,
        count=len(outcomes),
        by_tests=sum(bool(each.test) for each in outcomes),
        by_simulation=sum(bool(each.violation) for each in outcomes),
        survived=sum(not each.is_noticed for each in outcomes),
    )
    rows = (
        f"| `{each.guard.file}`: {each.guard.name.replace('_', ' ')} | {each.guard.protects} | {each.text} |\n"
        for each in outcomes
    )
    return head + "".join(rows)

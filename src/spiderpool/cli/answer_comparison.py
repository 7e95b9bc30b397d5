"""Where one cloud answers otherwise than another one did: outcomes, and names and types of fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from spiderpool.cli.printing import View, plain, table
from spiderpool.cloud.verification import RecordedAnswer

Shape: TypeAlias = dict[str, str]
"""Path of a field → the type of its value in JSON; ``[]`` stands for any item of a list."""
TYPES = {str: "text", bool: "truth value", int: "number", float: "number", type(None): "null"}


@dataclass(frozen=True, slots=True)
class AnswerDifference:
    """A difference of the answers to an action."""

    action: str
    text: str


@dataclass(frozen=True, slots=True)
class AnswerComparison:
    """All differences."""

    calls: int
    differences: tuple[AnswerDifference, ...]

    def lines(self, view: View) -> Iterator[str]:
        """A row for each difference."""
        if self.differences:
            yield from table(("ACTION", "DIFFERENCE"), [(each.action, each.text) for each in self.differences], view)
            yield ""
        yield f"{self.calls} calls, {len(self.differences)} differences"

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """Nothing: these are no objects of a cluster."""
        return ()


def compared(recorded: Sequence[RecordedAnswer], answered: Sequence[RecordedAnswer]) -> AnswerComparison:
    """Compares the answers to the same calls in the same order; each difference of an action once."""
    found = (
        AnswerDifference(before.action, text)
        for before, now in zip(recorded, answered, strict=True)
        for text in _differences(before, now)
    )
    return AnswerComparison(len(recorded), tuple(dict.fromkeys(found)))


def _differences(before: RecordedAnswer, now: RecordedAnswer) -> Iterator[str]:
    outcomes = [each.code or each.error or "carried out" for each in (before, now)]
    if outcomes[0] != outcomes[1]:
        yield f"was: {outcomes[0]}, is: {outcomes[1]}"
    elif before.answer is not None and now.answer is not None:
        yield from _of_shapes(shape(before.answer), shape(now.answer))


def _of_shapes(before: Shape, now: Shape) -> Iterator[str]:
    for path in sorted({*before, *now}):
        if _is_below_nothing(path, before) or _is_below_nothing(path, now):
            continue  # an empty list says nothing of its items
        if path not in now:
            yield f"lacks {path}, a {before[path]}"
        elif path not in before:
            yield f"has {path}, which was not there"
        elif before[path] != now[path] and "null" not in (before[path], now[path]):
            yield f"{path} was a {before[path]}, is a {now[path]}"


def _is_below_nothing(path: str, found: Shape) -> bool:
    """Whether a path leads into a list that has no items there."""
    while "[]" in path:
        path = path.rpartition("[]")[0]
        if path in found and f"{path}[]" not in found:
            return True
    return False


def shape(value: Any, path: str = "") -> Shape:
    """Returns the fields of an answer, without values. Of several items of a list those of all together."""
    if isinstance(value, Mapping):
        found: Shape = {path: "object"} if path else {}
        for name, each in value.items():
            found |= shape(each, f"{path}.{name}" if path else name)
        return found
    if isinstance(value, list):
        found = {path: "list"}
        for each in value:
            found |= shape(each, f"{path}[]")
        return found
    return {path: TYPES.get(type(value), "value")}

"""Fields of the settings' dataclasses, each bound to its rows of the table, and their reading from a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, cast

from spiderpool.settings.setting import Setting
from spiderpool.settings.source import SettingsSource

S = TypeVar("S")
T = TypeVar("T")

_BINDING = "settings"
"""Key of a field's metadata that holds its binding."""


@dataclass(frozen=True, slots=True)
class _Binding:
    rows: tuple[Setting[Any], ...]
    combine: Callable[..., Any]


def bound(row: Setting[T]) -> T:
    """A field that holds the value of one row. Its default is the row's."""
    return field(default=row.default, metadata={_BINDING: _Binding((row,), lambda value: value)})


def derived(combine: Callable[..., T], *rows: Setting[Any]) -> T:
    """A field that is computed from the values of several rows. Its default is computed from their defaults."""
    default = combine(*(row.default for row in rows))
    return field(default=default, metadata={_BINDING: _Binding(rows, combine)})


def read(shape: type[S], source: SettingsSource) -> S:
    """An instance of a settings dataclass, with the dataclasses inside it. Raises BadConfig."""
    return shape(**{each.name: _value(each, source) for each in fields(cast(Any, shape))})


def rows_of(shape: type[Any]) -> Iterator[Setting[Any]]:
    """The rows that the fields of a dataclass are bound to, with those of the dataclasses inside it."""
    for each in fields(shape):
        if is_dataclass(each.default_factory):
            yield from rows_of(cast(type[Any], each.default_factory))
        else:
            yield from each.metadata[_BINDING].rows


def _value(each: Field[Any], source: SettingsSource) -> Any:
    if is_dataclass(each.default_factory):
        return read(cast(type[Any], each.default_factory), source)
    binding: _Binding = each.metadata[_BINDING]
    return binding.combine(*(source.read(row) for row in binding.rows))

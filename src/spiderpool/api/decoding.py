"""JSON that others have written: users, nodes, plugins, services of a cloud. Bounded in size and depth."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar, overload

import msgspec

T = TypeVar("T")
_Container: TypeAlias = dict[Any, Any] | list[Any] | tuple[Any, ...] | msgspec.Struct
"""What decoding makes of an object or array."""

LONGEST = 1 << 18
"""Bytes or characters of a text within an object: all annotations of an object together have 256 KiB."""
LONGEST_OBJECT = 1 << 24
"""Bytes of what holds whole objects: etcd has 1.5 MiB for one, and a review holds two."""
CHARACTERS_PER_PART = 16
"""Characters of the limit for each object or array that a text may have: these cost more time than what they hold."""
DEEPEST = 64
"""Objects and arrays within one another. A network's configuration needs some ten."""
DEEPEST_KEPT = 200
"""The same in an answer of the API server, of which the rest is left out."""

_TO_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+([\[\]{}])', re.DOTALL)
"""What stands before the next bracket outside a string, and the bracket; read without a way back, in linear time."""


def without_depths(text: bytes) -> bytes:
    """A JSON text with null for what is nested too deeply in it; what is no JSON stays none."""
    kept: list[bytes] = []
    depth = begin = end = 0
    while found := _TO_BRACKET.match(text, end):
        end = found.end()
        if found[1] in b"[{":
            depth += 1
            if depth == DEEPEST_KEPT + 1:
                kept += (text[begin : found.start(1)], b"null")
        else:
            if depth == DEEPEST_KEPT + 1:
                begin = end
            depth -= 1
    return b"".join((*kept, text[begin:])) if depth == 0 else b""


@overload
def decode(text: str | bytes, *, longest: int = LONGEST) -> Any: ...
@overload
def decode(text: str | bytes, shape: type[T], *, longest: int = LONGEST) -> T: ...
@overload
def decode(text: str | bytes, shape: Any, *, longest: int = LONGEST) -> Any: ...
def decode(text: str | bytes, shape: Any = Any, *, longest: int = LONGEST) -> Any:
    """The value of a JSON text, as a ``shape``. Raises msgspec.DecodeError, also for a text beyond the limits."""
    text = bytes(text) if isinstance(text, msgspec.Raw) else text
    if len(text) > longest:
        raise msgspec.DecodeError(f"{len(text)} characters are more than {longest}")
    brackets = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")
    if brackets > longest // CHARACTERS_PER_PART:
        raise msgspec.DecodeError(f"{brackets} objects and arrays are more than {longest // CHARACTERS_PER_PART}")
    try:
        value = msgspec.json.decode(text, type=shape)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeError as error:
        raise msgspec.DecodeError(f"not UTF-8: {error}") from error
    if brackets > DEEPEST:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = _containers([value])
    for _ in range(DEEPEST):
        level = [each for one in level for each in _containers(_parts(one))]
        if not level:
            return
    raise _too_deep()


def _containers(values: Iterable[Any]) -> list[_Container]:
    return [each for each in values if isinstance(each, dict | list | tuple | msgspec.Struct)]


def _parts(value: _Container) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return msgspec.structs.astuple(value) if isinstance(value, msgspec.Struct) else value


def _too_deep() -> msgspec.DecodeError:
    return msgspec.DecodeError(f"more than {DEEPEST} objects and arrays are within one another")

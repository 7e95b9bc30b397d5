"""Takes credentials out of what is handed to others: of objects by their keys, of texts as `redacted_text` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar, cast

import msgspec

from spiderpool.cli.bundle import redacted_text
from spiderpool.cli.bundle.redacted_text import has_hint, is_secret, says_where
from spiderpool.cli.bundle.secret_forms import REDACTED

T = TypeVar("T")

DROPPED = ("managedFields", "kubectl.kubernetes.io/last-applied-configuration")
"""Keys that repeat the object, credentials included."""
KEY_TO_PATH = {"key", "path"}
"""Keys of core/v1 KeyToPath, which may also have a mode: which key of a Secret becomes which file."""


def text(found: str) -> str:
    """A text without what looks like a credential in it; lines of JSON are redacted by their keys too."""
    if has_hint(found) and ("{" in found or "[" in found):
        found = "".join(map(_line, found.splitlines(keepends=True)))
    return redacted_text.text(found)


def _line(whole: str) -> str:
    """A line of a log, which stays as it is unless it is JSON with credentials in it."""
    line = whole.strip()
    if line[:1] not in ("{", "[") or not has_hint(line):
        return whole
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return whole
    without = value(found)
    return whole if without == found else whole.replace(line, msgspec.json.encode(without).decode())


def value(found: Any) -> Any:
    """Plain values of JSON without credentials."""
    if isinstance(found, str):
        return text(found)
    if isinstance(found, list):
        return [_after(before, each) for before, each in pairwise((None, *found))]
    if isinstance(found, Mapping):
        return _mapping(found)
    return found


def _after(before: Any, found: Any) -> Any:
    """An item of a list; after an option of a command line that names a credential, nothing of it."""
    is_option = isinstance(before, str) and before.startswith("-") and "=" not in before and is_secret(before)
    return REDACTED if is_option and isinstance(found, str) else value(found)


def report(found: T) -> T:
    """A dataclass without credentials in its texts: before it is printed, since lines are wrapped and escaped then."""
    return cast("T", _report(found))


def _report(found: Any) -> Any:
    if isinstance(found, str):
        return text(found)
    if isinstance(found, tuple):
        return tuple(map(_report, found))
    if is_dataclass(found) and not isinstance(found, type):
        return replace(found, **{each.name: _report(getattr(found, each.name)) for each in fields(found)})
    return found


def _mapping(found: Mapping[str, Any]) -> dict[str, Any]:
    named = found.get("name")
    is_variable = isinstance(named, str) and "value" in found and is_secret(named)
    kept = {key: each for key, each in found.items() if key not in DROPPED}
    return {key: REDACTED if is_variable and key == "value" else _of_key(key, each) for key, each in kept.items()}


def _of_key(key: str, found: Any) -> Any:
    return _below_secret(found) if is_secret(key) else value(found)


def _below_secret(found: Any) -> Any:
    """Of what is below a key that names a credential: its structure, and what says where a credential is."""
    if isinstance(found, list):
        return [_below_secret(each) for each in found]
    if isinstance(found, Mapping):
        if KEY_TO_PATH <= found.keys() <= {*KEY_TO_PATH, "mode"}:
            return value(found)
        return {key: value(each) if says_where(key) else _below_secret(each) for key, each in found.items()}
    return found if found is None or isinstance(found, bool) else REDACTED

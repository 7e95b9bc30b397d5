"""Files that users name on the command line. Whatever is in them, an error names the file and what is to be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from spiderpool.errors import BadConfig
from spiderpool.settings import read_mapping

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
"""The type of an option that names a file which is to be read."""


def text_of(file: TextIO) -> str:
    """The text of an open file. Raises BadConfig."""
    return _read(getattr(file, "name", "the input"), file.read)


def text_at(path: Path) -> str:
    """The text of a file. Raises BadConfig."""
    return _read(path, path.read_text)


def values_at(path: Path) -> dict[str, Any]:
    """The YAML mapping in a file, as values of JSON. Raises BadConfig."""
    return as_json(read_mapping(path, path.read_text), path)


def as_json(found: Mapping[Any, Any], origin: object) -> dict[str, Any]:
    """A mapping of YAML as helm understands it, which knows the values of JSON alone. Raises BadConfig."""
    try:
        known: dict[str, Any] = msgspec.to_builtins(found, str_keys=True)
    except (TypeError, RecursionError) as error:
        raise BadConfig(f"{origin} has a key or value that JSON does not know ({error}): put it in quotes") from error
    return known


def block(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The mapping that is the value of a key; empty where there is none. Raises BadConfig."""
    found = values.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadConfig(f"{key} is {found!r}: write a mapping of keys below it")
    return found


def _read(name: object, read: Callable[[], str]) -> str:
    try:
        return read()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{name} cannot be read as text: {error}; name a file that is YAML in UTF-8") from error

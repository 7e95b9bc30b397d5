"""Kinds of values that a setting can have: how each is read from a variable or a YAML value, and what it is called.

A parser raises ValueError or TypeError with the rule that the value breaks, as in "not a number of at least 0".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

TRUE = {"1", "t", "true"}
FALSE = {"0", "f", "false"}
MAX_PORT = 65535
ZONE = re.compile(r"[a-z0-9-]+:[a-z0-9-]+")
MIN_ZONES = 2
"""Of a network load balancer."""
MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path: sun_path of unix(7), without the final NUL."""

ABSENT: Final = object()
"""Stands for a key that conf.yml does not contain; None is a key without a value."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value."""

    name: str
    """What the reference page calls it."""
    from_text: Callable[[str], T]
    """Reads the value of an environment variable."""
    from_yaml: Callable[[Any], T]
    """Reads the value of a key of conf.yml."""
    is_unset: Callable[[Any], bool] = lambda value: value is ABSENT
    """Whether a value of conf.yml counts as absent."""


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError("not a number of at least 0")
    return value


def _count(text: str) -> int:
    value = _number(text)
    if value != int(value):
        raise ValueError("not a whole number")
    return int(value)


def _port_number(text: str) -> int:
    value = _count(text)
    if value > MAX_PORT:
        raise ValueError(f"not a TCP port of at most {MAX_PORT}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a number of at least 0")
    return value


def _flag_text(text: str) -> bool:
    if text.lower() not in TRUE | FALSE:
        raise ValueError("neither true nor false")
    return text.lower() in TRUE


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("not an absolute path, which begins with /")
    return path


def _socket(text: str) -> Path:
    path = _absolute(text)
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        raise ValueError(f"longer than the {MAX_SOCKET_PATH} bytes that Linux allows for the path of a socket")
    return path


def _list(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return tuple(value)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _zones(text: str) -> str:
    zones = [part.strip() for part in text.split(",")]
    is_whole = all(ZONE.fullmatch(zone) for zone in zones)
    if not is_whole or len(zones) < MIN_ZONES or len({zone.partition(":")[0] for zone in zones}) < len(zones):
        raise ValueError("not zone:vswitch,zone:vswitch with two or more different zones")
    return ",".join(zones)


def _is_empty(value: Any) -> bool:
    return value is ABSENT or not value


def _is_null(value: Any) -> bool:
    return value is ABSENT or value is None


FLAG: Final = Kind("true or false", _flag_text, _flag)
NUMBER: Final = Kind("number", _number, lambda value: _number(str(value)))
COUNT: Final = Kind("whole number", _count, _whole)
SECONDS: Final = Kind("seconds", _number, lambda value: _number(str(value)))
PORT: Final = Kind("TCP port", _port_number, lambda value: _port_number(str(value)))
TEXT: Final = Kind("text", str, _text, _is_empty)
OPTIONAL_TEXT: Final[Kind[str | None]] = Kind("text", str, _text, _is_empty)
ZONES: Final = Kind("zones", _zones, lambda value: _zones(_text(value)), _is_empty)
"""Zones with a vSwitch in each, as text."""
WORD: Final = Kind("word", str.lower, lambda value: _text(value).lower(), _is_empty)
"""Text in which case does not matter; read in lower case."""
PATH: Final = Kind("path", _absolute, lambda value: _absolute(_text(value)), _is_empty)
SOCKET: Final = Kind("path", _socket, lambda value: _socket(_text(value)), _is_empty)
OPTIONAL_PATH: Final[Kind[Path | None]] = Kind("path", Path, lambda value: Path(_text(value)), _is_empty)
NAMES: Final = Kind("names", _names, lambda value: tuple(map(str, _list(value))), _is_null)
"""Comma-separated in a variable, a list in conf.yml."""
OBJECTS: Final = Kind("objects", _names, _list, _is_null)
"""A list of mappings in conf.yml; no setting of this kind has a variable."""

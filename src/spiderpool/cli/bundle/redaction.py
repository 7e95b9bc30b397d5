"""Takes credentials out of what is handed to others: of objects by their keys, of any text by its form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar, cast

T = TypeVar("T")

REDACTED = "REDACTED"
SECRET_WORDS = "|".join(
    (
        *("passwo?r?d", "passphrase", "token", "secret", "credential", "signature", "authorization"),
        *("access[_.-]?key", "api[_.-]?key", "private[_.-]?key"),
    )
)
SECRET_KEY = re.compile(rf"(?i)({SECRET_WORDS})")
NO_SECRET = re.compile(r"(?i)(names?|refs?|namespace|path|file|folder|seconds|method|types?|kind|audiences?|enabled)$")
"""Ends of keys that say where a secret is, or how it is made, and not what it is."""
DROPPED = ("managedFields", "kubectl.kubernetes.io/last-applied-configuration")
"""Keys that repeat the object, credentials included."""

_VALUE = r"""(\\?"(?:[^"\\]|\\[^"])*\\?"|'[^']*'|\\?["'][^\n]*|[^\s,;&}\]"']+)"""
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), REDACTED),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), REDACTED),  # a JSON Web Token
    (re.compile(r"\b(LTAI|STS\.)[A-Za-z0-9]{10,}"), REDACTED),  # an access key of Alibaba Cloud
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {REDACTED}"),
    (re.compile(r"(://[^\s/:@]*):[^\s/@]+@"), rf"\1:{REDACTED}@"),  # a password in a URL
)
_KEY = rf"(?<![\w.-])([\w.-]{{0,200}}(?:{SECRET_WORDS})[\w.-]{{0,200}})(?![\w.-])"
_PAIR = re.compile(rf"""(?i)(\\?["']?){_KEY}(\\?["']?\s*[:=]\s*)(?!(?:true|false|null)\b){_VALUE}""")
"""A key and its value in YAML, JSON, INI, a query or a command line."""
_LINE = re.compile(rf"""(?i)^([ \t]*(?:-[ \t]+)?){_KEY}(:[ \t]+)(?![\[{{"'&]|(?:true|false|null)\s*$)\S.*""")
"""A line of YAML, whose plain value ends with it."""
_OPTION = re.compile(rf"(?i)(?<!\S)(?=-){_KEY}[ \t]+[^\s-]\S*")
"""An option of a command line, and its value."""
_SAID = re.compile(rf"""(?i)({_KEY}(?:[ ]+[\w.,/-]+){{0,6}}[ ]+)('[^']*'|"[^"]*")""")
"""A key, some words, and a text in quotes, as errors say it."""
_BLOCK = re.compile(rf"""(?im)^([ \t]*){_KEY}:[ \t]*[^\s\[{{&].*\n((?:\1[ \t]+.*(?:\n|\Z))+)""")
"""A key of YAML whose value goes on in lines that are further to the right."""
_HINTS = ("passw", "passphrase", "token", "secret", "credential", "signature", "authorization", "key")
"""A line without one of these, in any case, has no key that names a credential; to look for them takes no time."""


def text(value: str) -> str:
    """A text without what looks like a credential in it."""
    for form, instead in _FORMS:
        value = form.sub(instead, value)
    if not _has_hint(value):
        return value
    value = _BLOCK.sub(
        lambda found: found[0] if NO_SECRET.search(found[2]) else f"{found[1]}{found[2]}: {REDACTED}\n", value
    )
    return "".join(_of_line(each) if _has_hint(each) else each for each in value.splitlines(keepends=True))


def _has_hint(value: str) -> bool:
    lowered = value.lower()
    return any(hint in lowered for hint in _HINTS)


def _of_line(value: str) -> str:
    value = _LINE.sub(_line, value)
    value = _OPTION.sub(lambda found: found[0] if NO_SECRET.search(found[1]) else f"{found[1]} {REDACTED}", value)
    value = _SAID.sub(lambda found: found[0] if NO_SECRET.search(found[2]) else f"{found[1]}'{REDACTED}'", value)
    return _PAIR.sub(_pair, value)


def _line(found: re.Match[str]) -> str:
    return found[0] if NO_SECRET.search(found[2]) else f"{found[1]}{found[2]}{found[3]}{REDACTED}"


def _pair(found: re.Match[str]) -> str:
    if NO_SECRET.search(found[2]):
        return found[0]
    quote = re.match(r"""\\?["']""", found[4])
    mark = quote[0] if quote else ""
    return f"{found[1]}{found[2]}{found[3]}{mark}{REDACTED}{mark}"


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
    """Of a key that names a credential nothing stays but a structure, which says where it is."""
    if not is_secret(key):
        return value(found)
    if isinstance(found, list):
        return [_of_key(key, each) for each in found]
    if isinstance(found, (str, int, float)) and not isinstance(found, bool):
        return REDACTED
    return value(found)


def is_secret(key: str) -> bool:
    """Whether a key names a credential."""
    return bool(SECRET_KEY.search(key)) and not NO_SECRET.search(key)

"""Whether a command printed what its page shows.

A page shows what was printed once. What varies is compared by its kind, and what a page leaves out is `…`:

- ages, durations and times, UIDs, MAC addresses, node ports, hashes, and the generated ends of names,
- addresses, of which the network has to be the same: the first half of an IPv4 address, the first 64 bits of IPv6,
- `…` stands for anything in its line; alone in a line, for any number of lines.

Spaces count as one, and lines may be in another order: objects are sorted by names whose ends are generated.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

OMITTED = "…"
LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Of which the API server makes the ends of names."""


def _ipv4(found: re.Match[str]) -> str:
    try:
        half = IPv4Address(found[0]).packed[:2]
    except ValueError:
        return found[0]
    return f"{half[0]}.{half[1]}.*.*"


def _ipv6(found: re.Match[str]) -> str:
    try:
        groups = IPv6Address(found[0]).exploded.split(":")
    except ValueError:
        return found[0]
    return ":".join([*groups[:4], "*"])


MASKS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uid>"),
    (re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b"), "<mac>"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "<time>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), _ipv4),
    (re.compile(r"\b((?:[0-9a-f]{4}-){4})(?:[0-9a-f]{4}-){3}[0-9a-f]{4}\b"), r"\1*"),  # IPv6 in the name of a SpiderIP
    (re.compile(r"(?<![\w:])[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){2,7}"), _ipv6),
    (re.compile(r"\b[0-9a-f]{32,}\b"), "<hash>"),
    (re.compile(r"\b\d+(?:\.\d+)? ms\b"), "<duration>"),
    (re.compile(r"\b(?:\d+[dhms]){1,2}\b"), "<age>"),
    (re.compile(rf"-(?:[a-f0-9]{{8,10}}-)?(?:[{LETTERS}]{{5}}|[a-f0-9]{{5}})\b"), "-<end>"),
    (re.compile(r"\b3[0-2]\d{3}\b"), "<node port>"),
    (re.compile(r"\b[\w-]+_\d+\b"), "<host and process>"),
)


def masked(line: str) -> str:
    """A line with what varies replaced by its kind."""
    for pattern, kind in MASKS:
        line = pattern.sub(kind, line)
    return line


def pairs(shown: Iterable[str], printed: Iterable[str]) -> list[tuple[str, str]] | None:
    """Each line that is shown with the printed one; None where either has no other."""
    expected, left = _lines(shown), _lines(printed)
    found = []
    for line in expected:
        if line == OMITTED:
            continue
        equal = next((other for other in left if _pattern(line).fullmatch(masked(other))), None)
        if equal is None:
            return None
        left.remove(equal)
        found.append((line, equal))
    return None if left and OMITTED not in expected else found


def _lines(text: Iterable[str]) -> list[str]:
    lines = (" ".join(line.split()) for line in text)
    return [OMITTED if line == "..." else line for line in lines if line]


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(masked(part)) for part in line.split(OMITTED)))


def matches(shown: Iterable[str], printed: Iterable[str]) -> list[tuple[str, str]] | None:
    """As `pairs`; also where the page only breaks lines otherwise, as it does with long ones."""
    shown, printed = [*shown], [*printed]
    found = pairs(shown, printed)
    return found if found is not None else pairs([" ".join(shown)], [" ".join(printed)])


def names(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What varies and may be named by later commands: words that a page shows, each with the printed one."""
    for shown, printed in found:
        words, others = shown.split(), printed.split()
        if len(words) == len(others):
            yield from ((word, other) for word, other in zip(words, others, strict=True) if _is_name(word, other))


def _is_name(word: str, other: str) -> bool:
    return word != other and OMITTED not in word and masked(word) not in ("<age>", "<time>")


def difference(shown: Iterable[str], printed: Iterable[str]) -> str:
    """The difference of two texts for a reader, with what varies masked."""
    before, after = ([masked(line) for line in _lines(text)] for text in (shown, printed))
    return "\n".join([*difflib.unified_diff(before, after, "shown", "printed", lineterm="", n=1)][2:])

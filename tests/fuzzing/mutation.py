"""Changes of JSON: of one value in it, at any depth, also in JSON that stands in a text within it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1 << 32, 1 << 70, 1e300, "", "x", "0", "\0", "\u202e", "é" * 300, "../../etc", " "),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": [{}]}}, "10.0.0.0/8", ["10.0.0.0/33"], "9.9.9", "0.1.0", "eth0"),
    *(-(1 << 63), "::1", "fe80::1%eth0", "ff02::1", "0.0.0.0", "::ffff:10.0.0.1", "00:00:00:00:00:00", "10.0.0.1-9"),
    *(["10.0.0.1"] * 40, [{}] * 40, "a,b@c,,/d", "*", "[a", "true", "+1", "²", "\ud800", 0.5, ["x", 1]),
)
KEYS = ("cniVersion", "name", "type", "ipam", "prevResult", "runtimeConfig", "args", "capabilities", "dns", "x", "")
MOST_CHANGES = 5


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Keys and values that an input may be made of."""

    keys: tuple[str, ...] = KEYS
    values: tuple[Any, ...] = VALUES

    @classmethod
    def of(cls, seeds: Iterable[bytes]) -> Vocabulary:
        """Those of a corpus, and ours."""
        keys, values = dict.fromkeys(KEYS), [*VALUES]
        for seed in seeds:
            for key, value in _entries(_loaded(split(seed)[1])):
                keys[key] = None
                values.append(value)
        return cls(tuple(keys), tuple(values))


def split(data: bytes) -> tuple[bytes, bytes]:
    """What stands before the JSON of an input, with the empty line that ends it, and the JSON."""
    head, separator, tail = data.partition(b"\n\n")
    return (head + separator, tail) if separator and not head.lstrip().startswith((b"{", b"[")) else (b"", data)


def mutated_json(data: bytes, random: Random, vocabulary: Vocabulary) -> bytes | None:
    """An input with some changes in its JSON; None where it has none."""
    head, text = split(data)
    value = _loaded(text)
    if value is None:
        return None
    for _ in range(random.randint(1, MOST_CHANGES)):
        value = mutated(value, random, vocabulary)
    return head + json.dumps(value, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")


def mutated(value: Any, random: Random, vocabulary: Vocabulary = Vocabulary()) -> Any:
    """A copy of a JSON value with a change at one place."""
    chosen = random.random()
    if isinstance(value, dict) and value and chosen < 0.8:
        return _changed_object(value, random, vocabulary)
    if isinstance(value, list) and value and chosen < 0.8:
        return _changed_list(value, random, vocabulary)
    if isinstance(value, str) and chosen < 0.7:
        inner = _loaded(value.encode(errors="surrogatepass"))
        if isinstance(inner, dict | list):
            return json.dumps(mutated(inner, random, vocabulary))
        if chosen < 0.3:
            return _changed_text(value, random)
    return random.choice(vocabulary.values)


def _changed_object(value: dict[str, Any], random: Random, vocabulary: Vocabulary) -> dict[str, Any]:
    key = random.choice((*value, random.choice(vocabulary.keys)))
    if random.random() < 0.1:
        return {name: each for name, each in value.items() if name != key}
    return value | {key: mutated(value.get(key), random, vocabulary)}


def _changed_list(value: list[Any], random: Random, vocabulary: Vocabulary) -> list[Any]:
    place = random.randrange(len(value))
    before, after = value[:place], value[place + 1 :]
    match random.random():
        case share if share < 0.1:
            return before + after
        case share if share < 0.2:
            return [*before, value[place], value[place], *after]
        case _:
            return [*before, mutated(value[place], random, vocabulary), *after]


def _changed_text(value: str, random: Random) -> str:
    """A text with a part left out, repeated or with a character in its place."""
    begin = random.randint(0, len(value))
    end = random.randint(begin, len(value))
    part = random.choice(("", value[begin:end] * 2, random.choice("\0/:@,=-.%[]{}\"' \n0é")))
    return value[:begin] + part + value[end:]


def mutated_bytes(data: bytes, random: Random) -> bytes:
    """An input with some bytes of it replaced, left out or repeated."""
    changed = bytearray(data)
    for _ in range(random.randint(1, MOST_CHANGES)):
        begin = random.randint(0, len(changed))
        end = min(len(changed), begin + random.choice((1, 1, 2, 4, 16)))
        changed[begin:end] = random.choice((b"", random.randbytes(end - begin), bytes(changed[begin:end]) * 2))
    return bytes(changed)


def _loaded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a JSON value, at any depth, with what it holds."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield key, each
            yield from _entries(each)
    elif isinstance(value, list):
        for each in value:
            yield from _entries(each)
    elif isinstance(value, str) and value[:1] in ("{", "["):
        yield from _entries(_loaded(value.encode(errors="surrogatepass")))

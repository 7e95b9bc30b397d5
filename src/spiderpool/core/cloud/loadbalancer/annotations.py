"""Annotations of a Service that configure its load balancer: the types of their values, and tables of them.

Which annotations there are is the cloud's matter: its folder fills an `AnnotationTable` for each kind of balancer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a set of words; the case of letters does not matter."""

    words: tuple[str, ...]

    def read(self, text: str) -> str:
        """Returns the word as the cloud's API spells it. Raises ValueError when the text is none of them."""
        for word in self.words:
            if word.lower() == text.strip().lower():
                return word
        raise ValueError(f"must be one of {', '.join(self.words)}")

    def __str__(self) -> str:
        return ", ".join(self.words)


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from ``low`` to ``high``, or the special value ``also``."""

    low: int
    high: int
    also: int | None = None
    unit: str = ""

    def read(self, text: str) -> str:
        """Returns the number without blanks or leading zeros. Raises ValueError when it is none or out of range."""
        if re.fullmatch(r"-?[0-9]{1,9}", text.strip()):
            number = int(text)
            if self.low <= number <= self.high or number == self.also:
                return str(number)
        raise ValueError(f"must be a whole number, {self}")

    def __str__(self) -> str:
        also = f" or {self.also}" if self.also is not None else ""
        return f"{self.low}–{self.high}{also}{self.unit and ' ' + self.unit}"


@dataclass(frozen=True, slots=True)
class Words:
    """Text that matches a pattern, or with ``several`` a comma-separated list of such texts."""

    form: str
    """What the text is, as error messages and the reference describe it."""
    pattern: str
    several: bool = False
    or_empty: bool = False
    """Whether the empty text is a value as well: none at all."""

    def read(self, text: str) -> str:
        """Returns the text without blanks around its parts. Raises ValueError when a part does not match."""
        if self.or_empty and not text.strip():
            return ""
        parts = [part.strip() for part in text.split(",")] if self.several else [text.strip()]
        if not all(re.fullmatch(self.pattern, part) for part in parts):
            empty = ", or empty" if self.or_empty else ""
            raise ValueError(f"must be {self.form}{' with commas between them' if self.several else ''}{empty}")
        return ",".join(parts)

    def __str__(self) -> str:
        return f"{self.form}{',…' if self.several else ''}{' or empty' if self.or_empty else ''}"


ValueType: TypeAlias = OneOf | Number | Words


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation, named without its prefix. An empty default is left out, or taken from the configuration."""

    suffix: str
    kinds: tuple[str, ...]
    """Names of the kinds of balancers that have this annotation."""
    type: ValueType
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class BackendTypeAnnotation:
    """The annotation that chooses between pods and nodes as backends, with the two values that it may have."""

    name: str
    pods: str
    nodes: str


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """The annotations of one kind of balancer."""

    title: str
    """The kind in plain words, for messages."""
    prefix: str
    legacy_prefix: str
    """Older prefix, read where the annotation with the newer one is absent."""
    backend_type: BackendTypeAnnotation
    known: Mapping[str, Annotation]
    """Suffix → annotation of this kind."""
    other_kinds: Mapping[str, str]
    """Suffix → title of the kind of balancer that has the annotation, for those that this kind lacks."""
    unsupported: frozenset[str]
    """Suffixes that the cloud's own controller acts on and we do not."""
    backend_suffixes: frozenset[str]
    """Suffixes that decide which servers there are and which group they are in."""
    requirements: Mapping[str, str] = field(default_factory=dict)
    """Suffix → suffix of the annotation without which it has no effect."""

    def values(self, annotations: Mapping[str, str]) -> dict[str, str]:
        """Returns the annotations that carry one of the two prefixes, by suffix."""
        return _with_prefix(annotations, self.legacy_prefix) | _with_prefix(annotations, self.prefix)

    def remarks(self, suffixes: Iterable[str]) -> Iterator[str]:
        """Yields a sentence for each annotation that has no effect on this kind of balancer."""
        for suffix in sorted(suffixes):
            if suffix in self.known:
                continue
            key = f"annotation {self.prefix}{suffix}"
            if other := self.other_kinds.get(suffix):
                yield f"{key} has no effect: it is for {other} load balancers, this one is a {self.title} one"
            elif suffix in self.unsupported:
                yield f"{key} has no effect: it is not supported"
            else:
                near = get_close_matches(suffix, self.known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield f"{key} has no effect: there is no such annotation{hint}"


def _with_prefix(annotations: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in annotations.items() if key.startswith(prefix)}

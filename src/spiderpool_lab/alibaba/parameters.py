"""Parses the parameters of a call: ``Name.1`` and ``Name.1.Key`` become lists and objects, read by type."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from spiderpool_lab.alibaba import refusals

Value = Any
"""A text, a list of values, or an object of values."""


def decode(flat: Mapping[str, str]) -> dict[str, Value]:
    """Nested values from flat names. Numbers after a dot are list positions, counted from 1."""
    tree: dict[str, Value] = {}
    for name, text in flat.items():
        _insert(tree, name.split("."), text)
    return {name: _to_lists(value) for name, value in tree.items()}


def _insert(tree: dict[str, Value], path: list[str], text: str) -> None:
    for step in path[:-1]:
        branch = tree.setdefault(step, {})
        tree = branch if isinstance(branch, dict) else {}
    tree[path[-1]] = text


def _to_lists(value: Value) -> Value:
    if not isinstance(value, dict):
        return value
    if all(key.isdigit() for key in value):
        return [_to_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _to_lists(item) for key, item in value.items()}


class Parameters:
    """Typed access to decoded parameters. Methods raise Refusal if a parameter is missing or invalid."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = values

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        """A text, or ``default`` if it was not sent."""
        value = self.values.get(name)
        if value is None or value == "":
            return default
        if not isinstance(value, str):
            raise refusals.invalid(name, "must be a single value")
        return value

    def required(self, name: str) -> str:
        """A text that must have been sent."""
        if not (value := self.text(name)):
            raise refusals.missing(name)
        return value

    def one_of(self, name: str, allowed: Collection[str], default: str = "") -> str:
        """A text that is one of ``allowed``; empty if it was not sent and has no default."""
        value = self.text(name, default)
        if value and value not in allowed:
            raise refusals.invalid(name, f"must be one of {', '.join(sorted(allowed))}")
        return value

    def number(self, name: str, default: int, low: int = 0, high: int = 2**31 - 1) -> int:
        """A whole number between ``low`` and ``high``, or ``default`` if it was not sent."""
        if not (text := self.text(name)):
            return default
        if not text.lstrip("-").isdigit() or not low <= int(text) <= high:
            raise refusals.invalid(name, f"must be a number from {low} to {high}")
        return int(text)

    def flag(self, name: str, default: bool = False) -> bool:
        """``true`` or ``false``, in upper or lower case."""
        text = self.text(name).lower()
        if text not in ("", "true", "false"):
            raise refusals.invalid(name, "must be true or false")
        return default if not text else text == "true"

    def texts(self, name: str) -> list[str]:
        """``Name.1``, ``Name.2``, …; a single ``Name`` counts as a list of one."""
        value = self.values.get(name, [])
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in items):
            raise refusals.invalid(name, "must be a list of texts")
        return list(items)

    def objects(self, name: str) -> list[Parameters]:
        """``Name.1.Key``, …: a list of objects."""
        value = self.values.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise refusals.invalid(name, "must be a list of objects")
        return [Parameters(item) for item in value]

    def object(self, name: str) -> Parameters:
        """``Name.Key``: one object; empty if it was not sent."""
        value = self.values.get(name, {})
        if not isinstance(value, dict):
            raise refusals.invalid(name, "must be an object")
        return Parameters(value)

    def json_list(self, name: str) -> list[Any]:
        """A JSON array in a text; empty if it was not sent."""
        if not (text := self.text(name)):
            return []
        try:
            value = json.loads(text)
        except ValueError:
            raise refusals.invalid(name, "must be a JSON array") from None
        if not isinstance(value, list):
            raise refusals.invalid(name, "must be a JSON array")
        return value

    def json_objects(self, name: str) -> list[Parameters]:
        """A JSON array of objects in a text, their values read as texts."""
        items = self.json_list(name)
        if not all(isinstance(item, dict) for item in items):
            raise refusals.invalid(name, "must be a JSON array of objects")
        return [Parameters({key: _text(value) for key, value in item.items()}) for item in items]

    def tags(self, name: str = "Tag") -> dict[str, str]:
        """``Tag.1.Key`` and ``Tag.1.Value``."""
        return {tag.required("Key"): tag.text("Value") for tag in self.objects(name)}

    def check(self, allowed: Collection[str], required: Iterable[str]) -> None:
        """Raises Refusal if there is a parameter that is not allowed, or a required one is missing."""
        for name in self.values:
            if name not in allowed:
                raise refusals.invalid(name, "is unknown to this action")
        for name in required:
            if self.values.get(name, "") == "":
                raise refusals.missing(name)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else json.dumps(value)

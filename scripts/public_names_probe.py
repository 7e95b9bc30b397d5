"""Print the public names of an installed product that show only when it runs: `public_names` starts it in a checkout.

It knows the product by what does not change: names of loaders, programs and folders. So it runs on old checkouts too.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import typing
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import click
import msgspec

import spiderpool
from spiderpool.errors import SpiderpoolError

LOADERS = ("agent_settings", "controller_settings", "cloud_settings")
BASE = {"SPIDERPOOL_NODE_NAME": "node", "SPIDERPOOL_POD_NAME": "pod", "SPIDERPOOL_ENABLED_METRIC": "true"}
"""Variables that the loaders need, or without which others have no effect."""
TEXTS = ("true", "false", "0", "0.5", "7", "word", "alibaba", "/a/path", "a,b")
VALUES = (True, False, 0, 7, -1, "word", "alibaba", "eni", "role", ["word"], {"key": 1})
UNSET = "<unset>"

Lines = Iterator[str]


class Recorder(dict[str, Any]):
    """A mapping that notes which keys are asked for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: dict[str, None] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """The value, as dict does."""
        self.asked[key] = None
        return super().get(key, default)


def imported() -> list[ModuleType]:
    """All modules of the product, without the lab."""
    found = pkgutil.walk_packages(spiderpool.__path__, "spiderpool.")
    names = [each.name for each in found if ".lab" not in each.name and not each.name.endswith("__main__")]
    return [importlib.import_module(name) for name in names]


def flat(value: Any, path: str = "") -> dict[str, str]:
    """The leaves of dataclasses inside each other."""
    if dataclasses.is_dataclass(value):
        leaves: dict[str, str] = {}
        for each in dataclasses.fields(value):
            leaves |= flat(getattr(value, each.name), f"{path}.{each.name}")
        return leaves
    return {path: "yes" if value is True else "no" if value is False else str(value)}


class Daemon:
    """The settings of one daemon, read with chosen variables and keys."""

    def __init__(self, loader: str) -> None:
        self._settings = importlib.import_module("spiderpool.settings")
        self._load: Callable[[Any], Any] = getattr(self._settings, loader)
        self._source = getattr(self._settings, "SettingsSource", None) or self._settings.Source
        self._base = {name: text for name, text in BASE.items() if not loader.startswith("cloud") or "POD" in name}

    def read(self, environ: dict[str, str], document: dict[str, Any]) -> dict[str, str] | str:
        """The leaves of the settings, or the error's message."""
        try:
            return flat(self._load(self._source({**self._base, **environ}, document)))
        except SpiderpoolError as error:
            return str(error.message)

    def variables(self) -> list[str]:
        """The environment variables that are read."""
        environ = Recorder(self._base)
        self._load(self._source(environ, {}))
        return list(environ.asked)

    def file_keys(self) -> list[tuple[str, ...]]:
        """The keys of conf.yml that are read, from the root; blocks are not among them."""
        found: list[tuple[str, ...]] = []
        pending: list[tuple[str, ...]] = [()]
        while pending:
            path = pending.pop()
            inner = self._asked(path)
            found += [] if inner or not path else [path]
            pending += [(*path, key) for key in inner]
        return found

    def _asked(self, path: tuple[str, ...]) -> list[str]:
        """The keys that are read inside a block; none if it is none."""
        block = Recorder({"unknown": 1})
        try:
            self._load(self._source(self._base, nested(path, block)))
        except SpiderpoolError:
            return list(block.asked)
        return list(block.asked)


def nested(path: tuple[str, ...], value: Any) -> Any:
    """A value at a path of a document."""
    for key in reversed(path):
        value = {key: value}
    return value


def settings() -> Lines:
    """For each daemon, its variables and keys, the default of each, and what values of all types make of it."""
    for loader in LOADERS:
        daemon = Daemon(loader)
        for name in daemon.variables():
            results = {repr(text): daemon.read({name: text}, {}) for text in TEXTS}
            yield from effects(f"setting {loader} {name}", daemon, daemon.read({name: ""}, {}), results)
        for path in daemon.file_keys():
            results = {json.dumps(value): daemon.read({}, nested(path, value)) for value in VALUES}
            yield from effects(f"setting {loader} {'.'.join(path)}", daemon, daemon.read({}, {}), results)


def effects(title: str, daemon: Daemon, unset: dict[str, str] | str, results: dict[str, dict[str, str] | str]) -> Lines:
    """One line for the default and one for each value: what it changes, or that it is refused."""
    before = daemon.read({}, {})
    yield f"{title} unset: {'as default' if unset == before else unset if isinstance(unset, str) else 'differs'}"
    for text, result in results.items():
        if isinstance(result, str) or isinstance(before, str):
            yield f"{title} {text}: refused"
        else:
            changes = [f"{old} → {result[leaf]}" for leaf, old in before.items() if result[leaf] != old]
            yield f"{title} {text}: {'; '.join(sorted(changes)) or 'no change'}"


def commands(command: click.Command, path: str) -> Lines:
    """The commands and options of a program, without descriptions."""
    yield f"command {path}"
    for parameter in command.params:
        facts = parameter.to_info_dict()
        kept = {name: facts[name] for name in ("opts", "secondary_opts", "required", "nargs", "multiple", "envvar")}
        kind = facts["type"]
        default = facts["default"] if isinstance(facts["default"], str | int | list | None) else None
        yield f"option {path} {json.dumps(kept | {'type': kind.get('choices') or kind['name'], 'default': default})}"
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


def shapes(module: ModuleType) -> Lines:
    """The JSON objects that a module reads or writes: names of fields with their defaults."""
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__:
            yield from _shape(value)


def _shape(kind: Any) -> Lines:
    """The fields of a Struct, and of the dataclasses inside it."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        names = [each.name + _default(each.default, dataclasses.MISSING) for each in dataclasses.fields(kind)]
        inner = list(hints.values())
    else:
        fields = msgspec.structs.fields(kind)
        names = [each.encode_name + _default(each.default, msgspec.NODEFAULT, each.required) for each in fields]
        inner = [each.type for each in fields]
    yield f"json {{{', '.join(sorted(names))}}}"
    for each in inner:
        for part in (each, *typing.get_args(each)):
            if dataclasses.is_dataclass(part):
                yield from _shape(part)


def _default(default: Any, missing: object, required: bool = True) -> str:
    if default is not missing:
        return f"={default!r}" if isinstance(default, str | int | None) else "=…"
    return "" if required else "=…"


def service_annotations(module: ModuleType) -> Lines:
    """The annotations of Services that a module declares: kind, suffix, values and default."""
    for each in vars(module).get("ANNOTATIONS", ()):
        suffix, kinds, values, default = [getattr(each, field.name) for field in dataclasses.fields(each)[:4]]
        yield f"annotation {','.join(kinds)} {suffix} ({values}) default {default!r}"


def main() -> None:
    """Print the lines."""
    lines = [*settings(), *commands(vars(importlib.import_module("spiderpool.cli.main"))["cli"], "spiderpoolctl")]
    for module in imported():
        lines += [*shapes(module), *service_annotations(module)]
    for line in lines:
        print(line.replace("\n", "\\n"))


if __name__ == "__main__":
    main()

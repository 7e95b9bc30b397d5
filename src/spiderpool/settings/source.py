"""Reading settings: the environment and the ConfigMap's file as one source of typed, checked values.

Every error names the variable or key that is wrong, and the remedy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml

from spiderpool.errors import BadConfig
from spiderpool.settings.kinds import ABSENT
from spiderpool.settings.setting import Setting
from spiderpool.settings.table import CONFIG_FILE, SETTINGS, UNUSED_KEYS
from spiderpool.settings.trusted import read_trusted

T = TypeVar("T")

KEYS = tuple(sorted(key for setting in SETTINGS for key in setting.keys))
"""All keys of conf.yml, of whichever daemon: one file is for all."""
VARIABLES = tuple(sorted(name for setting in (*SETTINGS, CONFIG_FILE) for name in setting.variables))
"""The environment variables of all daemons."""
NEARLY = 0.9
"""Similarity of a misspelt variable, as `difflib` measures it."""


class SettingsSource:
    """The environment and the document of conf.yml."""

    def __init__(self, environ: Mapping[str, str], file: Mapping[str, Any]) -> None:
        self._environ = environ
        self._file = file

    def read(self, setting: Setting[T]) -> T:
        """The value of a setting: a variable, else a key of conf.yml, else the default.

        Raises BadConfig when a required variable is missing, or when any variable or key of the setting holds a wrong
        value. That includes one that another overrides, since it would take effect once the other is removed.
        """
        values = [*self._from_variables(setting), *self._from_keys(setting)]
        if values:
            return values[0]
        if setting.required:
            raise BadConfig(f"environment variable {setting.variables[0]} is missing; set it to {setting.required}")
        return setting.default

    def _from_variables(self, setting: Setting[T]) -> Iterator[T]:
        for name in setting.variables:
            text = self._environ.get(name, "").strip()
            if text:
                complaint = f"environment variable {name}={text!r} is {{}}; correct or unset it"
                value = _parse(setting.kind.from_text, text, complaint)
                yield _within_bounds(setting, value, f"environment variable {name}")

    def _from_keys(self, setting: Setting[T]) -> Iterator[T]:
        for key in setting.keys:
            found = self._lookup(key)
            if not setting.kind.is_unset(found):
                complaint = f"key {key} in conf.yml is {found!r}, {{}}; correct the ConfigMap"
                value = _parse(setting.kind.from_yaml, found, complaint)
                yield _within_bounds(setting, value, f"key {key} in conf.yml")

    def _lookup(self, key: str) -> Any:
        """The value of a key, or ABSENT. An empty block counts as one without keys. Raises BadConfig."""
        *blocks, last = key.split(".")
        block: Any = self._file
        for depth, name in enumerate(blocks, 1):
            block = block.get(name) or {}
            if not isinstance(block, dict):
                raise BadConfig(f"key {'.'.join(blocks[:depth])} in conf.yml is {block!r}, not a mapping of keys")
        return block.get(last, ABSENT)


def unread_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yields a sentence for each variable whose name is nearly one that is read.

    No more than a warning: Kubernetes adds variables for Services, and Spiderpool has some that nobody reads here.
    """
    for name in sorted(environ.keys() - {*VARIABLES}):
        if near := get_close_matches(name, VARIABLES, n=1, cutoff=NEARLY):
            yield f"environment variable {name} is not read; did you mean {near[0]}?"


def load_source(environ: Mapping[str, str] = os.environ) -> SettingsSource:
    """Read the file that SPIDERPOOL_CONFIG names; defaults apply where it does not exist.

    Raises BadConfig, also for a file that others than root can write.
    """
    path = Path(environ.get(CONFIG_FILE.variables[0], CONFIG_FILE.default))
    return SettingsSource(environ, _document(path, lambda: read_trusted(path)) if path.exists() else {})


def file_source(path: Path) -> SettingsSource:
    """Read a file that the user of a command names, who knows who can write it; a pipe will do. Raises BadConfig."""
    return SettingsSource({}, _document(path, path.read_text))


def text_source(text: str, origin: str, environ: Mapping[str, str]) -> SettingsSource:
    """Read the text of a conf.yml that comes from ``origin``, and an environment. Raises BadConfig."""
    return SettingsSource(environ, _document(origin, lambda: text))


def _document(origin: object, read: Callable[[], str]) -> dict[str, Any]:
    document = read_mapping(origin, read)
    _check_keys(document)
    return document


def read_mapping(origin: object, read: Callable[[], str]) -> dict[str, Any]:
    """The YAML mapping that ``read`` reads from ``origin``, whatever its keys mean. Raises BadConfig."""
    try:
        document = yaml.safe_load(read()) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BadConfig(f"{origin} cannot be read as YAML: {error}") from error
    if not isinstance(document, dict):
        raise BadConfig(f"{origin} holds {type(document).__name__}, not a mapping of keys")
    if document.get("kind") == "ConfigMap":
        raise BadConfig(f"{origin} is a whole ConfigMap: give the text of its key conf.yml alone")
    return document


def _check_keys(document: Mapping[Any, Any], block: str = "") -> None:
    """Raises BadConfig for a key that no daemon reads: a misspelt one would leave its default in force."""
    for name, value in document.items():
        key = f"{block}{name}"
        if key in KEYS or key in UNUSED_KEYS:
            continue
        inside = [known for known in KEYS if known.startswith(f"{key}.")]
        if not inside:
            near = get_close_matches(key, KEYS, n=2)
            allowed = f"did you mean {' or '.join(near)}" if near else f"the keys are {', '.join(KEYS)}"
            raise BadConfig(f"key {key} in conf.yml is {value!r}, but there is no such key: {allowed}")
        if isinstance(value, dict):
            _check_keys(value, f"{key}.")


def _parse(parse: Callable[[Any], T], raw: Any, complaint: str) -> T:
    """The parsed value. Raises BadConfig: ``complaint`` with the rule that the value breaks in place of ``{}``."""
    try:
        return parse(raw)
    except (TypeError, ValueError) as error:
        raise BadConfig(complaint.replace("{}", str(error))) from error


def _within_bounds(setting: Setting[T], value: T, origin: str) -> T:
    if isinstance(value, int | float) and value < setting.minimum:
        reason = f": {setting.reason}" if setting.reason else ""
        raise BadConfig(f"{origin} is {value}; write at least {setting.minimum:g}{reason}")
    if setting.choices and value not in setting.choices:
        raise BadConfig(f"{origin} is {value!r}; write {' or '.join(map(repr, setting.choices))}")
    return value

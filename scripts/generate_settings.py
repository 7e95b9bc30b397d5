"""Write docs/reference/settings.md from the table of settings. Run after a change of the table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spiderpool.settings import table
from spiderpool.settings.setting import AGENT, ALL, CLOUD, CONTROLLER, IN_CLUSTER, REPLICATED, Daemon, Setting

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "settings.md"

INTRODUCTION = f"""\
# Settings

Every daemon reads its environment and the file that `{table.CONFIG_FILE.variables[0]}` names, once, at start. The
default is `{table.CONFIG_FILE.default}`: the mounted ConfigMap. The file and its folders must belong to root, or
to the daemon's own user, and others may not write them (but a folder with the sticky bit, or on a read-only mount, as
a ConfigMap is); else the daemon does not start.

The [chart](../usage/install.md) writes `conf.yml` from its [values](values.md), mostly of the same names. What has no
value is set by `extraEnv` of the daemon.

A variable goes before a key of `conf.yml`, and of several names in one row the first that is set counts. An empty
variable counts as unset. A wrong value, and a key of `conf.yml` that does not exist, stop the daemon with a message
that names the variable or key, its value and what is allowed. Keys are written as paths: `cloud.provider` is the key
`provider` inside `cloud`.

A variable whose name is nearly one of these causes a warning in the log. These keys of Spiderpool are accepted, but not
read: {", ".join(f"`{key}`" for key in table.UNUSED_KEYS)}.

`scripts/generate_settings.py` makes this page from `src/spiderpool/settings/table.py`.
"""

SECTIONS = {
    ALL: "All daemons",
    IN_CLUSTER: "Agent and controller",
    AGENT: "Agent",
    CONTROLLER: "Controller",
    REPLICATED: "Controller and spiderpool-cloud",
    CLOUD: "spiderpool-cloud",
}


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join(
        [INTRODUCTION, *(line for readers, title in SECTIONS.items() for line in _section(readers, title))]
    )


def _section(readers: tuple[Daemon, ...], title: str) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| variable | key of conf.yml | value | default | meaning |"
    yield "|---|---|---|---|---|"
    yield from (_row(setting) for setting in table.SETTINGS if setting.readers == readers)
    yield ""


def _row(setting: Setting[Any]) -> str:
    meaning = f"{setting.help} ([more]({_link(setting.page)}))" if setting.page else setting.help
    cells = (_names(setting.variables), _names(setting.keys), _value(setting), default_text(setting), meaning)
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _value(setting: Setting[Any]) -> str:
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices if choice) + " or empty" * ("" in setting.choices)
    return setting.kind.name + (f", at least {setting.minimum:g}" if setting.minimum else "")


def default_text(setting: Setting[Any]) -> str:
    """The default of a setting, as the page shows it."""
    if setting.required:
        return f"required: `{setting.required.split()[0]}`"
    if setting.shown:
        return setting.shown
    match setting.default:
        case None | "" | ():
            return "none"
        case tuple():
            return _names(setting.default)
        case bool():
            return str(setting.default).lower()
        case int() | float():
            return f"{setting.default:g}"
        case _:
            return f"`{setting.default}`"


def _link(page: str) -> str:
    return os.path.relpath(ROOT / "docs" / page, PAGE.parent)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.relative_to(ROOT))

"""What is known of one setting, a row of the table, and who may read it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from spiderpool.settings.kinds import Kind

T = TypeVar("T")


class Daemon(enum.StrEnum):
    """A process that reads settings."""

    AGENT = "agent"
    CONTROLLER = "controller"
    CLOUD = "spiderpool-cloud"


ALL: Final = (Daemon.AGENT, Daemon.CONTROLLER, Daemon.CLOUD)
IN_CLUSTER: Final = (Daemon.AGENT, Daemon.CONTROLLER)
AGENT: Final = (Daemon.AGENT,)
CONTROLLER: Final = (Daemon.CONTROLLER,)
CLOUD: Final = (Daemon.CLOUD,)
REPLICATED: Final = (Daemon.CONTROLLER, Daemon.CLOUD)
"""The daemons that run as several replicas, of which one leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[T]):
    """One setting. A set variable goes before a key of conf.yml, and an earlier name before a later one."""

    kind: Kind[T]
    default: T
    help: str
    """One line for the reference page, in Markdown."""
    readers: tuple[Daemon, ...]
    variables: tuple[str, ...] = ()
    """Environment variables."""
    keys: tuple[str, ...] = ()
    """Keys of conf.yml, as paths with dots."""
    minimum: float = 0
    """Lower bound of a number, included."""
    reason: str = ""
    """Why the lower bound is what it is."""
    choices: tuple[str, ...] = ()
    """The values that are allowed; empty: any."""
    required: str = ""
    """What to set the variable to; empty: the variable may be missing."""
    shown: str = ""
    """The default in words for the reference page, where the value alone is not clear."""
    page: str = ""
    """The page of docs/ that explains the setting."""

    @property
    def names(self) -> tuple[str, ...]:
        """Variables, then keys, in the order in which they take precedence."""
        return self.variables + self.keys

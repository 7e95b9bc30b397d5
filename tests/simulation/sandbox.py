"""Sandboxes as a simulated container runtime knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sandbox:
    """What the runtime keeps on disk of a sandbox."""

    key: str
    uid: str
    container: str
    result: Any = None

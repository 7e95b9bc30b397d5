"""Names of labs that no other test run on this machine uses at the same time."""

from __future__ import annotations

import os


def lab_name(purpose: str) -> str:
    """A name for a lab of this test process, ``<purpose>-<pid>``."""
    return f"{purpose}-{os.getpid()}"

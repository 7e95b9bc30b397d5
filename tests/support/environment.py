"""The environment of processes that run our code."""

from __future__ import annotations

import os
from pathlib import Path

import spiderpool

SOURCES = Path(spiderpool.__file__).parents[1]
"""The folder that the tests import our code from: where several checkouts share a venv, it may have another's."""


def bare_environment(**variables: str) -> dict[str, str]:
    """What a process needs to run the same code as the tests, and nothing else of their environment."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), **variables}

"""Commands answer as in a pipe, whatever terminal the tests are started from."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable by which pytest-xdist tells its workers the width of the terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)

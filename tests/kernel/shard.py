"""Plugin of the pytest in a guest: of ``GUEST=0/2``, two guests' tests, it leaves the first guest's."""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After all other selection, every guest takes one test in turn."""
    number, _, guests = os.environ["GUEST"].partition("/")
    items[:] = items[int(number) :: int(guests)]

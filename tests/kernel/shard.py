"""Plugin of the pytest in a guest: of ``GUEST=0/2/7``, two guests' tests, it leaves the first guest's.

The last number says which of all tests the guests have together: every seventh, and the first of each file; 1 is all.
"""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After all other selection, every guest takes one test in turn."""
    number, guests, every = map(int, os.environ["GUEST"].split("/"))
    firsts = {item.path: item for item in reversed(items)}
    wanted = [item for index, item in enumerate(items) if index % every == 0 or firsts[item.path] is item]
    items[:] = wanted[number::guests]

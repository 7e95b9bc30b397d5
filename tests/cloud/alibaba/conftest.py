"""A simulated account for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spiderpool_lab.alibaba.account import Account
from tests.cloud.alibaba import simulation
from tests.cloud.alibaba.simulation import Far


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the machine's proxy."""
    simulation.without_proxy(monkeypatch)


@pytest.fixture
def account() -> Account:
    """An account with one vSwitch."""
    return simulation.new_account()


@pytest.fixture
async def far(account: Account, tmp_path: Path) -> AsyncIterator[Far]:
    """The served account."""
    async with simulation.served(account, tmp_path) as far:
        yield far

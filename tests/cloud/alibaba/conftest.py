"""A simulated account for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spiderpool_lab.alibaba.account import Account, ENIAddresses
from tests.cloud.alibaba import simulation
from tests.cloud.alibaba.simulation import SimulatedCloud


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the machine's proxy."""
    simulation.without_proxy(monkeypatch)


@pytest.fixture
def account() -> Account:
    """An account with one vSwitch."""
    return simulation.new_account()


@pytest.fixture
async def simulated(account: Account, tmp_path: Path) -> AsyncIterator[SimulatedCloud]:
    """The served account."""
    async with simulation.served(account, tmp_path) as simulated:
        yield simulated


@pytest.fixture
def balanced(simulated: SimulatedCloud) -> SimulatedCloud:
    """The account with two servers that have pods' addresses, 45 other servers, and a second zone."""
    simulated.account.add_vswitch("172.31.208.0/20", zone="cn-hangzhou-h", identity="vsw-2")
    for name in "ab":
        server = simulated.account.add_instance(name, identity=f"i-{name}").identity
        last = {"a": 10, "b": 20}[name]
        pods = tuple(f"172.31.192.{last + place}" for place in range(2))
        simulated.account.add_eni(
            "vsw-1", instance=server, identity=f"eni-{name}", addresses=ENIAddresses(secondaries=pods)
        )
    for number in range(45):
        simulated.account.add_eni(
            "vsw-2", instance=simulated.account.add_instance("n", identity=f"i-n{number}").identity
        )
    return simulated

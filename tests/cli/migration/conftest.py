"""An API server with the agents of both releases, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from spiderpool.cli.migration import steps as migration_steps
from spiderpool.kube.client import Client
from tests.cli.migration.other_release import KINDS, agents, config, node, ours
from tests.support.api_server import ApiServer


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(*(kind.KIND for kind in KINDS)) as made:
        made.put(agents(), ours(), config(), node("n1"), node("n2"))
        yield made


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with server.client() as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration_steps, "POLL", 0.01)

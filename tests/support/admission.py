"""A caller of our admission webhooks, over plain HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientSession

from spiderpool.controller.admission_server import AdmissionServer
from spiderpool.controller.webhooks import Webhooks


@asynccontextmanager
async def admission_caller(webhooks: Webhooks) -> AsyncIterator[ClientSession]:
    """A session whose paths are those of the webhooks."""
    async with (
        AdmissionServer(webhooks.by_path()).listening("127.0.0.1", 0) as port,
        ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield session

"""The leading controller where the cluster lacks something."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.api.spidernode import SpiderNode
from spiderpool.controller.certificates import Certificates
from spiderpool.controller.main import ControllerLeader
from spiderpool.settings import ControllerSettings
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit


async def test_without_the_crd_of_the_accounts_only_the_collection_waits() -> None:
    async with ApiServer() as server, server.client() as client:
        leader = ControllerLeader(client, ControllerSettings(identity="x"), Certificates(client, "kube-system", ()))
        (accounts,) = (each for each in leader._informers() if each._kind is SpiderNode)
        task = asyncio.create_task(accounts.run())
        await accounts.synced(5.0)
        assert accounts.items() == []
        task.cancel()
        await asyncio.wait([task])

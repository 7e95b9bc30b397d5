"""The parts of the history, read page by page."""

from __future__ import annotations

import pytest

from spiderpool.api.iphistory import IPHistorySpec, SpiderIPHistory
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.history import pack
from spiderpool.kube import histories
from spiderpool.kube.client import NotFound
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit


async def test_parts_come_in_their_order_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "PAGE", 2)
    async with ApiServer(SpiderIPHistory.KIND) as server, server.client() as client:
        for number in (11, 9, 10, 100, 8):
            data = pack(f"+{number}") if number != 10 else "rubbish"
            spec = IPHistorySpec("1970-01-01T00:00:00Z", 1, data)
            server.put(SpiderIPHistory.numbered(number, None, spec))
        server.put(SpiderIPHistory(metadata=ObjectMeta(name="mine"), spec=spec))
        found = [(number, text) async for number, _, text in histories.parts(client, timeout=5.0)]
        assert found == [(8, "+8"), (9, "+9"), (10, ""), (11, "+11"), (100, "+100")]
        assert server.requests["list"] == 3
    async with ApiServer() as server, server.client() as client:
        with pytest.raises(NotFound):
            await anext(histories.parts(client, timeout=5.0))

"""Evictions: which pod is meant, and what a refusal says."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.kube.client import Conflict, NotFound, TooManyRequests
from spiderpool.kube.evictions import evict
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

WEB = Pod(metadata=ObjectMeta(name="web", namespace="shop"))


async def test_a_pod_is_evicted_and_no_other_one_of_its_name() -> None:
    async with ApiServer(Pod.KIND) as server, server.client() as client:
        server.put(WEB)
        stored = server.stored(Pod)["shop/web"]
        with pytest.raises(Conflict):
            await evict(client, Pod(metadata=ObjectMeta(name="web", namespace="shop", uid="former")), timeout=5.0)
        assert not server.stored(Pod)["shop/web"].terminating
        await evict(client, stored, timeout=5.0)
        assert server.stored(Pod)["shop/web"].terminating
        with pytest.raises(NotFound):
            await evict(client, Pod(metadata=ObjectMeta(name="gone", namespace="shop", uid="u")), timeout=5.0)


async def test_a_refusal_names_the_budget() -> None:
    async with ApiServer(Pod.KIND) as server, server.client() as client:
        server.put(WEB)
        stored = server.stored(Pod)["shop/web"]
        server.forbid_evictions("web-budget")
        with pytest.raises(TooManyRequests, match="disruption budget web-budget needs 1 healthy pods"):
            await evict(client, stored, timeout=5.0)
        server.forbid_evictions("")
        server.inject(Fault("create", status=429))
        with pytest.raises(TooManyRequests, match="injected status 429"):
            await evict(client, stored, timeout=5.0)
        assert not server.stored(Pod)["shop/web"].terminating

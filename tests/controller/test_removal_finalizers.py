"""When an installation is removed, nothing of ours keeps its objects from being deleted."""

from __future__ import annotations

import pytest

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, Object, ObjectMeta
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec
from spiderpool.controller.removal import let_objects_go
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

THEIRS = "example.com/theirs"


def held(*names: str) -> tuple[Object, ...]:
    pool = IPPoolSpec(subnet="10.6.0.0/16", ips=["10.6.0.1"])
    return (
        SpiderIPPool(metadata=ObjectMeta(name="p", finalizers=[*names]), spec=pool),
        SpiderSubnet(metadata=ObjectMeta(name="s", finalizers=[*names]), spec=SubnetSpec(subnet="10.6.0.0/16")),
        SpiderCoordinator(metadata=ObjectMeta(name="c", finalizers=[*names])),
        SpiderEndpoint(metadata=ObjectMeta(name="e", namespace="default", finalizers=[*names])),
        SpiderReservedIP(metadata=ObjectMeta(name="r", finalizers=[*names])),
    )


@pytest.mark.parametrize("ours", [FINALIZER, FORMER_FINALIZER])
async def test_our_finalizers_go_and_those_of_others_stay(ours: str) -> None:
    objects = held(ours, THEIRS)
    async with ApiServer(*(obj.KIND for obj in objects)) as server, server.client() as client:
        server.put(*objects)
        server.inject(Fault("patch", status=409))  # another writer was there meanwhile
        await let_objects_go(client)
        for obj in objects:
            (stored,) = server.stored(type(obj)).values()
            assert stored.metadata.finalizers == [THEIRS]


async def test_kinds_that_are_gone_or_forbidden_keep_none_of_the_others() -> None:
    pool, *_, reserved = held(FINALIZER)
    async with ApiServer(pool.KIND, reserved.KIND) as server, server.client() as client:
        server.put(pool, reserved)
        server.inject(Fault("list", plural=pool.KIND.plural, status=403))
        await let_objects_go(client)
        assert not server.stored(SpiderReservedIP)["r"].metadata.finalizers
        assert server.stored(SpiderIPPool)["p"].metadata.finalizers == [FINALIZER]

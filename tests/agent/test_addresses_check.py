"""CHECK of addresses, without cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from spiderpool.agent.addresses import PodAddresses, PodPolicy
from spiderpool.api.cni import IPAMConfig
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.candidates import InterfaceRequest
from spiderpool.core.network.attachment import NetworkPolicy
from spiderpool.errors import Drift

pytestmark = pytest.mark.unit

POD = Pod(metadata=ObjectMeta(name="p", namespace="default", uid="u"))
HELD = SpiderIP(
    metadata=ObjectMeta(name="10-0-0-7"), spec=IPSpec("10.0.0.7/24", "a", "n1", "default", "p", "u", "eth0")
)


def addresses(*records: SpiderIP) -> PodAddresses:
    """The addresses of a node without any pool, whose pod holds some records."""
    cluster = SimpleNamespace(
        node_name="n1",
        pods=SimpleNamespace(subscribe=lambda callback: None),
        namespaces={},
        nodes={},
        pools=list,
        pool=lambda name: None,
    )
    allocator = SimpleNamespace(
        interfaces=lambda uid: tuple(record.spec.interface for record in records),
        held=lambda uid: {(record.spec.interface, 4): record for record in records},
    )
    return PodAddresses(cast(Any, cluster), cast(Any, allocator), cast(Any, None), PodPolicy(NetworkPolicy(None, "x")))


async def test_addresses_asked_for_are_kept_although_their_pool_is_no_default_pool_any_more() -> None:
    request = InterfaceRequest("eth0", IPAMConfig(type="spiderpool"), ("10.0.0.7",))
    (grant,) = await addresses(HELD).check(POD, request)
    assert grant.address == "10.0.0.7/24"
    with pytest.raises(Drift, match="holds no address"):
        await addresses().check(POD, request)

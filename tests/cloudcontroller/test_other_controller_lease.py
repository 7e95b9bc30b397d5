"""Whether the cloud's own controller runs, by its Lease."""

from __future__ import annotations

import pytest

from spiderpool.api.coordination_v1 import Lease, LeaseSpec
from spiderpool.api.core_v1 import Event
from spiderpool.api.meta import ObjectMeta
from spiderpool.cloudcontroller import other_controller
from spiderpool.cloudcontroller.other_controller import OtherController
from spiderpool.cloudcontroller.service_inputs import ServiceTimings
from spiderpool.cloudcontroller.service_state import ServiceStates
from spiderpool.kube.events import Recorder
from tests.cloudcontroller.service_cluster import OTHER
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_controller, "LEAST_PAUSE", 0.05)


def lease(holder: str) -> Lease:
    metadata = ObjectMeta(name=OTHER.lease, namespace=OTHER.namespace)
    return Lease(metadata=metadata, spec=LeaseSpec(holderIdentity=holder))


@pytest.mark.parametrize("left", [None, lease("")], ids=["no Lease", "nobody has it"])
async def test_where_nobody_has_the_lease_no_other_controller_runs(left: Lease | None) -> None:
    async with ApiServer(Lease.KIND, Event.KIND) as server, server.client() as client:
        server.put(*([left] if left else []))
        other = OtherController(client, ServiceStates(Recorder(client, "test"), ServiceTimings()), OTHER, 0.05)
        assert other.is_alive is None
        async with running(other.run()):
            await eventually(lambda: other.is_alive is False)


async def test_a_holder_that_renews_the_lease_runs_and_until_that_is_known_it_may() -> None:
    async with ApiServer(Lease.KIND, Event.KIND) as server, server.client() as client:
        server.put(lease("ccm-1"))
        other = OtherController(client, ServiceStates(Recorder(client, "test"), ServiceTimings()), OTHER, 0.05)
        await other._read(None)
        assert other.is_alive is None
        async with running(other.run()):
            await eventually(lambda: other.is_alive is False, "it has left its Lease behind")

            async def renewed() -> bool:
                held = await client.get(Lease, OTHER.lease, OTHER.namespace)
                body = {"spec": {"leaseTransitions": (held.spec.leaseTransitions or 0) + 1}}
                await client.patch(Lease, OTHER.lease, body, OTHER.namespace)
                return other.is_alive is True

            await eventually(renewed, "it renews it")


async def test_a_cloud_without_a_controller_of_its_own_has_none_that_runs() -> None:
    async with ApiServer(Lease.KIND, Event.KIND) as server, server.client() as client:
        other = OtherController(client, ServiceStates(Recorder(client, "test"), ServiceTimings()), None, 0.05)
        async with running(other.run()):
            await eventually(lambda: other.is_alive is False)

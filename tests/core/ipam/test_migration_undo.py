"""What the agent in Go finds when it gets nodes back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from spiderpool.api.meta import OwnerReference
from spiderpool.core.ipam.migration import convert
from spiderpool.core.ipam.migration_undo import go_endpoint, is_complete, kept_endpoint
from spiderpool.core.ipam.owners import Controller
from tests.support.go_cluster import MACHINE, REPLICA_SET, STATEFUL_SET, GoCluster

pytestmark = pytest.mark.unit

WEB = Controller("apps/v1", "Deployment", "shop", "web", "d-1")
ADDRESSES = {"eth0": {"four": "10.6.0.7", "six": "fd00::7"}, "net1": {"second": "10.7.0.7"}}


def cluster() -> GoCluster:
    made = GoCluster()
    made.pool("four", "10.6.0.0/24", "10.6.0.1-10.6.0.100", gateway="10.6.0.254")
    made.pool("six", "fd00::/64", "fd00::1-fd00::ffff")
    made.pool("second", "10.7.0.0/24", "10.7.0.1-10.7.0.100")
    return made


@pytest.mark.parametrize(
    ("name", "owner", "top"),
    [
        ("web-1", REPLICA_SET, WEB),
        ("db-0", STATEFUL_SET, Controller("apps/v1", "StatefulSet", "shop", "db", "sts-1")),
        ("virt-launcher-vm-x", MACHINE, None),
    ],
)
def test_an_endpoint_is_made_as_go_makes_it(name: str, owner: object, top: Controller | None) -> None:
    made = cluster()
    pod = made.pod(name, ADDRESSES, owner)  # type: ignore[arg-type]
    records = convert(made.state()).records
    assert go_endpoint(pod, records, made.pools, top) == made.endpoints[0]
    assert is_complete(made.endpoints[0], records)


def test_a_pod_that_holds_nothing_has_no_endpoint() -> None:
    made = cluster()
    pod = made.pod("web-1", ADDRESSES)
    cooling = [
        replace(each, spec=replace(each.spec, releasedAt="2026-01-01T00:00:00Z"))
        for each in convert(made.state()).records
    ]
    assert go_endpoint(pod, cooling, made.pools, WEB) is None
    assert is_complete(made.endpoints[0], cooling)


@pytest.mark.parametrize(("name", "owner"), [("db-0", STATEFUL_SET), ("virt-launcher-vm-x", MACHINE)])
def test_that_of_a_fixed_address_whose_pod_is_gone(name: str, owner: OwnerReference) -> None:
    made = cluster()
    made.pod(name, ADDRESSES, owner)
    assert kept_endpoint(convert(made.state()).records, made.pools) == made.endpoints[0]


def test_an_endpoint_that_lacks_an_address() -> None:
    made = cluster()
    made.pod("web-1", ADDRESSES)
    records = convert(made.state()).records
    (stored,) = made.endpoints
    assert not is_complete(None, records)
    assert not is_complete(
        replace(stored, metadata=replace(stored.metadata, deletionTimestamp="2026-01-01T00:00:00Z")), records
    )
    assert stored.status is not None
    stored.status.current.ips.pop()
    assert not is_complete(stored, records)

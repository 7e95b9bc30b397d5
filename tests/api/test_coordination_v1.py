"""Leases of leader election."""

from __future__ import annotations

import pytest

from spiderpool.api.coordination_v1 import Lease, LeaseSpec
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_lease() -> None:
    since, until = "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:05.000000Z"
    spec = {
        "holderIdentity": "controller-1",
        "leaseDurationSeconds": 15,
        "acquireTime": since,
        "renewTime": until,
        "leaseTransitions": 2,
    }
    lease = read({"metadata": {"name": "leader", "namespace": "kube-system"}, "spec": spec}, Lease)
    assert lease.spec == LeaseSpec("controller-1", 15, since, until, 2)
    assert lease.KIND.object_path("kube-system", "leader").endswith("/namespaces/kube-system/leases/leader")
    assert read({"metadata": {"name": "leader"}}, Lease).spec.holderIdentity is None

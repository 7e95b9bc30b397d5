"""Which changes of a node let Services be looked at again."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.core_v1 import NodeAddress
from spiderpool.cloudcontroller.service_backends import deciding_part
from tests.core.pretend_balancers import node

pytestmark = pytest.mark.unit


def test_what_decides_of_a_node_are_its_labels_taints_readiness_and_addresses() -> None:
    known = node("a")
    moved = msgspec.structs.replace(
        known, status=msgspec.structs.replace(known.status, addresses=[NodeAddress("InternalIP", "10.1.0.77")])
    )
    changed = [node("a", labels={"x": "y"}), node("a", unschedulable=True), node("a", ready=False), moved]
    assert all(deciding_part(each) != deciding_part(known) for each in changed)
    assert deciding_part(node("a")) == deciding_part(known)

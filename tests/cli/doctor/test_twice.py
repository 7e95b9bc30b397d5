"""`spiderpoolctl doctor`: addresses that two pods have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.api.core_v1 import Node, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint
from spiderpool.api.ip import FormerPod, IPOwner
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.doctor.diagnosis import diagnosis
from tests.cli.doctor.snapshots import NOW, account, diagnosed, found, pod, record, sandbox, snapshot

pytestmark = pytest.mark.unit


class TestTwice:
    """Addresses of two pods."""

    TWO = (
        account("n1", sandbox("a", "u", "10.0.0.5")),
        account("n2", sandbox("b", "v", "10.0.0.5")),
    )
    WHAT = "10.0.0.5 is in use twice: pod shop/a on node n1 and pod shop/b on node n2"

    def test_two_sandboxes_have_it(self) -> None:
        (one,) = diagnosed(*self.TWO, record(5, "b", "v", "n2"), pod("b", "v", "10.0.0.5", "n2")).findings
        assert (one.check, one.what) == ("address-twice", self.WHAT)
        assert one.remedy == "delete pod shop/a, so that it gets another address"

    def test_the_record_is_of_another_pod(self) -> None:
        objects = self.TWO[0], record(5, "b", "v", "n2"), pod("b", "v", "10.0.0.6", "n2")
        assert found(*objects)[0] == ("address-twice", self.WHAT)

    def test_a_virtual_machine_that_moves_has_it_twice(self) -> None:
        former = [FormerPod("n1", "a", "u", "1")]
        owner = IPOwner("VirtualMachineInstance", "shop", "vm")
        assert found(*self.TWO, record(5, "b", "v", "n2", movedFrom=former, owner=owner)) == []

    def test_a_static_pod_and_its_mirror_are_one(self) -> None:
        mirror = pod("a", "mirror", "10.0.0.5")
        mirror.metadata.annotations = {"kubernetes.io/config.hash": "u"}
        assert found(self.TWO[0], mirror, record(5, "a", "u")) == []

    @pytest.mark.parametrize("why", ["fenced", "out-of-service", "booted"])
    def test_what_a_stopped_node_had_is_in_use_no_more(self, why: str) -> None:
        boot = "later" if why == "booted" else "boot"
        told = account("n2", sandbox("db-0", "u", "10.0.0.5"))
        assert told.status is not None
        told.status.bootID = "boot"
        told.spec.fencedBootID = "boot" if why == "fenced" else None
        taints = [Taint("node.kubernetes.io/out-of-service")] if why == "out-of-service" else []
        ready = NodeCondition("Ready", "True" if why == "booted" else "Unknown")
        status = NodeStatus([ready], nodeInfo=NodeSystemInfo(boot))
        stopped = Node(metadata=ObjectMeta(name="n2"), spec=NodeSpec(taints=taints), status=status)
        whole = snapshot(record(5, "db-0", "v"), pod("db-0", "v", "10.0.0.5"), told)
        whole = replace(whole, installation=replace(whole.installation, nodes=(stopped,)))
        assert not [each.what for each in diagnosis(whole, {}, NOW).findings if each.check == "address-twice"]

    def test_a_pod_is_not_to_be_deleted_whose_name_the_healthy_one_has(self) -> None:
        both = account("n1", sandbox("db-0", "v", "10.0.0.5")), account("n2", sandbox("db-0", "u", "10.0.0.5"))
        one = next(each for each in diagnosed(record(5, "db-0", "v"), *both).findings if each.check == "address-twice")
        assert one.remedy.startswith("delete no pod: both are called shop/db-0")
        assert one.remedy.endswith("spiderpoolctl node fence n2")

    def test_it_comes_before_what_follows_from_it(self) -> None:
        assert [check for check, _ in found(*self.TWO)] == ["address-twice", "address-unrecorded"]

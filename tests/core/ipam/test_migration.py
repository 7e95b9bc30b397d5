"""What becomes of the records of the agent in Go: taken over, held back, or free, and why."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.ip import FormerPod, IPOwner, SpiderIP
from spiderpool.api.ippool import IPPoolStatus
from spiderpool.api.kubevirt import MIGRATION_ANNOTATION, VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.core.ipam.gc import MIRROR_POD_ANNOTATION, STATIC_POD_ANNOTATION
from spiderpool.core.ipam.migration import Conversion, Fate, GoState, convert, held_name, sticky_owner_of
from tests.support.go_cluster import MACHINE, REPLICA_SET, STATEFUL_SET, GoCluster, pod

pytestmark = pytest.mark.unit

ETH0 = {"eth0": {"four": "10.6.0.7"}}


def cluster() -> GoCluster:
    made = GoCluster()
    made.pool("four", "10.6.0.0/24", "10.6.0.1-10.6.0.100")
    made.pool("six", "fd00::/64", "fd00::1-fd00::ffff")
    made.pool("second", "10.7.0.0/24", "10.7.0.1-10.7.0.100")
    return made


def shown(found: Conversion) -> dict[str, str]:
    return {each.subject: f"{each.fate}: {each.reason}" for each in found.findings}


def holders(found: Conversion) -> dict[str, str]:
    return {each.name: f"{each.spec.pod} {each.spec.podUID} {each.spec.interface}" for each in found.records}


def reason(made: GoCluster, fate: Fate = Fate.HELD, **facts: Any) -> str:
    """The only finding, of an address that is not taken over."""
    found = convert(made.state(**facts))
    assert found.records == ()
    (finding,) = found.findings
    assert finding.fate is fate
    assert finding.addresses is not None
    assert found.held[4] == (finding.addresses if fate is Fate.HELD else found.held[4] - finding.addresses)
    return finding.reason


def test_a_pod_keeps_its_addresses_of_both_families_and_all_interfaces() -> None:
    made = cluster()
    made.pod("web", {"eth0": {"four": "10.6.0.7", "six": "fd00::7"}, "net1": {"second": "10.7.0.7"}})
    found = convert(made.state())
    assert found.findings == ()
    assert holders(found) == {
        "10.6.0.7": "web uid-of-web eth0",
        "10.7.0.7": "web uid-of-web net1",
        "fd00-0000-0000-0000-0000-0000-0000-0007": "web uid-of-web eth0",
    }
    first = found.records[0]
    assert first.metadata.labels == {"ipam.spidernet.io/node": "n1", "ipam.spidernet.io/ippool": "four"}
    assert (first.spec.address, first.spec.pool, first.spec.node, first.spec.owner) == (
        "10.6.0.7/24",
        "four",
        "n1",
        None,
    )


def test_the_owner_of_a_fixed_address_is_written() -> None:
    made = cluster()
    made.pod("db-0", ETH0, STATEFUL_SET)
    made.pod("virt-launcher-vm-x", {"eth0": {"four": "10.6.0.8"}}, MACHINE)
    stateful, machine = convert(made.state()).records
    assert stateful.spec.owner == IPOwner("StatefulSet", "shop", "db")
    assert "ipam.spidernet.io/owner" in (stateful.metadata.labels or {})
    assert machine.spec.owner == IPOwner("VirtualMachineInstance", "shop", "vm")
    assert machine.spec.pod == "virt-launcher-vm-x"


def test_without_the_settings_nobody_owns_an_address() -> None:
    made = cluster()
    made.pod("db-0", ETH0, STATEFUL_SET)
    (record,) = convert(made.state(keeps_statefulsets=False)).records
    assert record.spec.owner is None


def test_a_terminating_pod_keeps_its_address_and_so_does_one_that_has_finished() -> None:
    made = cluster()
    made.pod("ending", ETH0, deleted=True)
    made.pod("done", {"eth0": {"four": "10.6.0.8"}}, phase="Succeeded")
    found = convert(made.state())
    assert len(found.records) == 2
    assert shown(found) == {"10.6.0.8": "taken over: its pod has finished: garbage collection releases it"}
    assert not found.held[4]


def test_a_static_pod_is_known_to_the_plugin_by_another_uid() -> None:
    made = cluster()
    made.pod("static", ETH0, annotations={MIRROR_POD_ANNOTATION: "hash", STATIC_POD_ANNOTATION: "hash"})
    (record,) = convert(made.state()).records
    assert record.spec.podUID == "hash"


def test_a_pod_that_claims_the_uid_of_another_gets_nothing_by_it() -> None:
    """Annotations are the user's."""
    made = cluster()
    made.pod("web", ETH0)
    claim = {STATIC_POD_ANNOTATION: "uid-of-web"}
    made.pod("thief", {"eth0": {"four": "10.6.0.8"}}, annotations=claim)
    found = convert(made.state())
    assert found.findings == ()
    assert holders(found) == {"10.6.0.7": "web uid-of-web eth0", "10.6.0.8": "thief uid-of-thief eth0"}


def test_an_address_without_a_pod_is_free() -> None:
    made = cluster()
    made.record(pod("gone", ETH0), ETH0)
    assert reason(made, Fate.FREE) == "pool four for pod shop/gone: that pod is gone"


def test_an_address_that_two_records_name_is_nobodys() -> None:
    made = cluster()
    made.pool("other", "10.6.0.0/24", "10.6.0.7")
    made.pod("a", ETH0)
    made.pod("b", {"eth0": {"other": "10.6.0.7"}})
    made.pod("c", {"eth0": {"four": "10.6.0.8"}})
    found = convert(made.state())
    assert holders(found) == {"10.6.0.8": "c uid-of-c eth0"}
    assert shown(found) == {
        "10.6.0.7": "held back: two records name it: pool four for pod shop/a and pool other for pod shop/b"
    }
    assert found.held[4].ranges() == ["10.6.0.7"]
    assert found.of(["second"]) == Conversion((), ())
    assert len(found.of(["other"]).findings) == 1


def test_a_pool_whose_records_cannot_be_read_gives_nothing() -> None:
    made = cluster()
    state = made.state()
    made.pools["four"].status = IPPoolStatus(allocatedIPs="{")
    found = convert(state)
    assert list(shown(found)) == ["SpiderIPPool four"]
    assert "held back: status.allocatedIPs is no JSON" in shown(found)["SpiderIPPool four"]
    assert found.held[4].ranges() == ["10.6.0.1-10.6.0.100"]


def test_a_record_that_cannot_be_read_holds_its_pool_back() -> None:
    made = cluster()
    made.pod("web", ETH0)
    made.records["four"]["10.6.0.8"] = {"pod": "shop/x"}
    found = convert(made.state())
    assert len(found.records) == 1
    assert "'10.6.0.8': does not say which pod has it" in shown(found)["SpiderIPPool four"]
    assert found.held[4].ranges() == ["10.6.0.1-10.6.0.100"]


def test_a_pool_that_no_agent_can_read_is_reported() -> None:
    made = cluster()
    made.pool("broken", "10.8.0.0/24", "ten")
    made.records["broken"]["x"] = {}
    found = convert(made.state())
    assert "no agent can read its spec.ips" in shown(found)["SpiderIPPool broken"]
    assert not found.held[4]


def test_a_pool_whose_subnet_cannot_be_read() -> None:
    made = cluster()
    made.pod("web", ETH0)
    made.pod("db", {"eth0": {"second": "10.7.0.7"}})
    made.pools["four"].spec.subnet = "10.6.0.0/240"
    found = convert(made.state())
    assert holders(found) == {"10.7.0.7": "db uid-of-db eth0"}
    assert "its subnet cannot be read" in shown(found)["10.6.0.7"]


def test_a_record_with_the_name_of_another_pod() -> None:
    made = cluster()
    made.pod("web", ETH0)
    made.records["four"]["10.6.0.7"]["pod"] = "shop/other"
    assert "the pod with the UID uid-of-web is shop/web" in reason(made)


def test_an_endpoint_that_does_not_exist() -> None:
    made = cluster()
    made.pod("web", ETH0)
    made.endpoints.clear()
    assert reason(made) == "pool four for pod shop/web: no SpiderEndpoint of that pod names it"


def test_one_address_on_two_interfaces() -> None:
    made = cluster()
    made.pod("web", {"eth0": {"four": "10.6.0.7"}, "net1": {"four": "10.6.0.7"}})
    assert "names it for 2 interfaces" in reason(made)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ipv4Pool": "second"}, "SpiderEndpoint shop/web names pool second"),
        ({"ipv4": "10.6.0.7/16"}, "names it as 10.6.0.7/16, in the subnet 10.6.0.0/24"),
        ({"interface": ""}, "names no interface for it"),
    ],
)
def test_an_endpoint_that_disagrees(change: dict[str, str], expected: str) -> None:
    made = cluster()
    made.pod("web", ETH0)
    status = made.endpoints[0].status
    assert status is not None
    status.current.ips = [replace(each, **change) for each in status.current.ips]
    assert expected in reason(made)


@pytest.mark.parametrize(("node", "said"), [("n2", "n2"), ("", "none")])
def test_an_endpoint_with_another_node(node: str, said: str) -> None:
    made = cluster()
    made.pod("web", ETH0)
    status = made.endpoints[0].status
    assert status is not None
    status.current.node = node
    assert f"names node {said}, and the pod is on n1" in reason(made)


def test_an_address_outside_its_pool() -> None:
    made = cluster()
    made.pod("web", {"eth0": {"four": "10.9.0.7"}})
    assert "it is outside the subnet 10.6.0.0/24" in reason(made)


def test_another_pod_whose_endpoint_names_the_address() -> None:
    made = cluster()
    made.pod("web", ETH0)
    made.endpoint(made.pod("other", {}), ETH0)
    assert "SpiderEndpoint shop/other names it for another pod" in reason(made)


def test_another_pod_that_reports_the_address() -> None:
    made = cluster()
    made.pod("web", ETH0)
    made.pods.append(pod("other", ETH0))
    assert "pod shop/other reports it as well" in reason(made)


def test_an_address_without_record_that_an_endpoint_names() -> None:
    made = cluster()
    made.endpoint(made.pod("web", {}), ETH0)
    assert reason(made) == "SpiderEndpoint shop/web names it, and no pool has a record of it"
    made.pods.clear()
    made.endpoints.pop(0)
    assert "whose pod is gone, and no pool" in reason(made, Fate.FREE)


def test_an_address_without_record_that_a_pod_reports() -> None:
    made = cluster()
    made.pods.append(pod("web", ETH0))
    assert reason(made) == "pod shop/web reports it, and no pool has a record of it"
    made.pods[0].spec.hostNetwork = True
    assert convert(made.state()) == Conversion((), ())


def test_a_record_of_a_pod_that_is_gone_whose_address_another_has() -> None:
    made = cluster()
    made.record(pod("gone", ETH0), ETH0)
    made.pods.append(pod("web", ETH0))
    assert reason(made) == "pool four for pod shop/gone: that pod is gone, and pod shop/web has it"


def owned(made: GoCluster, name: str = "db-0", owner: OwnerReference = STATEFUL_SET) -> None:
    """A pod that is gone, with its fixed address."""
    made.pod(name, ETH0, owner)
    made.pods.clear()


def test_a_statefulset_keeps_the_address_of_a_pod_that_is_gone() -> None:
    made = cluster()
    owned(made)
    made.statefulset("db", 1)
    found = convert(made.state())
    assert shown(found) == {"10.6.0.7": "taken over: its pod is gone: StatefulSet shop/db keeps it"}
    (record,) = found.records
    assert (record.spec.pod, record.spec.podUID, record.spec.node) == ("db-0", "uid-of-db-0", "n1")
    assert record.spec.owner == IPOwner("StatefulSet", "shop", "db")


def test_a_statefulset_that_needs_the_address_no_more() -> None:
    made = cluster()
    owned(made)
    assert "StatefulSet shop/db needs it no more" in reason(made, Fate.FREE)
    made.statefulset("db", 1)
    assert "that pod is gone" in reason(made, Fate.FREE, keeps_statefulsets=False)


def test_a_fixed_address_that_is_in_doubt() -> None:
    made = cluster()
    owned(made)
    made.statefulset("db", 1)
    status = made.endpoints[0].status
    assert status is not None
    status.current.ips[0].ipv4Pool = "second"
    assert "names pool second" in reason(made)


def test_a_virtual_machine_that_moves_live() -> None:
    """Its record and SpiderEndpoint name the pod that it moves to; the other one still reports the address."""
    made = cluster()
    source = pod("virt-launcher-vm-a", ETH0, MACHINE)
    made.pods.append(source)
    target = {"annotations": {MIGRATION_ANNOTATION: "move"}, "node": "n2"}
    made.pod("virt-launcher-vm-b", {**ETH0, "net1": {"second": "10.7.0.7"}}, MACHINE, **target)
    found = convert(made.state())
    assert found.findings == ()
    assert {(each.spec.pod, each.spec.node) for each in found.records} == {("virt-launcher-vm-b", "n2")}
    former = FormerPod("n1", "virt-launcher-vm-a", "uid-of-virt-launcher-vm-a", "0")
    assert [each.spec.movedFrom for each in found.records] == [[former]] * 2, "pods report no further interfaces"


@pytest.mark.parametrize(
    ("owner", "moves", "keeps_machines"),
    [(MACHINE, False, True), (MACHINE, True, False), (replace(MACHINE, name="other"), True, True)]
    + [(REPLICA_SET, True, keeps_machines) for keeps_machines in (True, False)],
)
def test_another_pod_that_no_machine_moves_from(owner: OwnerReference, moves: bool, keeps_machines: bool) -> None:
    made = cluster()
    made.pods.append(pod("other", ETH0, owner))
    made.pod("virt-launcher-vm-b", ETH0, MACHINE, annotations={MIGRATION_ANNOTATION: "move"} if moves else None)
    assert "pod shop/other reports it as well" in reason(made, keeps_machines=keeps_machines)


@pytest.mark.parametrize("kind", [VirtualMachine, VirtualMachineInstance])
def test_a_virtual_machine_keeps_its_address(kind: type[VirtualMachine] | type[VirtualMachineInstance]) -> None:
    made = cluster()
    owned(made, "virt-launcher-vm-x", MACHINE)
    exists = {"shop/vm": kind(metadata=ObjectMeta(name="vm", namespace="shop"))}
    facts = {"machines" if kind is VirtualMachine else "instances": exists}
    (record,) = convert(made.state(**facts)).records
    assert record.spec.owner == IPOwner("VirtualMachineInstance", "shop", "vm")
    assert convert(made.state(keeps_machines=False, **facts)).records == ()


def existing(uid: str) -> SpiderIP:
    made = cluster()
    made.pod("web", ETH0, uid=uid)
    return convert(made.state()).records[0]


def test_a_spiderip_that_exists_already() -> None:
    made = cluster()
    made.pod("web", ETH0)
    assert len(convert(made.state(records=(existing("uid-of-web"),))).records) == 1
    assert reason(made, records=(existing("other"),)) == "its SpiderIP exists already, for pod shop/web"


@pytest.mark.parametrize("left", [True, False])
def test_a_spiderip_of_the_pod_that_has_the_address_now(left: bool) -> None:
    """Our agents have given it, and nodes move again: one that has joined anew, or after some were given back."""
    made = cluster()
    if left:
        made.record(pod("gone", ETH0), ETH0)
    new = pod("new", ETH0)
    made.pods.append(new)
    (of_new,) = convert(single("new").state()).records
    assert convert(made.state(records=(of_new,))) == Conversion((), ())
    released = replace(of_new, spec=replace(of_new.spec, releasedAt="2026-01-01T00:00:00Z"))
    assert "10.6.0.7" in shown(convert(made.state(records=(released,))))
    made.endpoint(pod("other", ETH0), ETH0)
    made.pods.append(pod("other", {}))
    assert "10.6.0.7" in shown(convert(made.state(records=(of_new,))))


def single(name: str) -> GoCluster:
    """A cluster with one pod."""
    made = cluster()
    made.pod(name, ETH0)
    return made


def test_an_endpoint_that_cannot_be_read_is_reported() -> None:
    made = cluster()
    made.endpoint(pod("web", {}), {"eth0": {"four": "ten"}})
    assert shown(convert(made.state())) == {
        "SpiderEndpoint shop/web": "free: SpiderEndpoint shop/web names 'ten/24': not an IPv4 address"
    }


def test_an_endpoint_without_status_has_no_owner() -> None:
    made = cluster()
    made.pod("web", ETH0)
    made.endpoints[0].status = None
    assert sticky_owner_of(made.endpoints[0]) is None


def test_names_of_reservations() -> None:
    assert held_name(4) == "held-by-migration-v4"


def test_a_state_may_be_empty() -> None:
    assert convert(GoState((), (), ())) == Conversion((), ())

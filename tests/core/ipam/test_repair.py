"""Which records are missing, and what they have to say."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spidernode import NodeSandbox, SandboxInterface
from spiderpool.core.ipam.repair import UnrecordedAddress, is_shared, made_again, record_of, unrecorded

pytestmark = pytest.mark.unit

ETH0 = SandboxInterface("eth0", None, ["10.0.0.1", "10.0.0.2", "FD00::1"])
SANDBOX = NodeSandbox("u", "default", "web", "c", [ETH0, SandboxInterface("veth0")])


def record(address: str = "10.0.0.1/24", owner: IPOwner | None = None, **spec: Any) -> SpiderIP:
    made = IPSpec(address, "p", "n1", "default", "web", "u", "eth0", owner)
    metadata = ObjectMeta(name=address.partition("/")[0], uid="x", resourceVersion="7", labels={"a": "b"})
    return SpiderIP(metadata=metadata, spec=replace(made, **spec))


def pool(name: str, ips: str, **spec: Any) -> SpiderIPPool:
    six = ":" in ips
    fields: dict[str, Any] = {"subnet": "fd00::/64" if six else "10.0.0.0/24", "ips": [ips]} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**fields))


def found(address: str) -> UnrecordedAddress:
    return UnrecordedAddress(SANDBOX, "eth0", address)


def test_addresses_of_interfaces_without_a_record() -> None:
    assert [each.address for each in unrecorded([SANDBOX], [])] == ["10.0.0.1", "10.0.0.2", "fd00::1"]
    assert [each.address for each in unrecorded([SANDBOX], [record()])] == ["fd00::1"]
    elsewhere = record(interface="net1")
    assert len(list(unrecorded([SANDBOX], [elsewhere]))) == 3
    assert len(list(unrecorded([SANDBOX], [record(releasedAt="2026-01-01T00:00:00Z")]))) == 3
    mapped = replace(SANDBOX, interfaces=[SandboxInterface("eth0", None, ["::ffff:a00:1"])])
    assert [each.address for each in unrecorded([mapped], [])] == ["::ffff:10.0.0.1"], "as records write it"
    assert found("fd00::1").name == "fd00-0000-0000-0000-0000-0000-0000-0001"


@pytest.mark.parametrize("sandbox", [replace(SANDBOX, podUID=""), replace(SANDBOX, interfaces=None)])
def test_sandboxes_of_which_nothing_is_known(sandbox: NodeSandbox) -> None:
    assert list(unrecorded([sandbox], [])) == []


def test_a_pool_that_gives_the_address_decides() -> None:
    pools = [
        pool("b", "10.0.0.1-10.0.0.9"),
        pool("a", "10.0.0.1-10.0.0.9"),
        pool("own", "10.0.0.1", nodeName=["n1"]),
        pool("broken", "10.0.0.1-"),
        pool("six", "fd00::1"),
    ]
    owner = IPOwner("StatefulSet", "default", "web")
    made = record_of(found("10.0.0.1"), "n1", pools, owner)
    assert made is not None
    assert (made.name, made.spec.pool, made.spec.address) == ("10.0.0.1", "own", "10.0.0.1/24")
    assert (made.spec.podUID, made.spec.interface, made.spec.node, made.spec.owner) == ("u", "eth0", "n1", owner)
    assert [(other := record_of(found(text), "n1", pools, None)) and other.spec.pool for text in ("10.0.0.2",)] == ["a"]
    six = record_of(found("fd00::1"), "n1", pools, None)
    assert six is not None
    assert six.spec.address == "fd00::1/64"
    excluding = [pool("p", "10.0.0.1-10.0.0.9", excludeIPs=["10.0.0.2"])]
    assert record_of(found("10.0.0.2"), "n1", excluding, None) is None
    assert record_of(found("10.0.0.77"), "n1", pools, None) is None


def test_a_record_that_was_deleted_is_made_as_it_was() -> None:
    again = made_again(record())
    assert (again.spec, again.metadata.labels, again.metadata.uid) == (record().spec, {"a": "b"}, None)
    assert again.metadata.resourceVersion is None


def test_pods_of_one_machine_share_its_address_while_it_moves() -> None:
    machine, statefulset = (IPOwner(kind, "default", "m") for kind in ("VirtualMachineInstance", "StatefulSet"))
    assert is_shared(record(owner=machine), record(owner=machine, podUID="target"))
    assert not is_shared(record(owner=machine), record())
    assert not is_shared(record(owner=statefulset), record(owner=statefulset))

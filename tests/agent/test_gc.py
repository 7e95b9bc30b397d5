"""GC: what belongs to no pod any more goes, what a live pod has stays, and failures hinder nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from spiderpool_lab.control_plane import ControlPlane
from tests.agent.attaching_node import (
    ATTACH,
    COORDINATOR,
    NEWEST,
    PATIENCE,
    AttachingNode,
    attaching_node,
    ipam,
    macvlan,
    network,
)
from tests.agent.runtime import Json, Refusal
from tests.kernel.questions import ETH0, NET1
from tests.support.eventually import wait_until

pytestmark = [pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180)]

POD = [ETH0[4].pod, ETH0[6].pod]
CLASSIC = network("classic-eth1", macvlan("eth1", "eth1-v4"), COORDINATOR, version="1.0.0")
COORDINATED: Json = {"cniVersion": "1.1.0", "name": "classic-eth1", "plugins": [COORDINATOR]}
ADDRESSES: Json = {
    "cniVersion": "1.1.0",
    "name": "classic-eth1",
    "plugins": [{"type": "spiderpool", "ipam": ipam("eth1-v4")}],
}


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttachingNode]:
    with attaching_node(control_plane, tmp_path_factory.mktemp("node")) as node:
        node.network("coordinated", macvlan("eth1", "eth1-v4"), {"type": "tuning", "mtu": 1400}, COORDINATOR)
        yield node


@pytest.fixture(autouse=True)
def clean(node: AttachingNode) -> Iterator[None]:
    yield
    node.end_pods()
    assert [*node.files(), *node.host_side()] == []


def test_sandboxes_that_are_not_listed_go_with_all_that_was_theirs(node: AttachingNode) -> None:
    pod = node.pod("stale", networks="coordinated")
    node.runtime.add(ATTACH, pod)
    node.runtime.collect(NEWEST, [(pod, "eth0")])
    assert len(node.files()) == 2
    assert sorted(node.links(pod.netns)) == ["eth0", "net1", "veth0"]
    node.end("stale")
    node.runtime.collect(NEWEST, [])
    assert (node.files(), node.links(pod.netns), node.host_side()) == ([], [], [])
    wait_until(lambda: node.records() == {}, "release", timeout=PATIENCE)


def test_addresses_of_a_live_pod_stay_though_its_sandbox_is_stale(node: AttachingNode) -> None:
    pod = node.pod("living")
    node.runtime.add(ATTACH, pod)
    node.runtime.collect(NEWEST, [])
    assert (node.files(), sorted(node.records())) == ([], sorted(POD))
    again = node.sandbox("living")
    result = node.runtime.add(ATTACH, again)
    assert node.addresses(again.netns, "eth0") == POD
    node.runtime.delete(ATTACH, again, result)


def test_host_ends_and_routes_without_a_sandbox(node: AttachingNode) -> None:
    pod = node.pod("here")
    result = node.runtime.add(ATTACH, pod)
    mine = f"veth{pod.identifier[:11]}"
    lines = [
        "link add veth0123456789a type veth peer name left0",
        "link add vethwepl1234567 type veth peer name weave0",
        "link add vethffffffffff1 type veth peer name live0",
        *(
            f"link set {name} up"
            for name in ("veth0123456789a", "vethwepl1234567", "vethffffffffff1", "left0", "weave0", "live0")
        ),
        "route add 172.31.199.99 dev veth0123456789a table 500",
        "route add 192.168.0.99 dev vethwepl1234567 table 500",
        f"route replace {ETH0[4].pod} dev vethffffffffff1 table 500 metric 5",
        "route add 198.18.9.9 dev vethwepl1234567 table 700",
    ]
    node.world.batch(node.world.node, *lines)
    node.runtime.collect(NEWEST, [(pod, "eth0")])
    assert sorted({*node.links(node.world.node)}) == sorted(
        ["eth0", "eth1", mine, "vethwepl1234567", "weave0", "vethffffffffff1", "live0"]
    )
    routes = node.world.ip(node.world.node, "route", "show", "table", "500")
    assert ("192.168.0.99" in routes, routes.count(ETH0[4].pod)) == (False, 2)
    assert "198.18.9.9" in node.world.ip(node.world.node, "route", "show", "table", "700")
    node.runtime.delete(ATTACH, pod, result)


def test_the_coordinators_part_goes_by_network(node: AttachingNode) -> None:
    pod, other = node.pod("one"), node.pod("other")
    node.runtime.add(CLASSIC, pod)
    foreign = network("another", macvlan("eth0", "eth0-v4"), COORDINATOR, version="1.0.0")
    node.runtime.add(foreign, other)
    node.runtime.collect(COORDINATED, [(pod, "eth0")])
    assert len(node.files()) == 2
    node.runtime.collect(COORDINATED, [])
    assert (node.files(), node.links(pod.netns)) == ([f"{other.identifier}.json"], ["eth0"])
    node.runtime.collect(NEWEST, [])
    assert node.links(other.netns) == ["eth0", "veth0"]
    for container, net in ((pod, CLASSIC), (other, foreign)):
        node.runtime.delete(net, container, {})


def test_addresses_alone(node: AttachingNode) -> None:
    pod = node.pod("addressed")
    node.runtime.add(CLASSIC, pod)
    node.runtime.collect(ADDRESSES, [])
    assert list(node.records()) == [NET1[4].pod]
    node.end("addressed")
    node.runtime.collect(ADDRESSES, [])
    assert list(node.records()) == [NET1[4].pod], "its sandbox runs on"
    node.remove(pod)
    node.runtime.collect(ADDRESSES, [])
    wait_until(lambda: node.records() == {}, "release", timeout=PATIENCE)
    node.runtime.delete(CLASSIC, pod, {})


@contextmanager
def replaced(executables: Path, name: str, script: str) -> Iterator[Path]:
    """A script in the place of a plugin; the plugin that it replaces."""
    file = executables / name
    whole = file.readlink()
    file.unlink()
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    try:
        yield whole
    finally:
        file.unlink()
        file.symlink_to(whole)


@contextmanager
def broken(executables: Path, name: str) -> Iterator[None]:
    """A plugin that fails."""
    with replaced(executables, name, 'echo \'{"code": 7, "msg": "out of order"}\'\nexit 1'):
        yield


@contextmanager
def slowed(executables: Path, name: str) -> Iterator[Path]:
    """A plugin that takes five seconds; the file that is there once it runs."""
    begun = executables / f"{name}-begun"
    with replaced(executables, name, f"touch {begun}\nsleep 5\nexec {(executables / name).readlink()}"):
        yield begun
    begun.unlink()


def test_failures_are_told_at_the_end(node: AttachingNode) -> None:
    node.delete_pods()
    stuck, stale = node.pod("stuck", first="default/coordinated"), node.pod("stale")
    for pod in (stuck, stale):
        node.runtime.add(ATTACH, pod)
    node.end("stuck", "stale")
    with broken(node.runtime.executables, "tuning"), pytest.raises(Refusal) as caught:
        node.runtime.collect(NEWEST, [])
    assert (caught.value.code, "out of order" in caught.value.message) == (102, True)
    assert node.files() == [f"{stuck.identifier}.json"]
    wait_until(
        lambda: node.records() == {},
        "release of both: the plugins beside the broken one have done their part",
        timeout=PATIENCE,
    )


def test_without_the_api_server_sandboxes_go_and_addresses_stay(node: AttachingNode) -> None:
    pod, gone = node.pod("offline"), node.pod("gone", first="default/coordinated")
    node.runtime.add(ATTACH, pod)
    node.runtime.add(ATTACH, gone)
    node.disconnect()
    try:
        node.end("gone")
        node.runtime.collect(ADDRESSES, [])
        node.runtime.delete(ATTACH, gone, {})
        assert node.files() == [f"{pod.identifier}.json"]
        assert len(node.records()) == 3
    finally:
        node.connect()
    wait_until(lambda: sorted(node.records()) == sorted(POD), "the release that was put off", timeout=30)
    node.runtime.delete(ATTACH, pod, {})


@pytest.mark.parametrize("plugin", ["spiderpool-attach", "spiderpool", "coordinator"])
@pytest.mark.parametrize(("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")])
def test_commands_that_a_version_does_not_have(node: AttachingNode, plugin: str, command: str, version: str) -> None:
    older = NEWEST | {"cniVersion": version}
    with pytest.raises(Refusal, match=f"{command} came with CNI") as caught:
        node.runtime.execute(command, older, {"type": plugin}, {})
    assert caught.value.code == 1


def test_a_collection_that_lists_nothing_at_all_removes_only_what_has_no_namespace(node: AttachingNode) -> None:
    gone, pod = node.pod("gone", networks="coordinated"), node.pod("listed", first="default/coordinated")
    node.runtime.add(ATTACH, gone)
    node.remove(gone)
    node.end("gone")
    for plugin in ("spiderpool-attach", "coordinator"):
        assert node.runtime.execute("GC", NEWEST, {"type": plugin}, {}) == {}
    assert node.files() == []
    wait_until(lambda: node.records() == {}, "release", timeout=PATIENCE)
    result = node.runtime.add(ATTACH, pod)
    for plugin in ("spiderpool-attach", "coordinator"):
        assert node.runtime.execute("GC", NEWEST, {"type": plugin}, {}) == {}
    older = {"cni.dev/attachments": [{"containerID": pod.identifier, "ifname": "eth0"}]}
    assert node.runtime.execute("GC", NEWEST, {"type": "spiderpool-attach"} | older, {}) == {}
    node.runtime.check(ATTACH, pod, result)
    node.runtime.delete(ATTACH, pod, result)


def test_sandboxes_of_another_list_stay(node: AttachingNode) -> None:
    pod = node.pod("other")
    other = ATTACH | {"name": "another"}
    result = node.runtime.add(other, pod)
    node.runtime.collect(NEWEST, [])
    node.runtime.check(other, pod, result)
    node.runtime.collect(NEWEST | {"name": "another"}, [])
    assert node.links(pod.netns) == []


def test_a_sandbox_that_comes_during_a_collection_stays(node: AttachingNode) -> None:
    stale, new = node.pod("stale", first="default/coordinated"), node.pod("new")
    node.runtime.add(ATTACH, stale)
    with slowed(node.runtime.executables, "tuning") as begun, ThreadPoolExecutor() as pool:
        collection = pool.submit(node.runtime.collect, NEWEST, [])
        wait_until(begun.exists, "the collection", timeout=PATIENCE)
        result = node.runtime.add(ATTACH, new)
        assert not collection.done()
        collection.result(PATIENCE)
    assert node.links(stale.netns) == []
    node.runtime.check(ATTACH, new, result)
    node.runtime.delete(ATTACH, new, result)

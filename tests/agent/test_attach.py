"""All networks of a pod in one call: made by the agent or by plugins that it executes, or none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from spiderpool_lab.control_plane import ControlPlane
from tests.agent.attaching_node import (
    ATTACH,
    COORDINATOR,
    NODE,
    PATIENCE,
    AttachingNode,
    attaching_node,
    macvlan,
)
from tests.agent.runtime import Json, Refusal
from tests.kernel.questions import CLIENT, ETH0, NET1
from tests.support.eventually import wait_until

pytestmark = [
    *(pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180)),
    pytest.mark.usefixtures("nothing_is_left"),
]

POD, SECOND = [ETH0[4].pod, ETH0[6].pod], [NET1[4].pod, NET1[6].pod]


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttachingNode]:
    with attaching_node(control_plane, tmp_path_factory.mktemp("node")) as node:
        node.network("second", macvlan("eth1", "eth1-v4", "eth1-v6"), COORDINATOR)
        node.network("tuned", macvlan("eth1", "eth1-v4"), {"type": "tuning", "sysctl": {"net.core.somaxconn": "99"}})
        node.network("coordinated", macvlan("eth1", "eth1-v4"), {"type": "tuning", "mtu": 1400}, COORDINATOR)
        node.network("bare", macvlan("eth0", "eth0-v4", "eth0-v6"))
        node.network("bare-too", macvlan("eth1", "eth1-v4", "eth1-v6"))
        node.network("bridged", bridge(node), {"type": "tuning", "mtu": 1400})
        node.network("broken", bridge(node, "cni89", "10.89.0"), {"type": "tuning", "sysctl": {"net.nonsense": "1"}})
        node.kept = {"cni88", "cni89"}
        yield node
        assert node.host_side() == []


def bridge(node: AttachingNode, name: str = "cni88", prefix: str = "10.88.0") -> Json:
    """The reference bridge with addresses of its own; it names a default route as well."""
    routes = [{"dst": dst, "gw": f"{prefix}.1"} for dst in ("0.0.0.0/0", "198.51.100.0/24")]
    place = str(node.agent.socket.parent / "leases")
    leases = {"type": "host-local", "subnet": f"{prefix}.0/24", "dataDir": place, "routes": routes}
    return {"type": "bridge", "bridge": name, "isGateway": True, "ipam": leases}


def leases(node: AttachingNode) -> list[str]:
    """Addresses that host-local has given."""
    return [path.name for path in (node.agent.socket.parent / "leases").glob("*/10.*")]


def test_two_networks_that_the_agent_makes(node: AttachingNode) -> None:
    pod = node.pod("two", networks="second")
    result = node.runtime.add(ATTACH, pod)
    assert [ip["address"].partition("/")[0] for ip in result["ips"]] == POD
    assert [each["name"] for each in result["interfaces"]] == ["eth0"]
    assert sorted(node.links(pod.netns)) == ["eth0", "net1", "veth0"]
    assert node.records() == dict.fromkeys(POD, "eth0") | dict.fromkeys(SECOND, "net1")
    for source in (ETH0[4].pod, NET1[4].pod):
        node.world.inside(pod.netns, "ping", "-c", "1", "-W", "2", "-I", source, CLIENT[4])
    node.runtime.check(ATTACH, pod, result)
    node.runtime.delete(ATTACH, pod, result)
    node.runtime.delete(ATTACH, pod, result)
    assert node.links(pod.netns) == []


def test_the_network_status_is_told_once_and_right(node: AttachingNode) -> None:
    pod = node.pod(
        "status", networks=[{"name": "second", "interface": "data"}, {"name": "bridged", "namespace": "default"}]
    )
    result = node.runtime.add(ATTACH, pod)
    first, second, third = node.status("status")
    macs = {name: _mac(node, pod.netns, name) for name in ("eth0", "data", "net2")}
    assert first == {
        "name": "default/first",
        "interface": "eth0",
        "ips": POD,
        "mac": macs["eth0"],
        "mtu": 1500,
        "default": True,
        "dns": {},
    }
    assert second == {
        "name": "default/second",
        "interface": "data",
        "ips": SECOND,
        "mac": macs["data"],
        "mtu": 1500,
        "dns": {},
    }
    assert (third["name"], third["interface"], third["mac"]) == ("default/bridged", "net2", macs["net2"])
    assert third["ips"] == node.addresses(pod.netns, "net2")
    version = _resource_version(node, "status")
    node.runtime.check(ATTACH, pod, result)
    assert _resource_version(node, "status") == version
    node.runtime.delete(ATTACH, pod, result)


@pytest.mark.parametrize("name", ["bridged", "tuned", "coordinated"])
def test_a_network_whose_plugins_are_executed(node: AttachingNode, name: str) -> None:
    pod = node.pod(f"executed-{name}", networks=name)
    result = node.runtime.add(ATTACH, pod)
    assert sorted(node.links(pod.netns)) == ["eth0", "net1", "veth0"]
    assert len(node.files()) == (2 if name == "coordinated" else 1)
    [address] = node.addresses(pod.netns, "net1")
    assert (address in leases(node)) if name == "bridged" else (node.records()[address] == "net1")
    node.runtime.check(ATTACH, pod, result)
    if name == "coordinated":
        assert node.defaults(pod.netns) == ["eth0"]
        node.world.inside(pod.netns, "ping", "-c", "1", "-W", "2", "-I", address, CLIENT[4])
        node.world.inside(node.world.node, "ping", "-c", "1", "-W", "2", address)
    node.runtime.delete(ATTACH, pod, result)
    assert (node.links(pod.netns), leases(node)) == ([], [])


def test_a_failure_of_a_later_network_undoes_the_earlier_ones(node: AttachingNode) -> None:
    pod = node.pod("undone", networks="coordinated,bridged,broken")
    with pytest.raises(Refusal) as caught:
        node.runtime.add(ATTACH, pod)
    assert (caught.value.code, "plugin tuning" in caught.value.message) == (102, True), caught.value.document
    assert (node.links(pod.netns), leases(node), node.links(node.world.node)) == (
        [],
        [],
        ["eth0", "eth1", "cni88", "cni89"],
    )
    node.runtime.delete(ATTACH, pod, {})


def test_no_address_is_given_when_one_of_the_pools_is_full(node: AttachingNode) -> None:
    holder = node.pod("holder", first="default/second")
    held = node.runtime.add(ATTACH, holder)
    before = node.records()
    pod = node.pod("hungry", networks="second")
    with pytest.raises(Refusal) as caught:
        node.runtime.add(ATTACH, pod)
    assert (caught.value.code, "eth1-v4" in caught.value.message) == (11, True), caught.value.document
    wait_until(lambda: node.records() == before, "the first network's addresses given back", timeout=PATIENCE)
    assert node.links(pod.netns) == []
    node.runtime.delete(ATTACH, pod, {})
    node.runtime.delete(ATTACH, holder, held)


def test_what_a_pod_asks_for(node: AttachingNode) -> None:
    asked = [
        {"name": "second", "ips": [f"{NET1[4].pod}/24"], "mac": "0a:58:00:00:00:07", "default-route": [NET1[4].router]}
    ]
    pod = node.pod("asking", networks=asked)
    result = node.runtime.add(ATTACH, pod)
    assert _mac(node, pod.netns, "net1") == "0a:58:00:00:00:07"
    assert node.defaults(pod.netns) == ["net1"]
    assert [route["dst"] for route in result.get("routes", ())] == []
    assert node.status("asking")[1]["gateway"] == [NET1[4].router]
    node.runtime.check(ATTACH, pod, result)
    node.runtime.delete(ATTACH, pod, result)


@pytest.mark.parametrize(("default", "expected"), [("bridged", "net1"), ("second", "net2")])
def test_the_default_route_may_be_an_executed_networks(node: AttachingNode, default: str, expected: str) -> None:
    asked: list[Json] = [
        {"name": name} | ({"default-route": []} if name == default else {}) for name in ("bridged", "second")
    ]
    pod = node.pod(f"default-{default}", networks=asked)
    result = node.runtime.add(ATTACH, pod)
    assert node.defaults(pod.netns) == [expected]
    node.runtime.check(ATTACH, pod, result)
    node.runtime.delete(ATTACH, pod, result)


def test_the_default_route_by_spiderpools_annotation(node: AttachingNode) -> None:
    pod = node.pod("nic", networks="second", **{"ipam.spidernet.io/default-route-nic": "net1"})
    result = node.runtime.add(ATTACH, pod)
    assert (node.defaults(pod.netns), node.defaults(pod.netns, 6)) == (["net1"], ["net1"])
    node.runtime.delete(ATTACH, pod, result)


@pytest.mark.parametrize(
    ("networks", "code", "words"),
    [
        ("absent", 11, "network default/absent does not exist"),
        ("second,second@net1", 7, "interface net1 twice"),
        ("second@eth0", 7, "asks for eth0"),
        ([{"name": "second", "ips": ["192.168.0.9"]}], 11, "192.168.0.9"),
        ([{"name": "second", "mac": "nonsense"}], 7, "MAC 'nonsense'"),
        ([{"name": "second", "portMappings": [{"hostPort": 1}]}], 7, "portMappings"),
        ('[{"name"', 7, "write [{"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    node: AttachingNode, networks: Any, code: int, words: str
) -> None:
    pod = node.pod("wrong", networks=networks)
    with pytest.raises(Refusal) as caught:
        node.runtime.add(ATTACH, pod)
    assert (caught.value.code, words in caught.value.message) == (code, True), caught.value.document
    assert node.links(pod.netns) == []
    node.runtime.delete(ATTACH, pod, {})


def test_networks_of_other_namespaces_where_namespaces_are_isolated(node: AttachingNode) -> None:
    node.plane.apply('{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}}')
    node.network("foreign", macvlan("eth1", "eth1-v4", "eth1-v6"), COORDINATOR, namespace="elsewhere")
    pod = node.pod("isolated", networks="elsewhere/foreign")
    try:
        node.start_again(MULTUS_NAMESPACE_ISOLATION="true")
        with pytest.raises(Refusal, match="network elsewhere/foreign belongs to another namespace"):
            node.runtime.add(ATTACH, pod)
        assert (node.links(pod.netns), node.records()) == ([], {})
        node.runtime.delete(ATTACH, pod, {})
        node.start_again(MULTUS_NAMESPACE_ISOLATION="true", MULTUS_GLOBAL_NAMESPACES="default,elsewhere")
        node.runtime.delete(ATTACH, pod, node.runtime.add(ATTACH, pod))
    finally:
        node.start_again()


def test_the_agent_may_start_anew_and_the_pod_be_gone_before_the_deletion(node: AttachingNode) -> None:
    pod = node.pod("restart", networks="coordinated,bridged")
    result = node.runtime.add(ATTACH, pod)
    node.start_again()
    node.runtime.check(ATTACH, pod, result)
    node.end("restart")
    node.runtime.delete(ATTACH, pod, result)
    assert (node.links(pod.netns), leases(node)) == ([], [])


def test_a_lent_device_returns_whatever_the_pod_has_made_of_it(node: AttachingNode) -> None:
    """Also after a restart of the agent. A veth stands for the virtual function of a NIC."""
    node.network("function", {"type": "host-device", "device": "vf3"})
    node.world.ip(
        node.world.node, "link", "add", "vf3", "type", "veth", "peer", "far3", "netns", node.world.router.name
    )
    try:
        pod = node.pod("borrower", networks="function")
        result = node.runtime.add(ATTACH, pod)
        assert "vf3" not in node.links(node.world.node)
        node.runtime.check(ATTACH, pod, result)
        node.start_again()
        node.runtime.add(ATTACH, pod)
        node.runtime.check(ATTACH, pod, result)
        node.world.ip(pod.netns, "link", "set", "net1", "alias", "evil0")
        node.runtime.delete(ATTACH, pod, result)
        assert "vf3" in node.links(node.world.node)
        assert node.links(pod.netns) == []
    finally:
        node.world.ip(node.world.node, "link", "delete", "vf3")


def test_a_deletion_without_namespace_and_arguments(node: AttachingNode) -> None:
    pod = node.pod("bare", networks="bridged,coordinated")
    result = node.runtime.add(ATTACH, pod)
    node.end("bare")
    node.remove(pod)
    environment = {"CNI_CONTAINERID": pod.identifier, "CNI_NETNS": "", "CNI_IFNAME": "eth0"}
    assert node.runtime.execute("DEL", ATTACH, ATTACH["plugins"][0], environment) == {}
    assert node.runtime.execute("DEL", ATTACH, ATTACH["plugins"][0], environment) == {}
    assert (result["cniVersion"], leases(node)) == ("1.0.0", [])


def test_the_former_sandbox_of_a_pod_goes_after_the_next_has_come(node: AttachingNode) -> None:
    former = node.pod("twice")
    result = node.runtime.add(ATTACH, former)
    node.remove(former)
    later = node.sandbox("twice")
    node.runtime.add(ATTACH, later)
    node.runtime.delete(ATTACH, former, result, netns=False)
    assert node.addresses(later.netns, "eth0") == POD
    node.plane.kubectl("delete", "pod", "twice", "--grace-period=300", "--wait=false")
    node.runtime.delete(ATTACH, former, {}, netns=False)
    assert sorted(node.records()) == sorted(POD)
    node.runtime.delete(ATTACH, later, result)


def test_a_sandbox_whose_namespace_is_gone_does_not_hold_the_pods_addresses(node: AttachingNode) -> None:
    former = node.pod("died")
    node.runtime.add(ATTACH, former)
    node.remove(former)  # as after an ADD during which the agent was killed: its only DEL met no agent
    later = node.sandbox("died")
    result = node.runtime.add(ATTACH, later)
    node.end("died")
    assert len(node.files()) == 2
    node.runtime.delete(ATTACH, later, result)
    wait_until(lambda: node.records() == {}, "release", timeout=PATIENCE)
    node.runtime.delete(ATTACH, former, {}, netns=False)


@pytest.mark.parametrize("whole", [True, False])
def test_a_former_sandbox_holds_the_pods_addresses_as_long_as_it_has_the_interface(
    node: AttachingNode, whole: bool
) -> None:
    former = node.pod("kept")
    node.runtime.add(ATTACH, former)
    later = node.sandbox("kept")
    result = node.runtime.add(ATTACH, later)
    if not whole:
        node.world.ip(former.netns, "link", "delete", "eth0")
    node.end("kept")
    node.runtime.delete(ATTACH, later, result)
    if whole:
        assert sorted(node.records()) == sorted(POD)
        node.runtime.delete(ATTACH, former, {})
    wait_until(lambda: node.records() == {}, "release", timeout=PATIENCE)
    node.runtime.delete(ATTACH, former, {})


def test_the_file_of_a_sandbox_whose_namespace_is_anothers_goes_when_the_agent_starts(node: AttachingNode) -> None:
    former = node.pod("former")
    node.runtime.add(ATTACH, former)
    node.agent.kill()
    node.remove(former)
    node.end("former")
    later = node.at(former.netns, node.pod("later", first="default/second"))
    node.start_again()
    result = node.runtime.add(ATTACH, later)
    node.start_again()
    wait_until(lambda: node.files() == [f"{later.identifier}.json"], "removal of the file", timeout=PATIENCE)
    wait_until(lambda: sorted(node.records()) == sorted(SECOND), "release", timeout=PATIENCE)
    node.runtime.check(ATTACH, later, result)
    node.runtime.delete(ATTACH, later, result)


def test_what_is_left_of_sandboxes_without_a_namespace_goes_when_the_agent_starts(node: AttachingNode) -> None:
    gone, here = node.pod("gone", networks="coordinated"), node.pod("here", first="default/bridged")
    node.runtime.add(ATTACH, gone)
    result = node.runtime.add(ATTACH, here)
    assert len(node.files()) == 3
    node.agent.kill()
    node.remove(gone)
    node.start_again()
    wait_until(lambda: node.files() == [f"{here.identifier}.json"], "removal of the files", timeout=PATIENCE)
    assert len(node.records()) == 3  # the pod lives, and gets its next sandbox
    node.end("gone")
    wait_until(lambda: node.records() == {}, "release", timeout=PATIENCE)
    node.runtime.check(ATTACH, here, result)
    node.runtime.delete(ATTACH, here, result)


def test_an_address_that_the_node_itself_has_is_given_back_and_another_taken(node: AttachingNode) -> None:
    first, other = "172.31.199.187", "172.31.199.188"
    node.pool("two", "172.31.192.0/20", f"{first}-{other}", ETH0[4].router, nodeName=[NODE])
    node.network("two", macvlan("eth0", "two"), COORDINATOR)
    pod = node.pod("contested", first="default/two")
    node.world.ip(node.world.node, "address", "add", f"{first}/32", "dev", "eth1")
    try:
        with pytest.raises(Refusal, match=f"{first} is configured on eth1 of this node") as caught:
            node.runtime.add(ATTACH, pod)
        assert (caught.value.code, node.records()) == (103, {})
        result = node.runtime.add(ATTACH, pod)
        assert node.addresses(pod.netns, "eth0") == [other]
        wait_until(lambda: "its next attempt gets others" in conflicts(node, "contested"), "Event", timeout=PATIENCE)
    finally:
        node.world.ip(node.world.node, "address", "delete", f"{first}/32", "dev", "eth1")
    node.runtime.delete(ATTACH, pod, result)


def conflicts(node: AttachingNode, pod: str) -> str:
    """Messages of a pod's Events about its addresses in conflict."""
    fields = f"reason=AddressInConflict,involvedObject.name={pod}"
    return node.plane.kubectl("get", "events", "-o", "jsonpath={.items[*].message}", f"--field-selector={fields}")


@pytest.mark.parametrize(("first", "next_first"), [("first", "second"), ("bridged", "second"), ("bare", "bare-too")])
def test_a_namespace_that_is_another_pods_by_now_is_left_alone(
    node: AttachingNode, first: str, next_first: str
) -> None:
    former = node.pod("former", first=f"default/{first}")
    node.runtime.add(ATTACH, former)
    node.remove(former)
    node.end("former")
    later = node.at(former.netns, node.pod("later", first=f"default/{next_first}"))
    result = node.runtime.add(ATTACH, later)
    links = node.links(later.netns)
    node.runtime.delete(ATTACH, former, {})
    assert (node.links(later.netns), node.files()) == (links, [f"{later.identifier}.json"])
    node.runtime.delete(ATTACH, former, {})  # now it has no file
    assert node.links(later.netns) == links
    wait_until(lambda: set(node.records()) == {*node.addresses(later.netns, "eth0")}, "release", timeout=PATIENCE)
    node.runtime.check(ATTACH, later, result)
    node.runtime.delete(ATTACH, later, result)
    assert node.links(later.netns) == []


def test_another_pods_namespace_is_recognised_though_its_file_is_lost(node: AttachingNode) -> None:
    pod, former = node.pod("lost", first="default/bare"), node.pod("former")
    result = node.runtime.add(ATTACH, pod)
    folder = node.agent.socket.parent / "sandboxes"
    saved = (folder / f"{pod.identifier}.json").rename(folder / "aside")
    node.runtime.delete(ATTACH, replace(former, netns=pod.netns), {})
    assert node.links(pod.netns) == ["eth0"]
    saved.rename(folder / f"{pod.identifier}.json")
    node.runtime.delete(ATTACH, pod, result)


def test_the_nodes_own_namespace_is_no_pods(node: AttachingNode) -> None:
    pod = node.pod("own")
    environment = {"CNI_CONTAINERID": pod.identifier, "CNI_IFNAME": "eth0", "CNI_ARGS": pod.arguments}
    for command in ("ADD", "CHECK", "DEL"):
        for plugin in ("spiderpool-attach", "coordinator"):
            with pytest.raises(Refusal) as caught:
                node.runtime.execute(
                    command, ATTACH, {"type": plugin}, environment | {"CNI_NETNS": str(node.world.node)}
                )
            assert caught.value.code == 8
    assert node.links(node.world.node) == ["eth0", "eth1"]


def _mac(node: AttachingNode, netns: str, link: str) -> str:
    [shown] = json.loads(node.world.ip(netns, "-json", "link", "show", "dev", link))
    return str(shown["address"])


def _resource_version(node: AttachingNode, pod: str) -> str:
    return node.plane.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.resourceVersion}")


METADATA = "100.100.100.200"


@pytest.mark.parametrize(
    ("namespaces", "allowed", "later"),
    [
        ("shop,default", True, {}),
        pytest.param("shop,default", True, {"shop": False, "default": True}, marks=pytest.mark.full),
        pytest.param("shop", False, {"shop": False, "default": True}, marks=pytest.mark.full),
    ],
)
def test_a_pod_reaches_the_metadata_service_if_the_administrator_names_its_namespace(
    node: AttachingNode, namespaces: str, allowed: bool, later: dict[str, bool]
) -> None:
    """By each interface, made by the agent or by another plugin, as long as the pod runs."""
    node.world.ip(node.world.router, "address", "add", f"{METADATA}/32", "dev", "lo")
    sources = (ETH0[4].pod, NET1[4].pod)

    def filters() -> str:
        return node.world.inside(node.world.node, "tc", "filter", "show", "dev", "eth1", "egress")

    def is_answered(netns: str, expected: bool) -> bool:
        asks = (f"ping -c 1 -W 1 -I {source} {METADATA} >/dev/null; echo $?" for source in sources)
        statuses = node.world.inside(netns, "sh", "-c", "; ".join(asks)).split()
        return [status == "0" for status in statuses] == [expected, expected]

    try:
        node.start_again(CLOUD_PROVIDER="alibaba", SPIDERPOOL_METADATA_ALLOWED_NAMESPACES=namespaces)
        wait_until(filters, "rules", timeout=PATIENCE)
        empty, pod = filters(), node.pod("asking", networks="coordinated")
        result = node.runtime.add(ATTACH, pod)
        assert is_answered(pod.netns, allowed)
        for named, still in later.items():  # the pod runs on
            node.start_again(CLOUD_PROVIDER="alibaba", SPIDERPOOL_METADATA_ALLOWED_NAMESPACES=named)
            wait_until(partial(is_answered, pod.netns, still), "rules", timeout=PATIENCE)
        node.end("asking")
        node.runtime.delete(ATTACH, pod, result)
        assert filters() == empty
    finally:
        node.start_again()
        wait_until(lambda: not filters(), "removal of the rules", timeout=PATIENCE)
        node.world.ip(node.world.router, "address", "del", f"{METADATA}/32", "dev", "lo")

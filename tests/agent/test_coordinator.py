"""The classic chain: reference plugins make the interface, ours give its addresses and the path to the node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from spiderpool_lab.control_plane import ControlPlane
from tests.agent.attaching_node import COORDINATOR, AttachingNode, attaching_node, macvlan, network
from tests.agent.runtime import Container, Json, Refusal
from tests.kernel.environment import seen_by, serve
from tests.kernel.questions import CLIENT, ETH0, HOST_END, NET1, Question, one_interface, two_interfaces

pytestmark = [
    *(pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180)),
    pytest.mark.usefixtures("nothing_is_left"),
]

FIRST = network("classic-eth0", macvlan("eth0", "eth0-v4", "eth0-v6"), COORDINATOR)
SECOND = network("classic-eth1", macvlan("eth1", "eth1-v4", "eth1-v6"), COORDINATOR)


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttachingNode]:
    with attaching_node(control_plane, tmp_path_factory.mktemp("node")) as node:
        yield node


def asked(node: AttachingNode, pod: str, host_end: str, questions: tuple[Question, ...]) -> None:
    """The kernel sends packets where they must go; the questions speak of another container's host end."""
    renamed = []
    for question in questions:
        expected = question.expected
        if expected is not None and expected.link == HOST_END:
            renamed.append(replace(question, expected=replace(expected, link=host_end)))
        else:
            renamed.append(question)
    answers = node.world.route_of(pod, renamed)
    assert [(question, answer) for question, answer in answers.items() if answer != question.expected] == []


async def test_one_interface(node: AttachingNode) -> None:
    pod = node.pod("one")
    result = node.runtime.add(FIRST, pod)

    assert [ip["address"] for ip in result["ips"]] == [f"{ETH0[4].pod}/20", f"{ETH0[6].pod}/64"]
    assert (result["cniVersion"], [each["name"] for each in result["interfaces"]]) == ("0.4.0", ["eth0"])
    assert sorted(node.links(pod.netns)) == ["eth0", "veth0"]
    for version in (4, 6):
        asked(node, pod.netns, f"veth{pod.identifier[:11]}", one_interface(version))
    node.runtime.check(FIRST, pod, result)
    servers = [await serve(side, 8080) for side in (pod.netns, node.world.node, node.world.router)]
    assert await seen_by(pod.netns, ETH0[4].node, 8080) == ETH0[4].pod
    assert await seen_by(node.world.node, ETH0[4].pod, 8080) == ETH0[4].node
    assert await seen_by(pod.netns, CLIENT[4], 8080) == ETH0[4].pod
    for server in servers:
        server.close()
    node.runtime.delete(FIRST, pod, result)
    assert node.links(pod.netns) == []


def test_the_detection_of_link_local_addresses_is_not_waited_for(node: AttachingNode) -> None:
    net = network("classic-four", macvlan("eth0", "eth0-v4"), COORDINATOR)
    node.pod("four")
    pod = node.sandbox("four", detections=60)
    result = node.runtime.add(net, pod)
    assert "tentative" in node.world.ip(pod.netns, "-6", "address", "show", "dev", "eth0")
    node.runtime.call("CHECK", net, COORDINATOR, pod, "eth0", previous=result)
    node.runtime.delete(net, pod, result)


@pytest.mark.parametrize("default", ["eth0", "net1"])
def test_two_interfaces_share_a_veth_pair(node: AttachingNode, default: str) -> None:
    second = network(
        "classic-eth1", macvlan("eth1", "eth1-v4", "eth1-v6"), COORDINATOR | {"podDefaultRouteNIC": default}
    )
    pod = node.pod(f"two-{default}")
    first, later = node.runtime.add(FIRST, pod), node.runtime.add(second, pod, "net1")
    for version in (4, 6):
        assert node.defaults(pod.netns, version) == [default]
        asked(node, pod.netns, f"veth{pod.identifier[:11]}", two_interfaces(version, default))
    coordinator = second["plugins"][1]
    node.runtime.call("CHECK", second, coordinator, pod, "net1", previous=later)
    node.runtime.call("ADD", second, coordinator, pod, "net1", previous=later)
    for version in (4, 6):
        asked(node, pod.netns, f"veth{pod.identifier[:11]}", two_interfaces(version, default))

    node.runtime.delete(second, pod, later, "net1")
    assert sorted(node.links(pod.netns)) == ["eth0", "veth0"]
    for version in (4, 6):
        asked(node, pod.netns, f"veth{pod.identifier[:11]}", one_interface(version))
    node.runtime.delete(FIRST, pod, first)
    assert node.links(pod.netns) == []


def test_the_first_interface_may_go_before_the_second(node: AttachingNode) -> None:
    pod = node.pod("order")
    first, later = node.runtime.add(FIRST, pod), node.runtime.add(SECOND, pod, "net1")
    node.runtime.delete(FIRST, pod, first)
    assert sorted(node.links(pod.netns)) == ["net1", "veth0"]
    asked(node, pod.netns, "", tuple(each for each in two_interfaces(4) if each.source == NET1[4].pod))
    node.runtime.delete(SECOND, pod, later, "net1")


def test_a_deletion_needs_neither_pod_nor_namespace(node: AttachingNode) -> None:
    pod = node.pod("gone")
    result = node.runtime.add(FIRST, pod)
    node.runtime.add(SECOND, pod, "net1")
    node.end("gone")
    node.remove(pod)
    node.runtime.delete(SECOND, pod, result, "net1", netns=False)
    node.runtime.delete(FIRST, pod, result, netns=False)
    node.runtime.delete(FIRST, pod, {}, netns=False)
    assert node.records() == {}


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("link", "delete", "veth0"), "veth0 is missing"),
        (("rule", "delete", "priority", "1000"), "rule 1000"),
        (("route", "delete", "10.233.0.0/18"), "10.233.0.0/18"),
        (("route", "delete", "default", "table", "100"), "table 100"),
        (("address", "flush", "dev", "eth0"), "eth0 of the pod has no address"),
    ],
)
def test_a_check_finds_what_has_changed(node: AttachingNode, words: tuple[str, ...], missing: str) -> None:
    pod = node.pod("check")
    result = node.runtime.add(FIRST, pod)
    node.world.ip(pod.netns, *words)
    with pytest.raises(Refusal) as caught:
        node.runtime.call("CHECK", FIRST, COORDINATOR, pod, "eth0", previous=result)
    assert caught.value.code == 100
    assert missing in caught.value.message
    node.runtime.delete(FIRST, pod, result)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"mode": "overlay"}, 7, "eth0 is the pod's first"),
        ({"podMACPrefix": "01:00"}, 7, "unicast"),
        ({"vethMTU": 9}, 7, "vethMTU 9"),
        ({"serviceCIDR": ["nonsense"]}, 7, "serviceCIDR"),
        ({"colour": "red"}, 2, "colour"),
    ],
)
def test_a_wrong_block_changes_nothing(node: AttachingNode, change: Json, code: int, words: str) -> None:
    pod = node.pod("wrong")
    bare = network("classic-eth0", FIRST["plugins"][0])
    result = node.runtime.add(bare, pod)
    with pytest.raises(Refusal) as caught:
        node.runtime.call("ADD", FIRST, COORDINATOR | change, pod, "eth0", previous=result)
    assert (caught.value.code, words in caught.value.message) == (code, True), caught.value.document
    assert (node.links(pod.netns), node.host_side()) == (["eth0"], [])
    node.runtime.delete(FIRST, pod, result)


def test_without_an_interface_or_a_result_before_there_is_nothing_to_coordinate(node: AttachingNode) -> None:
    pod = node.pod("nothing")
    for previous, words in (({}, "needs a prevResult"), ({"cniVersion": "0.4.0"}, "eth0 is missing in the pod")):
        with pytest.raises(Refusal, match=words):
            node.runtime.call("ADD", FIRST, COORDINATOR, pod, "eth0", previous=previous)
    node.runtime.delete(FIRST, pod, {})


def test_switched_off_it_passes_the_result_on(node: AttachingNode) -> None:
    pod = node.pod("off")
    off = network("classic-eth0", FIRST["plugins"][0], COORDINATOR | {"mode": "disable"})
    result = node.runtime.add(off, pod)
    assert node.links(pod.netns) == ["eth0"]
    node.runtime.check(off, pod, result)
    node.runtime.delete(off, pod, result)


def test_the_result_comes_in_the_version_of_the_configuration(node: AttachingNode) -> None:
    pod = node.pod("version")
    result = node.runtime.add(network("classic-eth0", FIRST["plugins"][0], version="0.4.0"), pod)
    newer = network("classic-eth0", COORDINATOR, version="1.0.0")
    passed = node.runtime.call("ADD", newer, COORDINATOR, pod, "eth0", previous=result)
    assert passed["cniVersion"] == "1.0.0"
    assert [set(ip) for ip in passed["ips"]] == [{"address", "gateway", "interface"}] * 2
    node.runtime.delete(FIRST, pod, result)


def test_a_mac_by_prefix(node: AttachingNode) -> None:
    pod = node.pod("mac")
    prefixed = network("classic-eth0", FIRST["plugins"][0], COORDINATOR | {"podMACPrefix": "0a:1b"})
    result = node.runtime.add(prefixed, pod)
    assert "0a:1b:ac:1f:c7:bb" in node.world.ip(pod.netns, "link", "show", "eth0")
    node.runtime.call("CHECK", prefixed, prefixed["plugins"][1], pod, "eth0", previous=result)
    node.runtime.delete(prefixed, pod, result)


def test_beside_the_interface_of_another_cni_plugin(node: AttachingNode) -> None:
    """eth0 by the reference plugin ptp stands for an overlay network's."""
    overlay = {
        "type": "ptp",
        "ipam": {
            "type": "host-local",
            "subnet": "10.233.64.0/24",
            "dataDir": str(node.agent.socket.parent / "lease"),
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    base, pod = network("overlay", overlay), node.pod("overlay")
    first, later = node.runtime.add(base, pod), node.runtime.add(SECOND, pod, "net1")
    assert (sorted(node.links(pod.netns)), node.defaults(pod.netns)) == (["eth0", "net1"], ["eth0"])
    node.runtime.call("CHECK", SECOND, COORDINATOR, pod, "net1", previous=later)
    node.world.inside(node.world.node, "ping", "-c", "1", "-W", "2", NET1[4].pod)
    node.world.inside(pod.netns, "ping", "-c", "1", "-W", "2", "-I", NET1[4].pod, CLIENT[4])
    node.runtime.delete(SECOND, pod, later, "net1")
    assert node.host_side() == [] or all("table 500" not in line for line in node.host_side())
    node.runtime.delete(base, pod, first)


def test_an_agent_that_was_started_anew_knows_what_to_take_away(node: AttachingNode) -> None:
    pod = node.pod("again")
    result = node.runtime.add(FIRST, pod)
    node.start_again()
    node.runtime.call("CHECK", FIRST, COORDINATOR, pod, "eth0", previous=result)
    node.runtime.delete(FIRST, pod, result)


def test_a_namespace_that_is_another_pods_by_now_is_left_alone(node: AttachingNode) -> None:
    former = node.pod("former")
    node.runtime.add(FIRST, former)
    node.remove(former)
    node.end("former")
    node.runtime.delete(FIRST, former, {}, netns=False)
    later = node.at(former.netns, node.pod("later"))
    first, second = node.runtime.add(FIRST, later), node.runtime.add(SECOND, later, "net1")
    before = [node.host_side(), node.world.ip(later.netns, "rule"), node.files()]
    node.runtime.execute("DEL", FIRST, COORDINATOR, _environment(former))
    assert [node.host_side(), node.world.ip(later.netns, "rule"), node.files()] == before
    node.runtime.call("CHECK", SECOND, COORDINATOR, later, "net1", previous=second)
    node.runtime.delete(SECOND, later, second, "net1")
    node.runtime.delete(FIRST, later, first)


def _environment(container: Container) -> dict[str, str]:
    return {
        "CNI_CONTAINERID": container.identifier,
        "CNI_NETNS": container.netns,
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": container.arguments,
    }

"""What an agent keeps right while pods live: their node's addresses, and how the node's NICs answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from spiderpool.errors import NotReady
from spiderpool_lab.control_plane import ControlPlane
from tests.agent.attaching_node import (
    ATTACH,
    COORDINATOR,
    PATIENCE,
    AttachingNode,
    attaching_node,
    macvlan,
    network,
)
from tests.agent.runtime import Container, Json, Refusal
from tests.kernel.questions import ETH0, NET1
from tests.support.eventually import wait_until

pytestmark = [pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180)]

NEW = {4: "172.31.199.200", 6: "2001:db8:1::200"}
CLASSIC = network("classic-eth0", macvlan("eth0", "eth0-v4", "eth0-v6"), COORDINATOR)


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttachingNode]:
    with attaching_node(control_plane, tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(autouse=True)
def clean(node: AttachingNode) -> Iterator[None]:
    yield
    node.end_pods()


def knows(node: AttachingNode, pod: Container, address: str) -> bool:
    """Whether a pod reaches an address of its node by veth0."""
    version = 6 if ":" in address else 4
    route = node.world.ip(pod.netns, f"-{version}", "route", "get", address)
    return "dev veth0" in route and address in node.world.ip(pod.netns, "neigh", "show", "dev", "veth0")


def forgot(node: AttachingNode, pod: Container, address: str) -> bool:
    """Whether a pod has no way to an address by veth0 any more."""
    return not knows(node, pod, address)


@pytest.mark.parametrize("net", [ATTACH, CLASSIC], ids=["attached", "classic"])
def test_pods_are_told_of_addresses_that_come_and_go(node: AttachingNode, net: Json) -> None:
    pod = node.pod("told")
    result = node.runtime.add(net, pod)
    for version, address in NEW.items():
        assert not knows(node, pod, address)
        nodad = ("nodad",) if version == 6 else ()
        node.world.ip(node.world.node, "address", "add", f"{address}/{ETH0[version].length}", "dev", "eth0", *nodad)
    for address in NEW.values():
        wait_until(partial(knows, node, pod, address), f"pod knows {address}", timeout=PATIENCE)
        node.world.inside(pod.netns, "ping", "-c", "1", "-W", "2", address)
    node.runtime.check(net, pod, result)
    for version, address in NEW.items():
        node.world.ip(node.world.node, "address", "delete", f"{address}/{ETH0[version].length}", "dev", "eth0")
    for address in NEW.values():
        wait_until(partial(forgot, node, pod, address), f"pod forgets {address}", timeout=PATIENCE)
    node.runtime.check(net, pod, result)
    node.runtime.delete(net, pod, result)


def test_an_agent_that_was_away_catches_up(node: AttachingNode) -> None:
    pod = node.pod("late")
    result = node.runtime.add(ATTACH, pod)
    node.agent.kill()
    node.world.ip(node.world.node, "address", "add", f"{NEW[4]}/20", "dev", "eth0")
    try:
        node.start_again()
        wait_until(lambda: knows(node, pod, NEW[4]), "the agent looks at its start", timeout=PATIENCE)
    finally:
        node.world.ip(node.world.node, "address", "delete", f"{NEW[4]}/20", "dev", "eth0")
    wait_until(lambda: not knows(node, pod, NEW[4]), "pod forgets", timeout=PATIENCE)
    node.runtime.delete(ATTACH, pod, result)


@pytest.mark.full
def test_an_agent_that_cannot_install_its_plugins_ends(node: AttachingNode, tmp_path: Path) -> None:
    (tmp_path / "net.d").touch()
    try:
        for _ in range(5):  # what it has begun meanwhile must not go on at any point
            with pytest.raises(NotReady, match=r"net\.d cannot be written"):
                node.start_again(SPIDERPOOL_CNI_CONF_DIR=str(tmp_path / "net.d"))
            assert node.agent.pid is None, "it hangs"
    finally:
        node.start_again()


BALANCERS = ("198.51.100.65", "2001:db8:5::65")


@pytest.fixture
def coordinator(node: AttachingNode) -> Iterator[None]:
    """A SpiderCoordinator, whose status tests write in place of the controller."""
    kind = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderCoordinator"}
    node.plane.apply(json.dumps({**kind, "metadata": {"name": "default"}, "spec": {}}))
    yield
    node.plane.kubectl("delete", "spidercoordinator", "default")


def publish(node: AttachingNode, *addresses: str) -> None:
    """Write the addresses of Services that pods reach through their node."""
    patch = json.dumps({"status": {"phase": "Synced", "serviceAddresses": list(addresses)}})
    node.plane.kubectl("patch", "spidercoordinator", "default", "--subresource=status", "--type=merge", "-p", patch)


def by_node(node: AttachingNode, pod: Container) -> list[str]:
    """Destinations beyond its tables for interfaces that a pod reaches through its node."""
    shown = [node.world.ip(pod.netns, f"-{version}", "route", "show", "table", "all") for version in (4, 6)]
    return [line.split()[0] for text in shown for line in text.splitlines() if "dev veth0 table 98" in line]


def has_by_node(node: AttachingNode, pod: Container, known: tuple[str, ...]) -> bool:
    """Whether these, and no others, are the destinations that a pod reaches through its node."""
    return by_node(node, pod) == [*known]


@pytest.mark.usefixtures("coordinator")
@pytest.mark.parametrize("net", [ATTACH, CLASSIC], ids=["attached", "classic"])
def test_addresses_of_services_that_come_and_go(node: AttachingNode, net: Json) -> None:
    early = node.pod("early")
    result = node.runtime.add(net, early)
    assert by_node(node, early) == []
    for known in (BALANCERS, BALANCERS[1:], (), BALANCERS):
        publish(node, *known)
        wait_until(partial(has_by_node, node, early, known), f"{known} by the node", timeout=PATIENCE)
        node.runtime.check(net, early, result)
        for address in known:
            assert "dev veth0" in node.world.ip(early.netns, "route", "get", address)
    node.agent.kill()
    publish(node, BALANCERS[0])
    node.start_again()
    wait_until(lambda: by_node(node, early) == [BALANCERS[0]], "the agent looks at its start", timeout=PATIENCE)
    node.runtime.check(net, early, result)
    node.runtime.delete(net, early, result)


@pytest.mark.usefixtures("coordinator")
def test_a_pod_has_routes_to_services_from_the_beginning(node: AttachingNode) -> None:
    publish(node, *BALANCERS)
    node.start_again()
    pod = node.pod("later")
    result = node.runtime.add(ATTACH, pod)
    assert by_node(node, pod) == [*BALANCERS]
    node.runtime.delete(ATTACH, pod, result)


def is_whole(node: AttachingNode, net: Json, pod: Container, result: Json) -> bool:
    """Whether CHECK finds all as ADD left it."""
    try:
        node.runtime.check(net, pod, result)
    except Refusal:
        return False
    return True


def flush(node: AttachingNode) -> None:
    """Do as systemd-networkd does when it starts: it removes rules and routes that it does not know."""
    for family in ("-4", "-6"):
        node.world.ip(node.world.node, family, "rule", "delete", "priority", "1000")
        node.world.ip(node.world.node, family, "route", "flush", "table", "500")


def events(node: AttachingNode, reason: str) -> list[str]:
    """Messages of the Node's Events of a reason."""
    listed = json.loads(node.plane.kubectl("get", "events", "-o", "json", f"--field-selector=reason={reason}"))
    return [each["message"] for each in listed["items"] if each["involvedObject"]["kind"] == "Node"]


@pytest.mark.parametrize("net", [ATTACH, CLASSIC], ids=["attached", "classic"])
def test_rules_and_routes_that_another_program_removes_from_the_node(node: AttachingNode, net: Json) -> None:
    pod = node.pod("flushed")
    result = node.runtime.add(net, pod)
    flush(node)
    wait_until(partial(is_whole, node, net, pod, result), "all is made again", timeout=PATIENCE)
    words = "made again: let systemd-networkd"
    wait_until(
        lambda: any(words in message for message in events(node, "NodeRoutesRestored")), "Event", timeout=PATIENCE
    )
    node.agent.kill()
    flush(node)
    node.start_again()
    wait_until(partial(is_whole, node, net, pod, result), "the agent looks at its start", timeout=PATIENCE)
    node.runtime.delete(net, pod, result)


@pytest.mark.parametrize("net", [ATTACH, CLASSIC], ids=["attached", "classic"])
def test_routes_to_pods_that_an_older_agent_has_attached(node: AttachingNode, net: Json) -> None:
    """Its files do not have the addresses."""
    pod = node.pod("older")
    result = node.runtime.add(net, pod)
    node.agent.kill()
    for file in node.agent.socket.parent.glob("*/*.json"):
        written = json.loads(file.read_text())
        for interface in written.get("interfaces", ()):
            interface.pop("addresses", None)
        file.write_text(json.dumps(written))
    flush(node)
    node.start_again()
    wait_until(partial(is_whole, node, net, pod, result), "all is made again", timeout=PATIENCE)
    node.runtime.delete(net, pod, result)


def test_addresses_of_pods_that_are_put_on_the_node(node: AttachingNode) -> None:
    pod = node.pod("owner")
    result = node.runtime.add(ATTACH, pod)
    words = ("172.31.199.187/20", "dev", "eth1")
    node.world.ip(node.world.node, "address", "add", *words)
    try:
        begin = "172.31.199.187, of pod default/owner, is configured on eth1 of the node"  # first perhaps of its pool
        wait_until(
            lambda: any(message.startswith(begin) for message in events(node, "PodAddressOnNode")),
            "the address is told",
            timeout=PATIENCE,
        )
        assert words[0] in node.world.ip(node.world.node, "address", "show", "dev", "eth1")
    finally:
        node.world.ip(node.world.node, "address", "delete", *words)
    node.runtime.delete(ATTACH, pod, result)


def rules(node: AttachingNode) -> str:
    return node.world.ip(node.world.node, "-4", "rule")


def test_tuning_of_the_nodes_nics_on_and_off(node: AttachingNode) -> None:
    assert "1100:" not in rules(node)
    node.pool("nonsense", "nonsense", "nobody", "nowhere")
    try:
        node.start_again(SPIDERPOOL_TUNE_NODE="true")
        wanted = [f"from {net[4].node} lookup" for net in (ETH0, NET1)]
        wait_until(lambda: all(rule in rules(node) for rule in wanted), "rules for both NICs", timeout=PATIENCE)
        assert "1100:" in rules(node)
        for priority in ("1100", "3000"):
            node.world.ip(node.world.node, "rule", "delete", "priority", priority)
        wait_until(lambda: all(rule in rules(node) for rule in wanted), "the rules again", timeout=PATIENCE)
    finally:
        node.plane.kubectl("delete", "spiderippool", "nonsense")
        node.start_again()
    wait_until(
        lambda: "1100:" not in rules(node) and "3000:" not in rules(node), "nothing of it is left", timeout=PATIENCE
    )


def test_pools_with_gateways_that_come_after_the_agent_are_waited_for(node: AttachingNode) -> None:
    node.plane.kubectl("delete", "spiderippool", "eth1-v4", "eth1-v6")
    told = node.agent.log.read_text().count("switch on node tuning")
    try:
        node.start_again(SPIDERPOOL_TUNE_NODE="true")
        wait_until(lambda: f"from {ETH0[4].node} lookup" in rules(node), "rules for the first NIC", timeout=PATIENCE)
        for name, subnet, net in (("eth1-v4", "192.168.0.0/24", NET1[4]), ("eth1-v6", "2001:db8:2::/64", NET1[6])):
            node.pool(name, subnet, net.pod, net.router)
        wait_until(lambda: f"from {NET1[4].node} lookup" in rules(node), "rules for the second NIC", timeout=PATIENCE)
        log = node.agent.log.read_text()
        assert (log.count("switch on node tuning"), log.count("its tuning lacks the gateway")) == (told, 0)
    finally:
        node.start_again()


@pytest.mark.full
def test_a_gateway_outside_its_subnet_hides_no_other_fault(node: AttachingNode) -> None:
    """The admission webhook refuses such a pool, and this API server has none."""
    node.pool("outside", "192.168.0.0/24", NET1[4].pod, "192.168.77.1")
    node.plane.kubectl("delete", "spiderippool", "eth1-v4")
    words = ("172.31.199.187/20", "dev", "eth1")
    node.world.ip(node.world.node, "address", "add", *words)
    told = len(events(node, "PodAddressOnNode"))
    try:
        node.start_again(SPIDERPOOL_TUNE_NODE="true")
        wait_until(lambda: len(events(node, "PodAddressOnNode")) > told, "the address is told", timeout=PATIENCE)
        begin = "The tuning of the node's NICs has failed: gateway 192.168.77.1 lies in no subnet of eth1"
        wait_until(
            lambda: any(message.startswith(begin) for message in events(node, "NodeNetworkFault")),
            "the gateway is told",
            timeout=90,
        )
    finally:
        node.world.ip(node.world.node, "address", "delete", *words)
        node.plane.kubectl("delete", "spiderippool", "outside")
        node.pool("eth1-v4", "192.168.0.0/24", NET1[4].pod, NET1[4].router)
        node.start_again()

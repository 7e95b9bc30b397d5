"""Ports of the node, from the runtime's call to the packet: opened at ADD, given up at DEL, kept by the next agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spiderpool.agent.hostports import HostPorts
from spiderpool.core.network.hostports import HostPort
from spiderpool.errors import Drift, KernelFailure
from spiderpool.kernel import hostports
from spiderpool_lab.control_plane import ControlPlane
from tests.agent.attaching_node import ATTACH, NEWEST, PATIENCE, AttachingNode, attaching_node, macvlan
from tests.agent.runtime import Container, Json, Refusal
from tests.kernel.environment import seen_by, serve
from tests.kernel.questions import CLIENT, ETH0, NET1
from tests.support.eventually import eventually, wait_until

PORT = 8081
REAL = (pytest.mark.control_plane, pytest.mark.lab, pytest.mark.timeout(180))


def with_ports(*mappings: Json, network: Json = ATTACH) -> Json:
    """The list as a runtime completes it for a pod with host ports."""
    [plugin] = network["plugins"]
    return network | {"plugins": [plugin | {"runtimeConfig": {"portMappings": list(mappings)}}]}


def mapping(port: int = PORT, protocol: str = "tcp", **more: Any) -> Json:
    return {"hostPort": port, "containerPort": 8080, "protocol": protocol, "hostIP": ""} | more


BOTH = with_ports(mapping(), mapping(protocol="udp"))


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttachingNode]:
    with attaching_node(control_plane, tmp_path_factory.mktemp("node")) as node:
        node.network("apart", macvlan("eth0", "eth0-v4", "eth0-v6"))
        mapper = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
        node.network("mapping", bridge(node), mapper)
        yield node


@pytest.fixture
def clean(node: AttachingNode) -> Iterator[AttachingNode]:
    """The node; afterwards nothing of host ports may be left."""
    yield node
    node.delete_pods()
    left = [*node.files(), *rules(node)]
    node.clear()
    assert left == []


def bridge(node: AttachingNode) -> Json:
    leases = {"type": "host-local", "subnet": "10.88.0.0/24", "dataDir": str(node.agent.socket.parent / "leases")}
    return {"type": "bridge", "bridge": "cni88", "isGateway": True, "ipam": leases}


def rules(node: AttachingNode) -> list[str]:
    """The rules about host ports on the node, of both packet filters."""
    shown = [node.world.inside(node.world.node, *words) for words in (("nft", "list", "ruleset"), ("iptables-save",))]
    return [line.strip() for text in shown for line in text.splitlines() if str(PORT) in line]


def clients_seen(node: AttachingNode, pod: Container) -> list[str]:
    """By whom the pod thinks it is called: IPv4 and IPv6 from beyond the router, itself, and the node's 127.0.0.1."""

    async def call() -> list[str]:
        servers = [await serve(pod.netns, 8080, version) for version in (4, 6)]
        try:
            found = []
            for version in (4, 6):
                address = ETH0[version].node
                found.append(await seen_by(node.world.router, address, PORT, source=CLIENT[version]))
                found.append(await seen_by(pod.netns, address, PORT))
            return [*found, await seen_by(node.world.node, "127.0.0.1", PORT)]
        finally:
            for server in servers:
                server.close()

    return asyncio.run(call())


ALL_SEEN = [CLIENT[4], ETH0[4].node, CLIENT[6], ETH0[6].node, ETH0[4].node]


for_real = pytest.mark.usefixtures("clean")


def real(test: Any) -> Any:
    """Marks a test that needs a node and an API server."""
    for mark in (*REAL, for_real):
        test = mark(test)
    return test


@real
def test_from_add_to_del(node: AttachingNode) -> None:
    pod = node.pod("ports")
    result = node.runtime.add(BOTH, pod)
    node.runtime.add(BOTH, pod)
    assert clients_seen(node, pod) == ALL_SEEN
    node.runtime.check(BOTH, pod, result)
    node.agent.kill()
    assert clients_seen(node, pod) == ALL_SEEN, "without an agent, too"
    node.start_again()
    node.runtime.check(BOTH, pod, result)
    assert clients_seen(node, pod) == ALL_SEEN
    node.runtime.delete(BOTH, pod, result)
    assert rules(node) == []
    node.runtime.delete(BOTH, pod, {}, netns=False)


@real
def test_what_was_flushed_is_drift_and_comes_back_with_the_next_agent(node: AttachingNode) -> None:
    pod = node.pod("flushed")
    result = node.runtime.add(BOTH, pod)
    flush(node)
    with pytest.raises(Refusal, match="rules of host ports are missing") as caught:
        node.runtime.check(BOTH, pod, result)
    assert caught.value.code == Drift.code
    node.start_again()
    node.runtime.check(BOTH, pod, result)
    with pytest.raises(Refusal, match="are not those that the runtime names"):
        node.runtime.check(ATTACH, pod, result)
    node.runtime.delete(ATTACH, pod, result)


def flush(node: AttachingNode) -> None:
    node.world.inside(node.world.node, "nft", "flush", "ruleset")
    for program in ("iptables-legacy", "ip6tables-legacy"):
        node.world.inside(node.world.node, program, "-t", "nat", "-F")


@real
def test_a_sandbox_whose_namespace_is_gone_loses_its_ports(node: AttachingNode) -> None:
    pod = node.pod("gone")
    node.runtime.add(BOTH, pod)
    assert rules(node) != []
    node.end("gone")
    node.remove(pod)
    node.runtime.collect(NEWEST, [])
    assert rules(node) == []


@real
def test_a_port_that_cannot_lead_to_the_pod_is_an_event_and_no_failure(node: AttachingNode) -> None:
    pod = node.pod("apart", first="default/apart")
    result = node.runtime.add(BOTH, pod)
    assert "network default/apart gives it no path to its node; add the coordinator" in event(node, "apart")
    node.runtime.delete(BOTH, pod, result)


def event(node: AttachingNode, pod: str) -> str:
    """The message of a pod's Event about host ports."""
    query = ("get", "events", "--field-selector", f"reason=HostPortUnavailable,involvedObject.name={pod}")
    found: list[Json] = []

    def has_come() -> bool:
        found[:] = json.loads(node.plane.kubectl(*query, "-o", "json"))["items"]
        return bool(found)

    wait_until(has_come, f"Event of {pod}", timeout=PATIENCE)
    assert found[0]["type"] == "Warning"
    return str(found[0]["message"])


@real
def test_a_wrong_port_is_refused_before_anything_is_made(node: AttachingNode) -> None:
    pod = node.pod("wrong")
    with pytest.raises(Refusal, match=r"runtimeConfig\.portMappings\[0\]\.protocol is 'icmp'"):
        node.runtime.add(with_ports(mapping(protocol="icmp")), pod)
    assert node.links(pod.netns) == []
    node.runtime.delete(with_ports(mapping(protocol="icmp")), pod, {})


@real
def test_plugins_of_the_first_network_that_map_ports_get_them(node: AttachingNode) -> None:
    pod = node.pod("mapped", first="default/mapping")
    result = node.runtime.add(BOTH, pod)
    shown = node.world.inside(node.world.node, "iptables-save", "-t", "nat")
    assert "CNI-HOSTPORT-DNAT" in shown
    assert f"--dport {PORT}" in shown
    node.runtime.delete(BOTH, pod, result)
    assert f"--dport {PORT}" not in node.world.inside(node.world.node, "iptables-save", "-t", "nat")
    node.world.ip(node.world.node, "link", "delete", "cni88")


# --- without a packet filter

TCP = HostPort("tcp", PORT, ETH0[4].pod, 8080)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostPorts:
    """Host ports of a node whose nft refuses everything, as long as a file ``busy`` is there."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(hostports, "_backends", ["nft"])
    (tmp_path / "busy").touch()
    (tmp_path / "nft").write_text(f"#!/bin/sh\necho resource busy\n[ ! -e {tmp_path}/busy ]\n")
    (tmp_path / "nft").chmod(0o755)
    return HostPorts(tmp_path / "hostports.json")


@pytest.mark.unit
async def test_an_add_fails_and_a_del_does_not(broken: HostPorts, tmp_path: Path) -> None:
    await broken.add("other", ())
    with pytest.raises(KernelFailure, match="host ports of IPv4 could not be set"):
        await broken.add("c", (TCP,))
    await broken.remove("c")
    assert json.loads((tmp_path / "hostports.json").read_text()) == {}
    await broken.remove("unknown")


@pytest.mark.unit
@pytest.mark.parametrize("content", [b"nonsense", b'{"\xff": []}'])
async def test_a_file_that_cannot_be_read_costs_the_ports_and_not_the_start(
    broken: HostPorts, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "hostports.json").write_bytes(content)
    await broken.read()
    with pytest.raises(Drift):
        await broken.check("c", (TCP,))


@pytest.mark.unit
async def test_a_del_that_cannot_write_the_file_is_made_good_by_the_next_repair(
    broken: HostPorts, tmp_path: Path
) -> None:
    (tmp_path / "busy").unlink()
    await broken.add("c", (TCP,))
    loads = tmp_path / "loads"
    (tmp_path / "nft").write_text(f"#!/bin/sh\necho >> {loads}\n")
    (tmp_path / "hostports.json").unlink()
    (tmp_path / "hostports.json").mkdir()
    await broken.remove("c")
    assert not loads.exists()
    (tmp_path / "hostports.json").rmdir()
    await broken._repair(())
    assert loads.exists(), "the rules are loaded without the port of the container that is gone"


@pytest.mark.unit
def test_what_nft_holds_from_before_must_go_before_iptables_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An nft that refuses once, and the rules of an earlier agent in it, which lead to pods that are gone."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(hostports, "_backends", ["nft", "iptables"])
    for name in (
        "nft",
        "iptables-legacy-save",
        "iptables-legacy-restore",
        "ip6tables-legacy-save",
        "ip6tables-legacy-restore",
    ):
        (tmp_path / name).write_text(
            "#!/bin/sh\necho resource busy >&2; exit 1\n" if name == "nft" else "#!/bin/sh\ncat >/dev/null\n"
        )
        (tmp_path / name).chmod(0o755)
    with pytest.raises(KernelFailure, match="former host ports could not be removed by nft"):
        hostports.load([TCP])
    assert hostports._backends == ["nft", "iptables"], "both are tried again"


@pytest.mark.unit
async def test_pods_without_ports_do_not_wait_for_the_rules_of_others(broken: HostPorts) -> None:
    async with asyncio.timeout(5), broken._changing:
        await broken.add("plain", ())
        await broken.remove("plain")


@pytest.mark.unit
async def test_ports_are_read_again_and_given_up_with_their_container(broken: HostPorts, tmp_path: Path) -> None:
    (tmp_path / "busy").unlink()
    await broken.add("c", (TCP,))
    await broken.add("d", (HostPort("tcp", PORT, NET1[4].pod, 8080),))
    successor = HostPorts(tmp_path / "hostports.json")
    (tmp_path / "busy").touch()
    await successor.read()  # the rules cannot be loaded now
    with pytest.raises(KernelFailure):
        await successor._repair({"d"})
    (tmp_path / "busy").unlink()
    await successor._repair({"d"})
    assert [*json.loads((tmp_path / "hostports.json").read_text())] == ["d"]


async def test_the_repair_goes_on_after_any_failure(broken: HostPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spiderpool.agent.hostports.PERIOD", 0.01)
    looks = 0

    def containers() -> set[str]:
        nonlocal looks
        looks += 1
        raise KeyError("a bug")

    task = asyncio.create_task(broken.run(containers))
    await eventually(lambda: looks > 2)
    task.cancel()

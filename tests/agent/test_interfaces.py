"""Real interfaces in real namespaces; the pretend parts are the far ends: a router, and DNAT in place of kube-proxy."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from spiderpool.agent import interfaces
from spiderpool.agent.interfaces import add, check, is_of_another, remove, remove_path
from spiderpool.core.network.plumbing.naming import temporary_name, veth_mac
from spiderpool.core.network.plumbing.values import Attachment, Coordination
from spiderpool.errors import AddressHeld, BadConfig, BadNamespace, Drift, KernelFailure
from spiderpool.kernel.arp import ETH_P_ARP, gratuitous_request
from spiderpool.kernel.namespaces import opened, socket_in_netns
from spiderpool.kernel.netlink import Kernel
from tests.kernel.environment import NIC_MAC, NODE, ROUTER, World, seen_by, serve
from tests.support.eventually import eventually

pytestmark = pytest.mark.lab

POD, SIBLING = "172.31.199.187", "172.31.199.188"
SERVICE = "10.233.0.1"
UNDERLAY = Coordination(mode="underlay", service_cidrs=(ip_network("10.233.0.0/18"),))


def attachment(netns: str, kind: str, *, container: str = "4f1c2d3e5a6b7c8d", address: str = POD) -> Attachment:
    return Attachment(
        container_id=container,
        netns=netns,
        ifname="eth0",
        kind=kind,
        master="eth0",
        addresses=(ip_interface(f"{address}/20"),),
        gateways=(ip_address(ROUTER),),
        coordination=UNDERLAY,
    )


def snapshot(world: World, pod: str) -> dict[str, str]:
    """All that the pod and the node hold, as ip(8) prints it."""
    views = {
        "links": ("link",),
        "addresses": ("-4", "address"),
        "routes": ("-4", "route", "show", "table", "all"),
        "rules": ("rule",),
        "neighbours": ("neighbour", "show", "nud", "permanent"),
    }
    return {
        f"{side.name} {view}": world.ip(side, "-o", *words)
        for side in (world.node, Path(pod))
        for view, words in views.items()
    }


async def test_pod_reaches_its_node_its_neighbours_and_the_router(world: World, kind: str) -> None:
    one, two = world.pod("one"), world.pod("two")
    made = await add(attachment(one, kind), node=world.node)
    await add(attachment(two, kind, container="another-container", address=SIBLING), node=world.node)
    assert (made.sandbox, made.mtu, made.host_interface) == (one, 1500, "veth4f1c2d3e5a6")
    assert (made.mac == NIC_MAC) == (kind == "ipvlan")
    servers = [await serve(side, 8080) for side in (one, two, world.node, world.router)]
    assert await seen_by(one, NODE, 8080) == POD
    assert await seen_by(world.node, POD, 8080) == NODE
    assert await seen_by(one, SIBLING, 8080) == POD
    assert await seen_by(one, ROUTER, 8080) == POD
    assert await seen_by(world.router, POD, 8080) == ROUTER
    for server in servers:
        server.close()


async def test_rules_that_choose_a_nic_by_source_do_not_catch_answers_to_the_pod(world: World, kind: str) -> None:
    world.ip(world.node, "route", "add", "default", "via", ROUTER, "table", "1000")
    world.ip(world.node, "route", "add", "172.31.192.0/20", "dev", "eth0", "table", "1000")
    world.ip(world.node, "rule", "add", "from", NODE, "lookup", "1000", "priority", "3000")
    pod = world.pod()
    await add(attachment(pod, kind), node=world.node)
    server = await serve(world.node, 8080)
    assert await seen_by(pod, NODE, 8080) == POD
    server.close()


async def test_service_address_leads_through_the_node(world: World, kind: str) -> None:
    pod = world.pod()
    await add(attachment(pod, kind), node=world.node)
    nat = ("iptables-legacy", "-t", "nat", "-A")
    to = ("-j", "DNAT", "--to-destination", f"{ROUTER}:8080")
    world.inside(world.node, *nat, "PREROUTING", "-d", SERVICE, "-p", "tcp", "--dport", "80", *to)
    world.inside(world.node, *nat, "POSTROUTING", "-s", POD, "-j", "MASQUERADE")
    server = await serve(world.router, 8080)
    assert await seen_by(pod, SERVICE, 80) == NODE
    server.close()


async def test_answer_to_an_outside_client_of_a_node_port_goes_back_by_the_node(world: World, kind: str) -> None:
    pod = world.pod()
    await add(attachment(pod, kind), node=world.node)
    rule = ("PREROUTING", "-p", "tcp", "--dport", "32635", "-j", "DNAT", "--to-destination", f"{POD}:8080")
    world.inside(world.node, "iptables-legacy", "-t", "nat", "-A", *rule)
    server = await serve(pod, 8080)
    assert await seen_by(world.router, NODE, 32635) == ROUTER
    world.ip(pod, "rule", "delete", "priority", "1000")
    with pytest.raises(TimeoutError):
        await seen_by(world.router, NODE, 32635, timeout=1.5)
    server.close()


async def test_address_is_announced(world: World, kind: str) -> None:
    with opened(world.router) as router:
        listener = await socket_in_netns(router, socket.AF_PACKET, socket.SOCK_RAW, 0)
    with listener:
        listener.bind(("port", ETH_P_ARP))
        listener.setblocking(False)
        made = await add(attachment(world.pod(), kind), node=world.node)
        wanted = gratuitous_request(bytes.fromhex(made.mac.replace(":", "")), ip_address(POD))  # type: ignore[arg-type]
        async with asyncio.timeout(5):
            while (await asyncio.get_running_loop().sock_recv(listener, 128))[:42] != wanted:
                pass


async def test_removal_leaves_nothing_and_may_be_repeated(world: World, kind: str) -> None:
    pod = world.pod()
    empty = snapshot(world, pod)
    await add(attachment(pod, kind), node=world.node)
    for _ in range(2):
        await remove("4f1c2d3e5a6b7c8d", pod, "eth0", node=world.node)
    left = snapshot(world, pod)
    changed = {view for view in left if left[view] != empty[view]}
    # The node's rule serves all pods; the pod's goes with its namespace.
    assert changed == {f"{world.node.name} rules", f"{Path(pod).name} rules"}


async def test_removal_without_namespace(world: World, kind: str, tmp_path: Path) -> None:
    for netns in ("", "/run/netns/gone", str(tmp_path / "file")):
        (tmp_path / "file").touch()
        pod = world.pod(f"p{len(netns)}")
        await add(attachment(pod, kind), node=world.node)
        assert "veth4f1c2d3e5a6" in world.ip(world.node, "link")
        await remove("4f1c2d3e5a6b7c8d", netns, "eth0", node=world.node)
        assert "veth4f1c2d3e5a6" not in world.ip(world.node, "link")
        assert POD not in world.ip(world.node, "route", "show", "table", "all")
        await remove("4f1c2d3e5a6b7c8d", pod, "eth0", node=world.node)


async def test_removal_of_a_container_whose_path_is_anothers_by_now(world: World, kind: str) -> None:
    pod = world.pod()
    await add(attachment(pod, kind, container="another-container"), node=world.node)
    before = snapshot(world, pod)
    await remove("4f1c2d3e5a6b7c8d", pod, "eth0", node=world.node)
    await remove_path("4f1c2d3e5a6b7c8d", pod, "eth0", node=world.node)
    after = snapshot(world, pod)
    assert [view for view in before if before[view] != after[view] and not view.endswith(" links")] == []
    world.ip(pod, "link", "set", "veth0", "address", "02:00:00:00:00:01")
    await remove("another-container", pod, "eth0", node=world.node)
    assert "eth0" not in world.ip(pod, "link")


async def test_removal_of_an_unknown_container_heeds_the_addresses_of_other_pods(world: World, kind: str) -> None:
    pod = world.pod()
    await add(replace(attachment(pod, kind), coordination=None), node=world.node)
    others = {ip_address(POD)}
    assert await is_of_another("another-container", pod, "eth0", others, node=world.node)
    assert not await is_of_another("another-container", pod, "eth0", {ip_address(SIBLING)}, node=world.node)
    assert not await is_of_another("another-container", "/run/netns/gone", "eth0", others, node=world.node)


async def test_address_is_free_after_removal_though_a_socket_keeps_the_namespace(world: World, kind: str) -> None:
    first, second = world.pod("first"), world.pod("second")
    await add(attachment(first, kind), node=world.node)
    server = await serve(first, 8080)
    await remove("4f1c2d3e5a6b7c8d", first, "eth0", node=world.node)
    await add(attachment(second, kind, container="another-container"), node=world.node)
    server.close()


async def test_address_that_another_sandbox_holds(world: World, kind: str) -> None:
    if kind != "ipvlan":
        pytest.skip("only ipvlan refuses an address twice")
    await add(attachment(world.pod("first"), kind), node=world.node)
    second = world.pod("second")
    before = snapshot(world, second)
    with pytest.raises(AddressHeld) as caught:
        await add(attachment(second, kind, container="another-container"), node=world.node)
    assert caught.value.message == (
        f"{POD} is already assigned to an ipvlan device on eth0: another sandbox still holds it"
    )
    assert snapshot(world, second) == before


async def test_nic_with_children_of_another_kind(world: World, kind: str) -> None:
    other = "macvlan" if kind == "ipvlan" else "ipvlan"
    try:
        world.ip(world.node, "link", "add", "other", "link", "eth0", "type", other)
    except AssertionError:
        pytest.skip(f"this kernel has no {other}")
    with pytest.raises(KernelFailure, match=f"eth0 cannot have a {kind} child"):
        await add(attachment(world.pod(), kind), node=world.node)


async def test_kind_that_the_kernel_lacks(world: World) -> None:
    pod = world.pod()
    try:
        await add(attachment(pod, "ipvlan"), node=world.node)
    except KernelFailure as error:
        assert error.message == "this kernel has no ipvlan: load the module ipvlan on the node"
    else:
        pytest.skip("this kernel has ipvlan")


async def test_missing_nic(world: World, kind: str) -> None:
    with pytest.raises(KernelFailure, match="NIC eth7 does not exist on this node; its NICs are eth0:"):
        await add(replace(attachment(world.pod(), kind), master="eth7"), node=world.node)


async def test_missing_namespace(world: World, kind: str) -> None:
    with pytest.raises(BadNamespace, match="No such file"):
        await add(attachment("/run/netns/no-such", kind), node=world.node)


async def test_mtu(world: World, kind: str) -> None:
    made = await add(replace(attachment(world.pod("small"), kind), mtu=1400), node=world.node)
    assert made.mtu == 1400
    with pytest.raises(BadConfig, match="mtu 9000 is more than the 1500 of eth0"):
        await add(replace(attachment(world.pod("big"), kind), mtu=9000), node=world.node)


async def test_failure_half_way_is_undone(world: World, kind: str) -> None:
    pod = world.pod()
    before = snapshot(world, pod)
    unreachable = replace(attachment(pod, kind), routes=((ip_network("10.9.0.0/16"), ip_address("198.51.100.1")),))
    with pytest.raises(KernelFailure, match=r"pod: route 10\.9\.0\.0/16 via 198\.51\.100\.1 dev eth0: "):
        await add(unreachable, node=world.node)
    assert snapshot(world, pod) == before


async def test_cancelled_addition_is_undone(world: World, kind: str) -> None:
    pod = world.pod()
    before = snapshot(world, pod)
    task = asyncio.create_task(add(attachment(pod, kind), node=world.node))
    await eventually(lambda: "veth0" in world.ip(pod, "-br", "link") or task.done(), "veth0", interval=0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    after = snapshot(world, pod)
    assert {view: after[view] for view in after if "rules" not in view} == {
        view: before[view] for view in before if "rules" not in view
    }


async def test_failure_that_a_cancellation_hides_is_logged(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    begun = threading.Event()

    def work(_kernel: Kernel, stop: threading.Event) -> None:
        begun.set()
        stop.wait(5)

    def undo(_kernel: Kernel) -> None:
        raise KernelFailure("the kernel refused to delete eth0")

    task = asyncio.create_task(interfaces._operate(None, world.node, work, undo))
    await eventually(begun.is_set, "work has begun")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "the kernel refused to delete eth0" in capsys.readouterr().out


async def test_repetition_stacks_nothing(world: World, kind: str) -> None:
    pod = world.pod()
    await add(attachment(pod, kind), node=world.node)
    counts = {view: text.count("\n") for view, text in snapshot(world, pod).items()}
    marks = world.inside(pod, "iptables-legacy", "-t", "mangle", "-S")
    for _ in range(2):
        await add(attachment(pod, kind), node=world.node)
    assert {view: text.count("\n") for view, text in snapshot(world, pod).items()} == counts
    assert world.inside(pod, "iptables-legacy", "-t", "mangle", "-S") == marks
    await check(attachment(pod, kind), node=world.node)


async def test_leftovers_of_a_killed_addition_are_replaced(world: World, kind: str) -> None:
    pod = world.pod()
    temporary = temporary_name("4f1c2d3e5a6b7c8d", "eth0")
    pair = ("link", "add", "veth4f1c2d3e5a6", "type", "veth", "peer", "veth0", "netns", Path(pod).name)
    world.ip(world.node, *pair)
    world.ip(world.node, "link", "add", temporary, "link", "eth0", "type", kind)
    world.ip(world.node, "link", "set", temporary, "netns", Path(pod).name)
    await add(attachment(pod, kind), node=world.node)
    assert temporary not in world.ip(pod, "link")
    await check(attachment(pod, kind), node=world.node)


async def test_route_of_an_earlier_holder_of_the_address_is_replaced(world: World, kind: str) -> None:
    world.ip(world.node, "link", "add", "vethstale", "type", "veth", "peer", "far")
    world.ip(world.node, "link", "set", "vethstale", "up")
    world.ip(world.node, "route", "add", POD, "dev", "vethstale", "table", "500")
    await add(attachment(world.pod(), kind), node=world.node)
    assert world.ip(world.node, "route", "show", "table", "500").split()[:3] == [POD, "dev", "veth4f1c2d3e5a6"]


@pytest.mark.parametrize(
    ("side", "words", "fault"),
    [
        ("pod", ("link", "set", "eth0", "down"), r"eth0 \(pod\) is down"),
        ("pod", ("address", "flush", "dev", "eth0"), f"missing or changed: pod: address {POD}/20 on eth0"),
        ("pod", ("route", "delete", "default"), f"pod: route 0.0.0.0/0 via {ROUTER} dev eth0"),
        ("pod", ("route", "delete", "10.233.0.0/18"), "pod: route 10.233.0.0/18 via"),
        ("pod", ("rule", "delete", "priority", "1000"), "pod: ipv4 rule 1000 fwmark 0x1 lookup 100"),
        ("pod", ("neighbour", "flush", "dev", "veth0", "nud", "permanent"), f"pod: neighbour {NODE}"),
        ("pod", ("link", "set", "veth0", "address", "02:00:00:00:00:99"), "MAC of veth0 is 02:00:00:00:00:99"),
        ("pod", ("link", "delete", "eth0"), "eth0 is missing in the pod"),
        ("node", ("route", "flush", "table", "500"), f"node: route {POD}/32 dev veth4f1c2d3e5a6 table 500"),
        ("node", ("rule", "delete", "priority", "1000"), "node: ipv4 rule 1000 lookup 500"),
        ("node", ("link", "delete", "veth4f1c2d3e5a6"), "veth4f1c2d3e5a6 is missing; veth0 is missing"),
    ],
)
async def test_check_names_what_changed(world: World, kind: str, side: str, words: tuple[str, ...], fault: str) -> None:
    pod = world.pod()
    await add(attachment(pod, kind), node=world.node)
    await check(attachment(pod, kind), node=world.node)
    world.ip(pod if side == "pod" else world.node, *words)
    with pytest.raises(Drift, match=fault):
        await check(attachment(pod, kind), node=world.node)


async def test_twenty_at_once(world: World, kind: str) -> None:
    wanted = [
        attachment(world.pod(f"p{number}"), kind, container=f"container{number:02}", address=f"172.31.194.{number + 1}")
        for number in range(20)
    ]
    made = await asyncio.gather(*(add(one, node=world.node) for one in wanted))
    assert {one.host_interface for one in made} == {f"vethcontainer{number:02}" for number in range(20)}
    await asyncio.gather(*(check(one, node=world.node) for one in wanted))
    server = await serve(world.node, 8080)
    seen = await asyncio.gather(*(seen_by(one.netns, NODE, 8080) for one in wanted))
    assert seen == [str(one.addresses[0].ip) for one in wanted]
    server.close()
    await asyncio.gather(*(remove(one.container_id, one.netns, one.ifname, node=world.node) for one in wanted))
    assert "veth" not in world.ip(world.node, "-br", "link", "show", "type", "veth").replace("eth0@", "")


async def test_descriptors_stay_constant(world: World, kind: str) -> None:
    pod = world.pod()
    await _cycle(world, pod, kind)
    gc.collect()
    await _threads_gone()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(30):
        await _cycle(world, pod, kind)
    await _threads_gone()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def _threads_gone() -> None:
    await eventually(lambda: all(thread.name != "netns" for thread in threading.enumerate()), "threads have ended")


async def _cycle(world: World, pod: str, kind: str) -> None:
    await add(attachment(pod, kind), node=world.node)
    await remove("4f1c2d3e5a6b7c8d", pod, "eth0", node=world.node)


async def test_the_pair_carries_the_macs_of_the_container(world: World, kind: str) -> None:
    pod = world.pod()
    await add(attachment(pod, kind), node=world.node)
    assert veth_mac("4f1c2d3e5a6b7c8d", "pod") in world.ip(pod, "link", "show", "veth0")
    assert veth_mac("4f1c2d3e5a6b7c8d", "node") in world.ip(world.node, "link", "show", "veth4f1c2d3e5a6")


async def test_two_families(world: World, kind: str) -> None:
    world.ip(world.node, "address", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
    pod = world.pod()
    both = replace(
        attachment(pod, kind),
        addresses=(ip_interface(f"{POD}/20"), ip_interface("2001:db8::7/64")),
        coordination=replace(UNDERLAY, service_cidrs=(*UNDERLAY.service_cidrs, ip_network("fd00:10::/108"))),
    )
    await add(both, node=world.node)
    await check(both, node=world.node)
    assert "dev veth0" in world.ip(pod, "route", "get", "2001:db8::1")
    assert "via 2001:db8::1 dev veth0" in world.ip(pod, "route", "get", "fd00:10::1")
    assert "dev eth0" in world.ip(pod, "route", "get", "2001:db8::2")
    assert "dev veth4f1c2d3e5a6" in world.ip(world.node, "route", "get", "2001:db8::7")


async def test_agent_in_the_namespace_of_its_node(world: World, kind: str) -> None:
    pod = world.pod()
    script = (
        "import asyncio, sys\n"
        "from spiderpool.agent.interfaces import add, check\n"
        "from tests.agent.test_interfaces import attachment\n"
        "async def main(wanted):\n"
        "    print((await add(wanted)).host_interface)\n"
        "    await check(wanted)\n"
        "asyncio.run(main(attachment(*sys.argv[1:])))\n"
    )
    assert world.inside(world.node, sys.executable, "-c", script, pod, kind).strip() == "veth4f1c2d3e5a6"
    await remove("4f1c2d3e5a6b7c8d", pod, "eth0", node=world.node)
    assert "veth4f1c2d3e5a6" not in world.ip(world.node, "link")

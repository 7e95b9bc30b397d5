"""`spiderpoolctl who`: each state of an address, by the objects of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from spiderpool.api.core_v1 import Node, NodeCondition, NodeStatus, NodeSystemInfo, Pod, PodStatus
from spiderpool.api.ip import RELEASE_ANNOTATION, FormerPod, IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode, SpiderNodeSpec
from spiderpool.cli.connection import Cluster
from spiderpool.cli.main import cli
from spiderpool.cli.printing import View, printed
from spiderpool.cli.who import AddressAnswer, AddressParameter, answer, look_for
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

ADDRESS = "10.0.0.5"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SPEC = IPSpec(f"{ADDRESS}/24", "blue", "n1", "default", "web-0", "uid-0", "eth0")
OWNER = IPOwner("StatefulSet", "default", "web")


def pool(**spec: object) -> SpiderIPPool:
    fields: dict[str, object] = {"subnet": "10.0.0.0/24", "ips": ["10.0.0.1-10.0.0.9"], "cooldownSeconds": 60}
    return SpiderIPPool(metadata=ObjectMeta(name="blue"), spec=IPPoolSpec(**{**fields, **spec}))  # type: ignore[arg-type]


def record(**changes: object) -> SpiderIP:
    return SpiderIP(metadata=ObjectMeta(name=ADDRESS), spec=replace(SPEC, **changes))


def account(*sandboxes: NodeSandbox, name: str = "n1", fenced: str | None = None) -> SpiderNode:
    status = NodeAccount(1, "2026-01-01T11:59:00Z", "boot-1", "7", list(sandboxes))
    return SpiderNode(metadata=ObjectMeta(name=name), spec=SpiderNodeSpec(None, fenced), status=status)


def sandbox(pod: str = "web-0", uid: str = "uid-0", address: str = ADDRESS) -> NodeSandbox:
    interface = SandboxInterface("eth0", "02:00:00:00:00:01", [address])
    return NodeSandbox(uid, "default", pod, "0123456789abcdef", [interface])


def reserved() -> SpiderReservedIP:
    return SpiderReservedIP(metadata=ObjectMeta(name="gateways"), spec=ReservedIPSpec(4, ["10.0.0.4-10.0.0.6"]))


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A cluster with the pod that a record is for."""
    kinds = (SpiderIP, Pod, Node, SpiderIPPool, SpiderReservedIP, SpiderNode)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server:
        yield server


async def who(server: ApiServer, address: str = ADDRESS) -> AddressAnswer:
    async with server.client() as client:
        return answer(await look_for(Cluster(client, 5.0), address), NOW)


def put_pod(server: ApiServer, name: str = "web-0") -> None:
    """The pod of the record; its UID is the server's, so the record follows."""
    server.put(Pod(metadata=ObjectMeta(name=name, namespace="default"), status=PodStatus("Running")))
    uid = server.stored(Pod)[f"default/{name}"].metadata.uid or ""
    server.put(record(podUID=uid))


async def test_an_address_that_a_pod_holds(server: ApiServer) -> None:
    put_pod(server)
    uid = server.stored(Pod)["default/web-0"].metadata.uid or ""
    server.put(pool(), account(sandbox(uid=uid)))
    found = await who(server)
    assert (found.state, found.pod, found.phase, found.pool) == ("held", "default/web-0", "Running", "blue")
    assert (found.problems, found.notes, found.pools) == ((), (), ())
    shown = printed(found, "table", View(width=80))
    assert shown.startswith(
        f"Address:    {ADDRESS}\nState:      held\nPod:        default/web-0 (Running)\nNode:       n1\n"
    )
    assert shown.endswith("SANDBOX        NODE  INTERFACE  POD\n0123456789abc  n1    eth0       default/web-0")
    assert "02:00:00:00:00:01" in printed(found, "wide", View(wide=True))
    assert printed(found, "name", View()) == "spiderip.spiderpool.spidernet.io/10.0.0.5"


@pytest.mark.parametrize(
    ("objects", "state"),
    [
        ((pool(), record(owner=OWNER)), "held"),
        ((pool(), record(releasedAt="2026-01-01T11:59:30Z")), "cooling down"),
        ((pool(), record(releasedAt="2026-01-01T11:00:00Z")), "released, free for any pod"),
        ((record(releasedAt="2026-01-01T11:59:30Z"),), "released, free for any pod"),
        ((pool(),), "free"),
        ((pool(), reserved()), "reserved"),
        ((reserved(),), "reserved"),
        ((pool(excludeIPs=[ADDRESS]),), "given by no pool"),
        ((pool(disable=True),), "given by no pool"),
        ((pool(ips=["10.0.0.9"]),), "given by no pool"),
        ((pool(), account(sandbox("other", "uid-9"))), "in use without a record"),
        ((), "in no pool"),
        ((pool(subnet="10.9.0.0/16", ips=["10.9.0.1"]),), "in no pool"),
    ],
)
async def test_each_state(server: ApiServer, objects: tuple[Object, ...], state: str) -> None:
    server.put(*objects)
    found = await who(server)
    assert found.state == state
    for output in ("table", "wide", "json", "yaml", "name"):
        assert printed(found, output, View(wide=output == "wide", width=80)) is not None


async def test_until_when_a_cooldown_lasts(server: ApiServer) -> None:
    server.put(pool(), record(releasedAt="2026-01-01T11:59:30Z"))
    assert (await who(server)).cooldown_until == "2026-01-01T12:00:30Z"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "for any pod"),
        ({"nodeName": ["n1"], "namespaceName": ["shop", "web"]}, "for node n1; Namespace shop, web"),
        ({"excludeIPs": [ADDRESS]}, "spec.excludeIPs has it"),
        ({"disable": True}, "the pool is disabled"),
        ({"ips": ["10.0.0.9"]}, "its subnet has the address, spec.ips has it not"),
        ({"ips": ["nonsense"]}, "its addresses cannot be read"),
    ],
)
async def test_which_pool_would_give_it_and_why_another_would_not(
    server: ApiServer, changed: dict[str, object], reason: str
) -> None:
    server.put(pool(**changed))
    (view,) = (await who(server)).pools
    assert view.reason.startswith(reason)
    assert view.gives is reason.startswith("for ")


async def test_the_network_address_is_given_by_no_pool(server: ApiServer) -> None:
    server.put(pool(ips=["10.0.0.0-10.0.0.9"]))
    (view,) = (await who(server, "10.0.0.0")).pools
    assert view.reason == "no machine may have this address of the subnet"


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ((pool(), record()), "pod default/web-0 does not hold it any more: it is released once the agent of node n1"),
        ((pool(), record(owner=OWNER), account(sandbox("other", "uid-9"))), "pod default/other on node n1 uses it too"),
        ((pool(), account(sandbox("other", "uid-9"))), "pod default/other on node n1 uses it without a record"),
        ((record(owner=OWNER),), "pool blue does not exist"),
        ((pool(), record(owner=OWNER, address="10.0.0.6/24")), "its record is wrong"),
    ],
)
async def test_what_contradicts_the_record(server: ApiServer, objects: tuple[Object, ...], said: str) -> None:
    server.put(*objects)
    found = await who(server)
    assert found.problems[0].startswith(said)
    assert f"! {said[:30]}" in printed(found, "table", View())


async def test_nothing_follows_from_what_may_not_be_read(server: ApiServer) -> None:
    server.put(record())
    server.inject(Fault("get", plural="pods", status=403), Fault("list", plural="spiderippools", status=403))
    assert (await who(server)).problems == ()


async def test_an_address_is_not_free_whose_record_may_not_be_read(server: ApiServer) -> None:
    server.put(record(), pool(), account(sandbox()))
    server.inject(Fault("get", plural="spiderips", status=403))
    found = await who(server)
    assert found.state == "not known"
    assert found.problems == ("its SpiderIP may not be read: nobody can say here whether a pod has it",)


async def test_what_else_is_to_be_known(server: ApiServer) -> None:
    status = NodeStatus([NodeCondition("Ready", "Unknown")], nodeInfo=NodeSystemInfo("boot-1"))
    moved = [FormerPod("n2", "virt-a", "uid-8", "5")]
    server.put(Node(metadata=ObjectMeta(name="n1"), status=status), account(fenced="boot-1"), pool())
    server.put(record(owner=OWNER, movedFrom=moved))
    made = server.stored(SpiderIP)[ADDRESS]
    annotations = {RELEASE_ANNOTATION: made.metadata.uid or ""}
    server.put(replace(made, metadata=replace(made.metadata, annotations=annotations)))
    found = await who(server)
    assert [note.partition(":")[0] for note in found.notes] == [
        "node n1 was fenced by an administrator",
        "somebody is releasing it by hand",
        "its virtual machine moves from pod virt-a on node n2, which may still have it",
    ]
    assert found.problems == ()


async def test_what_a_fenced_node_had_is_in_use_no_more(server: ApiServer) -> None:
    put_pod(server)
    uid = server.stored(Pod)["default/web-0"].metadata.uid or ""
    status = NodeStatus([NodeCondition("Ready", "Unknown")], nodeInfo=NodeSystemInfo("boot-1"))
    server.put(Node(metadata=ObjectMeta(name="n2"), status=status), pool(), account(sandbox(uid=uid)))
    server.put(account(sandbox(uid="former"), name="n2", fenced="boot-1"))
    found = await who(server)
    assert ([each.node for each in found.seen], found.problems) == (["n1"], ())
    assert found.notes == (
        "node n2 was fenced by an administrator: the sandbox of pod default/web-0 that had the address then does not "
        "count",
    )


async def test_a_pod_is_not_to_be_deleted_whose_name_the_healthy_one_has(server: ApiServer) -> None:
    put_pod(server)
    server.put(pool(), account(sandbox(uid="former"), name="n2"))
    (problem,) = (await who(server)).problems
    assert "uses it too: delete no pod: both are called default/web-0" in problem


async def test_ipv6_in_any_spelling(server: ApiServer) -> None:
    server.put(pool(subnet="fd00::/64", ips=["fd00::1-fd00::9"]), account(sandbox("a", "u", "FD00:0::7")))
    assert (await who(server, "fd00::7")).state == "in use without a record"


@pytest.mark.parametrize("text", ["300.0.0.1", "web-0", ""])
def test_what_is_no_address_ends_with_2(text: str) -> None:
    result = CliRunner().invoke(cli, ["who", text])
    assert result.exit_code == 2
    assert "is no IP address; write it as" in result.stderr


@pytest.mark.parametrize(
    ("text", "address"),
    [("10.0.0.5/24", ADDRESS), ("fd00:0::7", "fd00::7"), ("fd00-0000-0000-0000-0000-0000-0000-0007", "fd00::7")],
)
def test_an_address_as_it_is_found_in_other_outputs(text: str, address: str) -> None:
    assert AddressParameter().convert(text, None, None) == address

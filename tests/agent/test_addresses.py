"""Every way of asking for an address, through real agents and a real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from typing import Any

import pytest

from spiderpool_lab.control_plane import ControlPlane
from tests.agent.conftest import MakeAgent
from tests.support.eventually import eventually
from tests.support.local_agent import LocalAgent, exchange

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(120)]

BOTH = "enableIPv6: true\n"
PREFIX = "ipam.spidernet.io"
FREE = '{"metadata": {"finalizers": null}}'


class Cluster:
    """The API server with one namespace for the test, and what tests do with it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    def apply(self, *objects: dict[str, Any]) -> None:
        for each in objects:
            self.plane.apply(json.dumps(each))

    def pool(self, name: str, ips: str, **spec: Any) -> None:
        subnet = "fd09::/64" if ":" in ips else "10.9.0.0/16"
        gateway = "fd09::ff" if ":" in ips else "10.9.255.254"
        version = 6 if ":" in ips else 4
        fields = {"subnet": subnet, "ipVersion": version, "ips": [ips], "gateway": gateway} | spec
        self.apply(_spiderpool("SpiderIPPool", name, fields))

    def pod(self, name: str, annotations: dict[str, Any] | None = None) -> str:
        """Make a pod on node n1; its UID."""
        written = {key: _text(value) for key, value in (annotations or {}).items()}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "asking", "annotations": written},
                "spec": {"nodeName": "n1", "terminationGracePeriodSeconds": 0, "containers": [_CONTAINER]},
            }
        )
        return self.uid(name)

    def uid(self, name: str) -> str:
        return self.plane.kubectl("get", "pod", "-n", "asking", name, "-o", "jsonpath={.metadata.uid}").strip()

    def reserve(self, ips: str) -> None:
        self.apply(_spiderpool("SpiderReservedIP", "mine", {"ipVersion": 4, "ips": [ips]}))

    def delete_pod(self, name: str) -> None:
        self.plane.kubectl("delete", "pod", "-n", "asking", name, "--force", "--grace-period=0", "--wait=true")

    def records(self) -> dict[str, dict[str, Any]]:
        items = json.loads(self.plane.kubectl("get", "spiderips", "-o", "json"))["items"]
        return {each["metadata"]["name"]: each["spec"] for each in items}

    def events(self, name: str) -> str:
        return self.plane.kubectl("get", "events", "-n", "asking", "--field-selector", f"involvedObject.name={name}")


_CONTAINER = {"name": "c", "image": "none"}


def _spiderpool(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture(scope="module")
def namespace(control_plane: ControlPlane) -> Iterator[None]:
    """A namespace of this module's own."""
    control_plane.kubectl("create", "namespace", "asking")
    yield
    control_plane.kubectl("delete", "namespace", "asking", "--wait=false")


@pytest.fixture
def cluster(control_plane: ControlPlane, namespace: None) -> Iterator[Cluster]:
    """Everything in it goes when the test ends."""
    yield Cluster(control_plane)
    control_plane.kubectl("delete", "statefulsets", "-n", "asking", "--all", "--cascade=foreground")
    control_plane.kubectl("delete", "pods", "-n", "asking", "--all", "--force", "--grace-period=0")
    control_plane.kubectl("delete", "spiderippools,spiderips,spiderreservedips,spidercoordinators", "--all")


async def add(agent: LocalAgent, name: str, uid: str, interface: str = "eth0") -> dict[str, Any]:
    return await agent.address("ADD", "asking", name, uid, interface)


async def served(agent: LocalAgent, name: str, uid: str) -> dict[str, Any]:
    """The answer once it is no refusal: the agent's own watch may be late."""
    async with asyncio.timeout(10):
        while "ips" not in (answer := await add(agent, name, uid)):
            await asyncio.sleep(0.05)
    return answer


def addresses(answer: dict[str, Any]) -> list[str]:
    return [ip["address"].partition("/")[0] for ip in answer["ips"]]


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.2)


async def test_dual_stack_gives_one_address_of_each_family_or_none(cluster: Cluster, make_agent: MakeAgent) -> None:
    cluster.pool("four", "10.9.0.1-10.9.0.9", default=True)
    cluster.pool("six", "fd09::1", default=True)
    agent = await asyncio.to_thread(make_agent, "n1", BOTH)
    first = await add(agent, "a", cluster.pod("a"))
    assert addresses(first)[0].startswith("10.9.0.")
    assert addresses(first)[1] == "fd09::1"
    assert first["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.9.255.254"}, {"dst": "::/0", "gw": "fd09::ff"}]
    refused = await add(agent, "b", cluster.pod("b"))
    assert "no IPv6 address for eth0 of pod asking/b" in refused["msg"]
    assert "six: 1 of 1 addresses in use" in refused["msg"]
    assert {each["pod"] for each in cluster.records().values()} == {"a"}
    assert "fd09-0000-0000-0000-0000-0000-0000-0001" in cluster.records()


async def test_the_pods_annotation_decides_before_namespace_and_default(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    cluster.pool("default", "10.9.0.1", default=True)
    cluster.pool("space", "10.9.1.1")
    cluster.pool("own-a", "10.9.2.1")
    cluster.pool("own-b", "10.9.2.2")
    agent = await asyncio.to_thread(make_agent, "n1")
    assert addresses(await add(agent, "p0", cluster.pod("p0"))) == ["10.9.0.1"]
    cluster.plane.kubectl("annotate", "namespace", "asking", f'{PREFIX}/default-ipv4-ippool=["space"]')
    routes = [{"dst": "10.77.0.0/16", "gw": "10.9.200.1"}, {"dst": "10.78.0.0/16", "gw": "192.168.0.1"}]
    uid = cluster.pod("p2", {f"{PREFIX}/ippool": {"ipv4": ["own-*"]}, f"{PREFIX}/routes": routes})
    given = await add(agent, "p2", uid)
    assert addresses(given) == ["10.9.2.1"]
    assert {"dst": "10.77.0.0/16", "gw": "10.9.200.1"} in given["routes"]
    assert len(given["routes"]) == 2, "a route whose gateway is elsewhere is not the pod's"
    assert addresses(await served(agent, "p1", cluster.pod("p1"))) == ["10.9.1.1"]
    cluster.plane.kubectl("annotate", "namespace", "asking", f"{PREFIX}/default-ipv4-ippool-")


async def test_a_wrong_annotation_is_told_by_the_answer_and_an_event(cluster: Cluster, make_agent: MakeAgent) -> None:
    cluster.pool("default", "10.9.0.1", default=True)
    agent = await asyncio.to_thread(make_agent, "n1")
    refused = await add(agent, "p", cluster.pod("p", {f"{PREFIX}/ippool": "{}"}))
    assert (refused["code"], "annotation ipam.spidernet.io/ippool names nothing" in refused["msg"]) == (7, True)
    await until(lambda: "annotation ipam.spidernet.io/ippool names nothing" in cluster.events("p"))
    uid = cluster.pod("q", {f"{PREFIX}/ippool": {"ipv6": ["six"]}})
    refused = await add(agent, "q", uid)
    assert "enableIPv6 is false in the ConfigMap" in refused["msg"]
    refused = await add(agent, "r", cluster.pod("r", {"k8s.v1.cni.cncf.io/networks": "a@eth9,b@eth9"}))
    await until(lambda: "asks for interface eth9 twice" in cluster.events("r"))
    assert cluster.records() == {}


async def test_annotations_without_effect_are_told_by_events(cluster: Cluster, make_agent: MakeAgent) -> None:
    cluster.pool("default", "10.9.0.1-10.9.0.9", default=True)
    agent = await asyncio.to_thread(make_agent, "n1")
    routes = [{"dst": "10.77.0.0/16", "gw": "10.9.200.1"}, {"dst": "10.78.0.0/16", "gw": "10.8.0.1"}]
    annotations = {
        f"{PREFIX}/ipool": {"ipv4": ["x"]},
        f"{PREFIX}/default-route-nic": "net7",
        f"{PREFIX}/routes": routes,
    }
    await served(agent, "p", cluster.pod("p", annotations))
    for said in (
        "ipam.spidernet.io/ipool has no effect: there is no such annotation; did you mean ipam.spidernet.io/ippool?",
        "default-route-nic has no effect for net7: the pod has no such interface; it has eth0",
        "the route to 10.78.0.0/16 has no effect",
    ):
        await until(lambda said=said: said in cluster.events("p"))  # type: ignore[misc]
    assert "10.77.0.0/16" not in cluster.events("p")
    assert cluster.events("p").count("AnnotationIgnored") == 3


async def test_named_interfaces_get_their_addresses_at_once_or_none(cluster: Cluster, make_agent: MakeAgent) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.3", nodeName=["n1"])
    cluster.pool("two", "10.9.1.1", nodeName=["n1"], multusName=["asking/second"])
    agent = await asyncio.to_thread(make_agent, "n1")
    wanted = [{"interface": "eth0", "ipv4": ["one"]}, {"interface": "net1", "ipv4": ["two"], "cleangateway": True}]
    annotations = {f"{PREFIX}/ippools": wanted, "k8s.v1.cni.cncf.io/networks": "second"}
    uid = cluster.pod("p", annotations)
    assert addresses(await add(agent, "p", uid)) == ["10.9.0.1"]
    assert {name: each["interface"] for name, each in cluster.records().items()} == {
        "10.9.0.1": "eth0",
        "10.9.1.1": "net1",
    }
    second = await add(agent, "p", uid, "net1")
    assert (addresses(second), second.get("routes")) == (["10.9.1.1"], None)
    refused = await add(agent, "q", cluster.pod("q", annotations))
    assert "net1 of pod asking/q" in refused["msg"]
    assert len(cluster.records()) == 2, "eth0 of q was given back"
    stranger = await add(agent, "p", uid, "net2")
    assert "names pools for eth0, net1, not for net2" in stranger["msg"]


async def test_unnamed_interfaces_are_served_in_the_order_of_the_calls(cluster: Cluster, make_agent: MakeAgent) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.3", nodeName=["n1"])
    agent = await asyncio.to_thread(make_agent, "n1")
    uid = cluster.pod("p", {f"{PREFIX}/ippools": [{"ipv4": ["one"]}, {"ipv4": ["one"]}]})
    for _ in range(2):
        assert addresses(await add(agent, "p", uid)) == ["10.9.0.1"]
        assert addresses(await add(agent, "p", uid, "second")) == ["10.9.0.2"]
    assert "second2 is one more" in (await add(agent, "p", uid, "second2"))["msg"]
    assert await agent.address("CHECK", "asking", "p", uid, "second") == {}


async def test_a_reserved_address_is_given_to_nobody_and_kept_by_its_holder(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.3", nodeName=["n1"], default=True)
    cluster.reserve("10.9.0.1-10.9.0.2")
    agent = await asyncio.to_thread(make_agent, "n1")
    uids = {name: cluster.pod(name) for name in ("a", "b", "c")}
    assert addresses(await add(agent, "a", uids["a"])) == ["10.9.0.3"]
    assert "1 of 1 addresses in use" in (await add(agent, "b", uids["b"]))["msg"]
    cluster.reserve("10.9.0.1")
    assert addresses(await served(agent, "b", uids["b"])) == ["10.9.0.2"]
    cluster.reserve("10.9.0.1-10.9.0.3")
    assert addresses(await add(agent, "a", uids["a"])) == ["10.9.0.3"]
    assert "no IPv4 address" in (await add(agent, "c", uids["c"]))["msg"]


def statefulset(replicas: int, annotations: dict[str, Any] | None = None) -> dict[str, Any]:
    written = {key: _text(value) for key, value in (annotations or {}).items()}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "asking"},
        "spec": {
            "replicas": replicas,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": written},
                "spec": {"containers": [_CONTAINER], "terminationGracePeriodSeconds": 0},
            },
        },
    }


async def next_pod(cluster: Cluster, node: str, before: str = "") -> str:
    """UID of the pod that the StatefulSet's controller makes after ``before``, once it is bound to a node."""

    def found() -> str:
        listed = json.loads(cluster.plane.kubectl("get", "pods", "-n", "asking", "-o", "json"))["items"]
        return next((each["metadata"]["uid"] for each in listed if each["metadata"]["uid"] != before), "")

    await until(found)
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web-0"}, "target": {"name": node}}
    path = "/api/v1/namespaces/asking/pods/web-0/binding"
    cluster.plane.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(binding))
    return found()


async def test_the_address_of_a_statefulset_follows_its_ordinal_to_another_node_until_it_is_scaled_down(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    cluster.pool("shared", "10.9.0.1-10.9.0.9", default=True)
    n1, n2 = [await asyncio.to_thread(make_agent, node) for node in ("n1", "n2")]
    cluster.apply(statefulset(1))
    first = await next_pod(cluster, "n1")
    (address,) = addresses(await add(n1, "web-0", first))
    cluster.delete_pod("web-0")
    assert await n1.address("DEL", "asking", "web-0", first) == {}
    assert cluster.records()[address]["podUID"] == first, "kept while the StatefulSet wants it"
    second = await next_pod(cluster, "n2", first)
    assert addresses(await add(n2, "web-0", second)) == [address]
    assert cluster.records()[address] | {"owner": None} == {
        "address": f"{address}/16",
        "pool": "shared",
        "node": "n2",
        "namespace": "asking",
        "pod": "web-0",
        "podUID": second,
        "interface": "eth0",
        "owner": None,
    }
    assert await n1.address("DEL", "asking", "web-0", first) == {}
    cluster.delete_pod("web-0")
    third = await next_pod(cluster, "n1", second)
    assert addresses(await add(n1, "web-0", third)) == [address], "and back again"
    assert addresses(await add(n1, "web-0", third)) == [address]
    cluster.plane.kubectl("scale", "statefulset", "-n", "asking", "web", "--replicas=0")
    await until(lambda: "web-0" not in cluster.plane.kubectl("get", "pods", "-n", "asking", "-o", "name"))
    assert await n1.address("DEL", "asking", "web-0", third) == {}
    assert cluster.records() == {}


async def test_without_the_setting_a_statefulset_is_like_any_other_workload(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.9", nodeName=["n1"], default=True)
    agent = await asyncio.to_thread(make_agent, "n1", "enableStatefulSet: false\n")
    cluster.apply(statefulset(1))
    first = await next_pod(cluster, "n1")
    (address,) = addresses(await add(agent, "web-0", first))
    assert "owner" not in cluster.records()[address]
    cluster.delete_pod("web-0")
    await agent.address("DEL", "asking", "web-0", first)
    assert cluster.records() == {}


async def test_a_released_address_cools_down_and_an_event_tells_when_that_could_not_be(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    cluster.pool("cold", "10.9.0.1-10.9.0.2", nodeName=["n1"], default=True, cooldownSeconds=600)
    agent = await asyncio.to_thread(make_agent, "n1")
    uid = cluster.pod("a")
    assert addresses(await add(agent, "a", uid)) == ["10.9.0.1"]
    cluster.delete_pod("a")
    assert await agent.address("DEL", "asking", "a", uid) == {}
    assert cluster.records()["10.9.0.1"]["releasedAt"]
    assert addresses(await add(agent, "b", cluster.pod("b"))) == ["10.9.0.2"]
    assert addresses(await add(agent, "c", cluster.pod("c"))) == ["10.9.0.1"]
    await until(lambda: "CooldownIgnored" in cluster.events("c"))
    assert "releasedAt" not in cluster.records()["10.9.0.1"]


async def test_an_application_waits_for_its_pool_and_is_served_when_it_appears(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    agent = await asyncio.to_thread(make_agent, "n1")
    cluster.apply(statefulset(1, {f"{PREFIX}/subnet": {"ipv4": ["wide"]}}))
    uid = await next_pod(cluster, "n1")
    waiting = asyncio.create_task(add(agent, "web-0", uid))
    owner = cluster.plane.kubectl("get", "statefulset", "-n", "asking", "web", "-o", "jsonpath={.metadata.uid}")
    labels = {
        f"{PREFIX}/owner-spider-subnet": "wide",
        f"{PREFIX}/owner-application-gv": "apps_v1",
        f"{PREFIX}/owner-application-kind": "StatefulSet",
        f"{PREFIX}/owner-application-namespace": "asking",
        f"{PREFIX}/owner-application-name": "web",
        f"{PREFIX}/owner-application-uid": owner.strip(),
        f"{PREFIX}/interface": "eth0",
        f"{PREFIX}/ip-version": "IPv4",
    }
    affinity = {"api-group": "apps", "api-version": "v1", "kind": "StatefulSet", "namespace": "asking", "name": "web"}
    matching = {"matchLabels": {f"{PREFIX}/app-{key}": value for key, value in affinity.items()}}
    spec = {"subnet": "10.9.0.0/16", "ipVersion": 4, "ips": ["10.9.5.1"], "podAffinity": matching}
    pool = _spiderpool("SpiderIPPool", "auto4-web-eth0-abcde", spec)
    assert not waiting.done()
    cluster.apply(pool | {"metadata": {"name": "auto4-web-eth0-abcde", "labels": labels}})
    assert addresses(await waiting) == ["10.9.5.1"]
    other = cluster.pod("stranger", {f"{PREFIX}/ippool": {"ipv4": ["auto4-web-eth0-abcde"]}})
    assert "was made for another application" in (await add(agent, "stranger", other))["msg"]


async def api(agent: LocalAgent, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    status, answer = await exchange(agent.socket, raw, method, f"/v1{path}")
    return status, json.loads(answer) if answer else None


def call(name: str, uid: str, **fields: Any) -> dict[str, Any]:
    base = {"containerID": "c", "ifName": "eth0", "netNamespace": "/n", "podNamespace": "asking", "podName": name}
    return base | {"podUID": uid} | fields


async def test_the_http_api_gives_and_takes_addresses(cluster: Cluster, make_agent: MakeAgent) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.9", nodeName=["n1"])
    cluster.pool("six", "fd09::1-fd09::9", nodeName=["n1"])
    agent = await asyncio.to_thread(make_agent, "n1", BOTH + "enableIPConflictDetection: true\n")
    uid = cluster.pod("p")
    asked = call("p", "", defaultIPv4IPPool=["one"], defaultIPv6IPPool=["six"])
    status, answer = await api(agent, "POST", "/ipam/ip", asked)
    assert status == 200
    assert answer["ips"] == [
        {
            "address": "10.9.0.1/16",
            "nic": "eth0",
            "version": 4,
            "ipPool": "one",
            "gateway": "10.9.255.254",
            "enableIPConflictDetection": True,
        },
        {
            "address": "fd09::1/64",
            "nic": "eth0",
            "version": 6,
            "ipPool": "six",
            "gateway": "fd09::ff",
            "enableIPConflictDetection": True,
        },
    ]
    assert answer["routes"][0] == {"dst": "0.0.0.0/0", "gw": "10.9.255.254", "ifName": "eth0"}
    status, endpoint = await api(agent, "GET", "/workloadendpoint?podNamespace=asking&podName=p")
    assert (status, endpoint["podUID"], endpoint["node"]) == (200, uid, "n1")
    assert endpoint["interfaces"][0]["ipv6"] == "fd09::1/64"
    assert await api(agent, "DELETE", "/ipam/ip", call("p", uid)) == (200, None)
    assert len(cluster.records()) == 2, "the pod lives: its next sandbox is to find its addresses"
    cluster.delete_pod("p")
    assert await api(agent, "DELETE", "/ipam/ip", call("p", uid)) == (200, None)
    assert cluster.records() == {}
    assert (await api(agent, "GET", "/workloadendpoint?podNamespace=asking&podName=p"))[0] == 404


async def test_a_late_delete_of_a_former_container_takes_nothing_from_a_pod_that_terminates_for_minutes(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.9", nodeName=["n1"], default=True)
    agent = await asyncio.to_thread(make_agent, "n1")
    uid = cluster.pod("p")
    for container in ("before-the-reboot", "after-the-reboot"):
        assert (await api(agent, "POST", "/ipam/ip", call("p", uid, containerID=container)))[0] == 200
    late = call("p", uid, containerID="before-the-reboot")
    assert await api(agent, "DELETE", "/ipam/ip", late) == (200, None)
    cluster.plane.kubectl("delete", "pod", "-n", "asking", "p", "--grace-period=600", "--wait=false")
    other = cluster.pod("other")
    assert addresses(await served(agent, "other", other)) == ["10.9.0.2"], "its event came after that of the deletion"
    assert await api(agent, "DELETE", "/ipam/ip", late) == (200, None)
    assert cluster.records()["10.9.0.1"]["podUID"] == uid
    assert await api(agent, "DELETE", "/ipam/ip", call("p", uid, containerID="after-the-reboot")) == (200, None)
    assert list(cluster.records()) == ["10.9.0.2"]


async def test_the_http_api_replaces_an_address_that_somebody_else_uses(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.9", nodeName=["n1"], default=True)
    agent = await asyncio.to_thread(make_agent, "n1")
    uid = cluster.pod("p")
    _, first = await api(agent, "POST", "/ipam/ip", call("p", uid))
    assert await api(agent, "DELETE", "/ipam/ips", call("p", uid, isReleaseConflictIPs=True)) == (200, None)
    _, second = await api(agent, "POST", "/ipam/ip", call("p", uid))
    assert [ip_interface(each["ips"][0]["address"]).ip.packed[-1] for each in (first, second)] == [1, 2]
    cluster.apply(statefulset(1))
    sticky = await next_pod(cluster, "n1", uid)
    await api(agent, "POST", "/ipam/ip", call("web-0", sticky))
    assert (await api(agent, "DELETE", "/ipam/ips", call("web-0", sticky, isReleaseConflictIPs=True)))[0] == 522


async def test_the_http_api_tells_the_coordinators_settings(cluster: Cluster, make_agent: MakeAgent) -> None:
    agent = await asyncio.to_thread(make_agent, "n1")
    cluster.pod("p", {f"{PREFIX}/default-route-nic": "net1"})
    args = {"podName": "p", "podNamespace": "asking"}
    assert await api(agent, "GET", "/coordinator/config", args) == (
        500,
        "there is no SpiderCoordinator yet; the controller creates one named default",
    )
    spec = {"mode": "disabled", "podCIDRType": "none", "hijackCIDR": ["169.254.0.0/16"], "vethMTU": 1400}
    cluster.apply(_spiderpool("SpiderCoordinator", "default", spec))
    status = {"status": {"phase": "Synced", "overlayPodCIDR": [], "serviceCIDR": ["10.233.0.0/18"]}}
    patch = ("patch", "spidercoordinator", "default", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    cluster.plane.kubectl(*patch)

    async def answer() -> tuple[int, Any]:
        return await api(agent, "GET", "/coordinator/config", args)

    async with asyncio.timeout(10):
        while (await answer())[0] != 200:
            await asyncio.sleep(0.05)
    assert (await answer())[1] == {
        "mode": "disable",
        "overlayPodCIDR": [],
        "serviceCIDR": ["10.233.0.0/18"],
        "tunePodRoutes": True,
        "hijackCIDR": ["169.254.0.0/16"],
        "policyRoutes": [],
        "podDefaultRouteNIC": "net1",
        "hostRuleTable": 500,
        "vethMTU": 1400,
    }
    cluster.delete_pod("p")  # a DEL may come later
    for gone in (args, {}):
        code, settings = await api(agent, "GET", "/coordinator/config", gone)
        assert (code, settings["mode"]) == (200, "disable")


def no_name(where: str) -> dict[str, Any]:
    return {"code": 400, "message": f"{where}, which is no name of a Kubernetes object"}


async def test_a_pod_that_has_ended_gets_no_addresses(cluster: Cluster, make_agent: MakeAgent) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.9", nodeName=["n1"], default=True)
    agent = await asyncio.to_thread(make_agent, "n1")
    ended: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("evicted", {"status": {"phase": "Failed", "reason": "Evicted"}}, "has ended (Failed)"),
        ("done", {"status": {"phase": "Succeeded"}}, "has ended (Succeeded)"),
        ("leaving", {"metadata": {"finalizers": ["example.com/held"]}}, "is being deleted"),
    )
    for name, patch, said in ended:
        uid = cluster.pod(name)
        sub = () if "metadata" in patch else ("--subresource=status",)
        cluster.plane.kubectl("patch", "pod", name, "-n", "asking", *sub, "--type=merge", "-p", json.dumps(patch))
        if "metadata" in patch:
            cluster.plane.kubectl("delete", "pod", name, "-n", "asking", "--wait=false")

        async def refused(name: str = name, uid: str = uid, said: str = said) -> bool:
            return await api(agent, "POST", "/ipam/ip", call(name, uid)) == (
                500,
                f"pod asking/{name} {said}; it gets no addresses any more",
            )

        await eventually(refused)
        given = await agent.address("ADD", "asking", name, uid)
        assert (given["code"], said in given["msg"]) == (11, True)
    cluster.plane.kubectl("patch", "pod", "leaving", "-n", "asking", "--type=merge", "-p", FREE)


async def test_the_http_api_tells_what_a_caller_did_wrong(cluster: Cluster, make_agent: MakeAgent) -> None:
    agent = await asyncio.to_thread(make_agent, "n1")
    without = {key: value for key, value in call("p", "").items() if key != "ifName"}
    asked: list[tuple[str, str, Any, int, Any]] = [
        ("POST", "/ipam/ip", without, 422, {"code": 602, "message": "ifName in body is required"}),
        (
            "GET",
            "/workloadendpoint?podName=p",
            None,
            422,
            {"code": 602, "message": "podNamespace in query is required"},
        ),
        ("GET", "/nowhere", None, 404, {"code": 404, "message": "path /v1/nowhere was not found"}),
        ("PUT", "/ipam/ip", {}, 405, {"code": 405, "message": "method PUT is not allowed, but [DELETE,POST] are"}),
        ("POST", "/ipam/ips", None, 200, None),
        ("GET", "/ipam/healthy", None, 200, None),
        ("GET", "/runtime/startup", None, 200, None),
        ("GET", "/runtime/readiness", None, 200, None),
        ("GET", "/runtime/liveness", None, 200, None),
        (
            "POST",
            "/ipam/ip",
            call("nobody", ""),
            500,
            "pod asking/nobody does not exist; it has been deleted meanwhile",
        ),
        ("DELETE", "/ipam/ip", call("nobody", ""), 200, None),
        ("POST", "/ipam/ip", call("", ""), 400, no_name("podName in body is ''")),
        ("POST", "/ipam/ip", call("../nodes", ""), 400, no_name("podName in body is '../nodes'")),
        ("DELETE", "/ipam/ips", call("", ""), 400, no_name("podName in body is ''")),
        ("GET", "/workloadendpoint?podName=&podNamespace=a", None, 400, no_name("podName in query is ''")),
    ]
    for method, path, body, status, answer in asked:
        assert await api(agent, method, path, body) == (status, answer), f"{method} {path}"
    for body in (b"{", b'{"ifName": 1}', b"[]"):
        status, told = await api(agent, "POST", "/ipam/ip", body)
        assert (status, told["code"]) == (400, 400)


HASH = "0123456789abcdef0123456789abcdef"
MIRROR = {"kubernetes.io/config.hash": HASH, "kubernetes.io/config.mirror": HASH}


async def test_a_static_pod_keeps_its_address_when_its_mirror_is_made_again(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.9", nodeName=["n1"], default=True)
    agent = await asyncio.to_thread(make_agent, "n1")
    mirror = cluster.pod("static-n1", MIRROR)
    first = addresses(await served(agent, "static-n1", HASH))
    assert [record["podUID"] for record in cluster.records().values()] == [HASH]
    cluster.delete_pod("static-n1")
    assert cluster.pod("static-n1", MIRROR) != mirror
    assert await agent.address("DEL", "asking", "static-n1", HASH) == {}, "a sandbox ends, the pod goes on"
    assert addresses(await served(agent, "static-n1", HASH)) == first
    await agent.address("DEL", "asking", "static-n1", HASH)
    assert len(cluster.records()) == 1
    cluster.delete_pod("static-n1")
    await until(lambda: cluster.records() == {})


async def test_nobody_gets_the_address_of_a_pod_whose_uid_he_writes_into_an_annotation(
    cluster: Cluster, make_agent: MakeAgent
) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.9", nodeName=["n1"], default=True)
    agent = await asyncio.to_thread(make_agent, "n1")
    victim = cluster.pod("victim")
    held = addresses(await served(agent, "victim", victim))
    thief = cluster.pod("thief", {"kubernetes.io/config.hash": victim})
    assert addresses(await served(agent, "thief", thief)) != held
    cluster.delete_pod("thief")
    await agent.address("DEL", "asking", "thief", thief)
    assert addresses(await served(agent, "victim", victim)) == held
    assert [record["podUID"] for record in cluster.records().values()] == [victim]

"""The HTTP API of a real agent, as the executables of Spiderpool call it, beside a real API server."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_interface
from typing import Any

import pytest

from tests.agent.address_cluster import BOTH, PREFIX, AddressCluster, next_pod, spiderpool_object, statefulset
from tests.agent.conftest import MakeAgent
from tests.support.eventually import eventually
from tests.support.local_agent import LocalAgent, exchange

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(120)]

NODE = '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "ending"}}'
FREE = '{"metadata": {"finalizers": null}}'


async def api(agent: LocalAgent, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    status, answer = await exchange(agent.socket, raw, method, f"/v1{path}")
    return status, json.loads(answer) if answer else None


def call(name: str, uid: str, **fields: Any) -> dict[str, Any]:
    base = {"containerID": "c", "ifName": "eth0", "netNamespace": "/n", "podNamespace": "asking", "podName": name}
    return base | {"podUID": uid} | fields


async def test_it_gives_and_takes_addresses(cluster: AddressCluster, make_agent: MakeAgent) -> None:
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
    assert (await api(agent, "POST", "/ipam/ip", asked | {"containerID": "next"}))[1]["ips"] == answer["ips"]
    cluster.delete_pod("p")
    assert await api(agent, "DELETE", "/ipam/ip", call("p", uid)) == (200, None)
    assert len(cluster.records()) == 2, "a late call about its former sandbox"
    assert await api(agent, "DELETE", "/ipam/ip", call("p", uid, containerID="next")) == (200, None)
    assert cluster.records() == {}
    assert (await api(agent, "GET", "/workloadendpoint?podNamespace=asking&podName=p"))[0] == 404


async def test_it_replaces_an_address_that_somebody_else_uses(cluster: AddressCluster, make_agent: MakeAgent) -> None:
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


async def test_it_tells_the_coordinators_settings(cluster: AddressCluster, make_agent: MakeAgent) -> None:
    agent = await asyncio.to_thread(make_agent, "n1")
    cluster.pod("p", {f"{PREFIX}/default-route-nic": "net1"})
    args = {"podName": "p", "podNamespace": "asking"}
    assert await api(agent, "GET", "/coordinator/config", args) == (
        500,
        "there is no SpiderCoordinator yet; the controller creates one named default",
    )
    spec = {"mode": "disabled", "podCIDRType": "none", "hijackCIDR": ["169.254.0.0/16"], "vethMTU": 1400}
    cluster.apply(spiderpool_object("SpiderCoordinator", "default", spec))
    status = {"status": {"phase": "Synced", "overlayPodCIDR": [], "serviceCIDR": ["10.233.0.0/18"]}}
    patch = ("patch", "spidercoordinator", "default", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    cluster.plane.kubectl(*patch)

    async def answer() -> tuple[int, Any]:
        return await api(agent, "GET", "/coordinator/config", args)

    async def told() -> bool:
        return (await answer())[0] == 200

    await eventually(told)
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


async def test_a_pod_that_has_ended_gets_no_addresses(cluster: AddressCluster, make_agent: MakeAgent) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.9", nodeName=["ending"], default=True)
    cluster.plane.apply(NODE)
    agent = await asyncio.to_thread(make_agent, "ending")
    ended: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("evicted", {"status": {"phase": "Failed", "reason": "Evicted"}}, "has ended (Failed)"),
        ("done", {"status": {"phase": "Succeeded"}}, "has ended (Succeeded)"),
        ("leaving", {"metadata": {"finalizers": ["example.com/held"]}}, "is being deleted"),
    )
    for name, patch, said in ended:
        uid = cluster.pod(name, node="ending")
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
    cluster.plane.kubectl("delete", "node", "ending")


def no_name(where: str) -> dict[str, Any]:
    return {"code": 400, "message": f"{where}, which is no name of a Kubernetes object"}


async def test_it_tells_what_a_caller_did_wrong(cluster: AddressCluster, make_agent: MakeAgent) -> None:
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

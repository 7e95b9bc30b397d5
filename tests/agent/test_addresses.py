"""Every way of asking for an address, through real agents and a real API server."""

from __future__ import annotations

import asyncio

import pytest

from tests.agent.address_cluster import (
    BOTH,
    PREFIX,
    AddressCluster,
    add,
    addresses,
    next_pod,
    served,
    spiderpool_object,
    statefulset,
    until,
)
from tests.agent.conftest import MakeAgent

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(120)]


async def test_dual_stack_gives_one_address_of_each_family_or_none(
    cluster: AddressCluster, make_agent: MakeAgent
) -> None:
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
    cluster: AddressCluster, make_agent: MakeAgent
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


async def test_a_wrong_annotation_is_told_by_the_answer_and_an_event(
    cluster: AddressCluster, make_agent: MakeAgent
) -> None:
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


async def test_annotations_without_effect_are_told_by_events(cluster: AddressCluster, make_agent: MakeAgent) -> None:
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


async def test_named_interfaces_get_their_addresses_at_once_or_none(
    cluster: AddressCluster, make_agent: MakeAgent
) -> None:
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


async def test_unnamed_interfaces_are_served_in_the_order_of_the_calls(
    cluster: AddressCluster, make_agent: MakeAgent
) -> None:
    cluster.pool("one", "10.9.0.1-10.9.0.3", nodeName=["n1"])
    agent = await asyncio.to_thread(make_agent, "n1")
    uid = cluster.pod("p", {f"{PREFIX}/ippools": [{"ipv4": ["one"]}, {"ipv4": ["one"]}]})
    for _ in range(2):
        assert addresses(await add(agent, "p", uid)) == ["10.9.0.1"]
        assert addresses(await add(agent, "p", uid, "second")) == ["10.9.0.2"]
    assert "second2 is one more" in (await add(agent, "p", uid, "second2"))["msg"]
    assert await agent.address("CHECK", "asking", "p", uid, "second") == {}


async def test_a_reserved_address_is_given_to_nobody_and_kept_by_its_holder(
    cluster: AddressCluster, make_agent: MakeAgent
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


async def test_the_address_of_a_statefulset_follows_its_ordinal_to_another_node_until_it_is_scaled_down(
    cluster: AddressCluster, make_agent: MakeAgent
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
    cluster: AddressCluster, make_agent: MakeAgent
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
    cluster: AddressCluster, make_agent: MakeAgent
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
    cluster: AddressCluster, make_agent: MakeAgent
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
    pool = spiderpool_object("SpiderIPPool", "auto4-web-eth0-abcde", spec)
    assert not waiting.done()
    cluster.apply(pool | {"metadata": {"name": "auto4-web-eth0-abcde", "labels": labels}})
    assert addresses(await waiting) == ["10.9.5.1"]
    other = cluster.pod("stranger", {f"{PREFIX}/ippool": {"ipv4": ["auto4-web-eth0-abcde"]}})
    assert "was made for another application" in (await add(agent, "stranger", other))["msg"]


HASH = "0123456789abcdef0123456789abcdef"
MIRROR = {"kubernetes.io/config.hash": HASH, "kubernetes.io/config.mirror": HASH}


async def test_a_static_pod_keeps_its_address_when_its_mirror_is_made_again(
    cluster: AddressCluster, make_agent: MakeAgent
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
    cluster: AddressCluster, make_agent: MakeAgent
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

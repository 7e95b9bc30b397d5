# mypy: disable-error-code="import-untyped"
"""Classic load balancers as the vendor's own client sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spiderpool_lab.alibaba.account import Account, ENIAddresses
from tests.lab.alibaba.conftest import Clients
from tests.lab.alibaba.test_ecs import refused

pytestmark = pytest.mark.unit


async def create(clients: Clients, **more: Any) -> str:
    answer = await clients.call("slb", "CreateLoadBalancer", **more)
    identity: str = answer["LoadBalancerId"]
    return identity


def servers(*rows: dict[str, Any]) -> str:
    return json.dumps([{"ServerId": "i-master", "Port": 30080, "Weight": 100, "Type": "ecs", **row} for row in rows])


async def test_a_balancer_is_made_once_and_found_by_its_tag(clients: Clients) -> None:
    request = {
        "LoadBalancerName": "a1",
        "Tag": [{"Key": "kubernetes.do.not.delete", "Value": "a1"}],
        "ClientToken": "t",
    }
    made = await create(clients, **request)
    assert await create(clients, **request) == made
    tags = json.dumps([{"TagKey": "kubernetes.do.not.delete", "TagValue": "a1"}])
    answer = await clients.call("slb", "DescribeLoadBalancers", Tags=tags)
    (found,) = answer["LoadBalancers"]["LoadBalancer"]
    assert (found["LoadBalancerId"], found["Address"], found["AddressType"]) == (made, "198.51.100.65", "internet")
    assert (found["LoadBalancerStatus"], found["InstanceChargeType"]) == ("active", "PayByCLCU")
    answer = await clients.call("slb", "DescribeLoadBalancers", LoadBalancerName="other")
    assert answer["LoadBalancers"]["LoadBalancer"] == []


async def test_an_intranet_balancer_has_an_address_of_its_vswitch(account: Account, clients: Clients) -> None:
    assert await refused(clients, "slb", "CreateLoadBalancer", AddressType="intranet") == "MissingParameter"
    request = {"AddressType": "intranet", "VSwitchId": "vsw-1", "InstanceChargeType": "PayBySpec"}
    made = await clients.call("slb", "CreateLoadBalancer", **request, LoadBalancerSpec="slb.s1.small")
    assert (made["Address"], made["NetworkType"]) == ("192.168.0.1", "vpc")
    assert "192.168.0.1" in account.used_addresses("vsw-1")


async def test_certificates_for_further_domains(clients: Clients) -> None:
    balancer = {"LoadBalancerId": await create(clients)}
    group = (await clients.call("slb", "CreateVServerGroup", **balancer, VServerGroupName="g"))["VServerGroupId"]
    where: dict[str, Any] = {**balancer, "ListenerPort": 443}
    missing = await refused(clients, "slb", "CreateDomainExtension", **where, Domain="a.b", ServerCertificateId="c")
    assert missing == "InvalidParameter"
    settings = {"ServerCertificateId": "crt-1", "StickySession": "off", "HealthCheck": "off", "VServerGroupId": group}
    await clients.call("slb", "CreateLoadBalancerHTTPSListener", **where, **settings)
    given: dict[str, Any] = {"Domain": "a.b", "ServerCertificateId": "crt-2"}
    made = await clients.call("slb", "CreateDomainExtension", **where, **given)
    again = await refused(clients, "slb", "CreateDomainExtension", **where, **given)
    assert again == "DomainExtensionAlreadyExists"
    which: dict[str, Any] = {"DomainExtensionId": made["DomainExtensionId"]}
    await clients.call("slb", "SetDomainExtensionAttribute", **which, ServerCertificateId="crt-3")
    answer = await clients.call("slb", "DescribeDomainExtensions", **where)
    (found,) = answer["DomainExtensions"]["DomainExtension"]
    assert (found["Domain"], found["ServerCertificateId"]) == ("a.b", "crt-3")
    await clients.call("slb", "DeleteDomainExtension", **which)
    assert await refused(clients, "slb", "DeleteDomainExtension", **which) == "InvalidDomainExtensionId.NotFound"


async def test_protection_against_deletion(clients: Clients) -> None:
    which = {"LoadBalancerId": await create(clients, DeleteProtection="on")}
    assert await refused(clients, "slb", "DeleteLoadBalancer", **which) == "OperationDenied.DeleteProtectionIsOn"
    await clients.call("slb", "SetLoadBalancerDeleteProtection", **which, DeleteProtection="off")
    await clients.call("slb", "DeleteLoadBalancer", **which)
    assert await refused(clients, "slb", "DescribeLoadBalancerAttribute", **which) == "InvalidLoadBalancerId.NotFound"


async def test_settings_of_a_balancer_are_changed(clients: Clients) -> None:
    which = {"LoadBalancerId": await create(clients)}
    protect = {"ModificationProtectionStatus": "ConsoleProtection", "ModificationProtectionReason": "managed"}
    await clients.call("slb", "SetLoadBalancerModificationProtection", **which, **protect)
    spec = {"InternetChargeType": "paybybandwidth", "Bandwidth": 50}
    await clients.call("slb", "ModifyLoadBalancerInternetSpec", **which, **spec)
    await clients.call("slb", "ModifyLoadBalancerInstanceSpec", **which, LoadBalancerSpec="slb.s2.small")
    await clients.call("slb", "ModifyLoadBalancerInstanceChargeType", **which, InstanceChargeType="PayBySpec")
    await clients.call("slb", "SetLoadBalancerName", **which, LoadBalancerName="other")
    await clients.call("slb", "SetLoadBalancerStatus", **which, LoadBalancerStatus="inactive")
    answer = await clients.call("slb", "DescribeLoadBalancerAttribute", **which)
    expected = {**protect, **spec, "LoadBalancerSpec": "slb.s2.small", "LoadBalancerStatus": "inactive"}
    assert {name: answer[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("protocol", "settings", "shown"),
    [
        ("TCP", {"healthCheckInterval": 5, "PersistenceTimeout": 60}, {"HealthCheckInterval": 5, "HealthCheck": "on"}),
        ("UDP", {"Scheduler": "rr"}, {"HealthCheckConnectTimeout": 10, "Scheduler": "rr"}),
        ("HTTP", {"StickySession": "off", "HealthCheck": "off"}, {"XForwardedFor": "on", "IdleTimeout": 15}),
        (
            "HTTPS",
            {"StickySession": "off", "HealthCheck": "on", "ServerCertificateId": "c"},
            {"EnableHttp2": "on", "HealthCheckURI": "/"},
        ),
    ],
)
async def test_a_listener_is_made_started_changed_stopped_and_deleted(
    clients: Clients, protocol: str, settings: dict[str, Any], shown: dict[str, Any]
) -> None:
    which = {"LoadBalancerId": await create(clients), "ListenerPort": 999}
    request = {**which, **settings, "BackendServerPort": 30080, "Bandwidth": -1, "Description": "k8s/999"}
    await clients.call("slb", f"CreateLoadBalancer{protocol}Listener", **request)
    assert await refused(clients, "slb", f"CreateLoadBalancer{protocol}Listener", **request) == "ListenerAlreadyExists"
    describe = f"DescribeLoadBalancer{protocol}ListenerAttribute"
    answer = await clients.call("slb", describe, **which)
    assert (answer["Status"], answer["Bandwidth"], answer["BackendServerPort"]) == ("stopped", -1, 30080)
    assert {name: answer[name] for name in shown} == shown
    named = {**which, "ListenerProtocol": protocol.lower()}
    await clients.call("slb", "StartLoadBalancerListener", **named)
    await clients.call("slb", f"SetLoadBalancer{protocol}ListenerAttribute", **which, HealthyThreshold=7)
    answer = await clients.call("slb", describe, **which)
    assert (answer["Status"], answer["HealthyThreshold"]) == ("running", 7)
    await clients.call("slb", "StopLoadBalancerListener", **named)
    await clients.call("slb", "DeleteLoadBalancerListener", **named)
    assert await refused(clients, "slb", describe, **which) == "InvalidParameter"


async def test_listeners_are_listed_with_their_configuration(clients: Clients) -> None:
    balancer = await create(clients)
    for protocol, port in (("TCP", 999), ("UDP", 53)):
        request = {"LoadBalancerId": balancer, "ListenerPort": port, "BackendServerPort": 1}
        await clients.call("slb", f"CreateLoadBalancer{protocol}Listener", **request)
    answer = await clients.call("slb", "DescribeLoadBalancerListeners", LoadBalancerId=[balancer])
    found = {item["ListenerProtocol"]: item for item in answer["Listeners"]}
    assert found["tcp"]["TCPListenerConfig"]["PersistenceTimeout"] == 0
    assert (found["udp"]["ListenerPort"], found["udp"]["Status"]) == (53, "stopped")
    answer = await clients.call("slb", "DescribeLoadBalancerAttribute", LoadBalancerId=balancer)
    assert answer["ListenerPortsAndProtocol"]["ListenerPortAndProtocol"][1]["ListenerProtocol"] == "tcp"


@pytest.mark.parametrize(
    ("protocol", "settings", "code"),
    [
        ("TCP", {}, "MissingParameter"),
        ("TCP", {"BackendServerPort": 1, "HealthyThreshold": 11}, "InvalidParameter"),
        ("TCP", {"BackendServerPort": 1, "Scheduler": "best"}, "InvalidParameter"),
        ("TCP", {"VServerGroupId": "rsp-none"}, "InvalidParameter"),
        ("HTTP", {"BackendServerPort": 1}, "MissingParameter"),
        ("HTTP", {"ListenerForward": "on"}, "MissingParameter"),
        ("HTTP", {"BackendServerPort": 1, "HealthCheck": "off", "StickySession": "on"}, "MissingParameter"),
        ("HTTPS", {"BackendServerPort": 1, "HealthCheck": "off", "StickySession": "off"}, "MissingParameter"),
    ],
)
async def test_listeners_that_cannot_be(clients: Clients, protocol: str, settings: dict[str, Any], code: str) -> None:
    request = {"LoadBalancerId": await create(clients), "ListenerPort": 80, **settings}
    assert await refused(clients, "slb", f"CreateLoadBalancer{protocol}Listener", **request) == code


async def test_a_redirecting_listener_needs_no_backends(clients: Clients) -> None:
    request = {"LoadBalancerId": await create(clients), "ListenerPort": 80, "ListenerForward": "on", "ForwardPort": 443}
    await clients.call("slb", "CreateLoadBalancerHTTPListener", **request)


async def test_backends_of_a_group(account: Account, clients: Clients) -> None:
    balancer = await create(clients)
    made = await clients.call("slb", "CreateVServerGroup", LoadBalancerId=balancer, VServerGroupName="k8s/30080")
    group = {"VServerGroupId": made["VServerGroupId"]}

    async def weights() -> dict[tuple[str, int], int]:
        answer = await clients.call("slb", "DescribeVServerGroupAttribute", **group)
        rows = answer["BackendServers"]["BackendServer"]
        return {(row["ServerId"], row["Port"]): row["Weight"] for row in rows}

    both = servers({}, {"ServerId": "i-worker", "Weight": 2, "Description": "k8s/30080"})
    await clients.call("slb", "AddVServerGroupBackendServers", **group, BackendServers=both)
    assert await weights() == {("i-master", 30080): 100, ("i-worker", 30080): 2}
    await clients.call("slb", "SetVServerGroupAttribute", **group, BackendServers=servers({"Weight": 7}))
    swap = {"OldBackendServers": servers({"ServerId": "i-worker"}), "NewBackendServers": servers({"Port": 30081})}
    await clients.call("slb", "ModifyVServerGroupBackendServers", **group, **swap)
    assert await weights() == {("i-master", 30080): 7, ("i-master", 30081): 100}
    await clients.call("slb", "RemoveVServerGroupBackendServers", **group, BackendServers=servers({"Port": 30081}))
    account.delete_instance("i-master")
    await clients.call("slb", "RemoveVServerGroupBackendServers", **group, BackendServers=servers({}))
    assert await weights() == {}


async def test_a_pod_address_is_a_backend_by_its_eni(account: Account, clients: Clients) -> None:
    account.tables.enis.put(
        account.add_eni("vsw-0", identity="eni-pods", addresses=ENIAddresses(secondaries=("172.31.199.187",)))
    )
    pod = {"ServerId": "eni-pods", "Type": "eni", "ServerIp": "172.31.199.187", "Port": 80}
    request = {"LoadBalancerId": await create(clients), "BackendServers": servers(pod)}
    made = await clients.call("slb", "CreateVServerGroup", **request)
    answer = await clients.call("slb", "DescribeVServerGroupAttribute", VServerGroupId=made["VServerGroupId"])
    assert answer["BackendServers"]["BackendServer"][0]["ServerIp"] == "172.31.199.187"
    request["BackendServers"] = servers({**pod, "ServerIp": "172.31.199.250"})
    assert await refused(clients, "slb", "CreateVServerGroup", **request) == "InvalidServerIp"
    request["BackendServers"] = servers({"ServerId": "i-none"})
    assert await refused(clients, "slb", "CreateVServerGroup", **request) == "InvalidServerId.NotExist"


async def test_a_group_in_use_is_not_deleted(clients: Clients) -> None:
    balancer = {"LoadBalancerId": await create(clients)}
    made = await clients.call("slb", "CreateVServerGroup", **balancer, BackendServers=servers({}))
    group = {"VServerGroupId": made["VServerGroupId"]}
    await clients.call("slb", "CreateLoadBalancerTCPListener", **balancer, **group, ListenerPort=999)
    assert await refused(clients, "slb", "DeleteVServerGroup", **group) == "RspoolVipExist"
    answer = await clients.call("slb", "DescribeVServerGroups", **balancer, IncludeListener=True)
    (row,) = answer["VServerGroups"]["VServerGroup"]
    assert row["AssociatedObjects"]["Listeners"]["Listener"] == [{"Port": 999, "Protocol": "tcp"}]
    answer = await clients.call("slb", "DescribeHealthStatus", **balancer, ListenerPort=999)
    assert answer["BackendServers"]["BackendServer"][0]["ServerHealthStatus"] == "unavailable"
    await clients.call("slb", "DeleteLoadBalancerListener", **balancer, ListenerPort=999)
    await clients.call("slb", "DeleteVServerGroup", **group)


async def test_tags_in_both_spellings(clients: Clients) -> None:
    balancer = await create(clients)
    tag = json.dumps([{"TagKey": "a", "TagValue": "1"}])
    await clients.call("slb", "AddTags", LoadBalancerId=balancer, Tags=tag)
    what = {"ResourceType": "instance", "ResourceId": [balancer]}
    await clients.call("slb", "TagResources", **what, Tag=[{"Key": "b", "Value": "2"}])
    answer = await clients.call("slb", "DescribeTags", LoadBalancerId=balancer)
    assert [row["TagKey"] for row in answer["TagSets"]["TagSet"]] == ["a", "b"]
    await clients.call("slb", "RemoveTags", LoadBalancerId=balancer, Tags=tag)
    answer = await clients.call("slb", "ListTagResources", **what)
    assert [row["TagKey"] for row in answer["TagResources"]["TagResource"]] == ["b"]
    await clients.call("slb", "UntagResources", **what, All=True)
    answer = await clients.call("slb", "ListTagResources", **what)
    assert answer["TagResources"]["TagResource"] == []

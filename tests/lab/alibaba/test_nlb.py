# mypy: disable-error-code="import-untyped"
"""Network load balancers and their asynchronous jobs, called by the vendor's own client."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from spiderpool_lab.alibaba import nlb_groups
from spiderpool_lab.alibaba.account import Account, Delays
from tests.lab.alibaba.conftest import Clients, Clock
from tests.lab.alibaba.test_ecs import refused

pytestmark = pytest.mark.unit

VPC = "vpc-bp100000000000001"
ZONES = [{"VSwitchId": "vsw-0", "ZoneId": "cn-hangzhou-i"}]


@pytest.fixture
def pass_time(account: Account) -> Callable[[], None]:
    """Make jobs take 30 seconds of a clock that moves only when this is called."""
    clock = Clock(time.time())
    account.clock, account.delays = clock, Delays(job=30)

    def move() -> None:
        clock.now += 31

    return move


async def create(clients: Clients, **more: Any) -> str:
    request = {"AddressType": "Internet", "VpcId": VPC, "ZoneMappings": ZONES, **more}
    identity: str = (await clients.call("nlb", "CreateLoadBalancer", **request))["LoadbalancerId"]
    return identity


async def create_group(clients: Clients, **more: Any) -> str:
    request = {"ServerGroupName": "k8s.80", "VpcId": VPC, **more}
    identity: str = (await clients.call("nlb", "CreateServerGroup", **request))["ServerGroupId"]
    return identity


async def test_a_balancer_is_provisioned_described_and_deleted(clients: Clients, pass_time: Callable[[], None]) -> None:
    which = {"LoadBalancerId": await create(clients, Tag=[{"Key": "a", "Value": "1"}])}
    answer = await clients.call("nlb", "GetLoadBalancerAttribute", **which)
    assert (answer["LoadBalancerStatus"], answer["AddressType"]) == ("Provisioning", "Internet")
    assert answer["DNSName"] == f"{which['LoadBalancerId']}.cn-hangzhou.nlb.aliyuncs.com"
    (zone,) = answer["ZoneMappings"]
    assert zone["LoadBalancerAddresses"][0]["PublicIPv4Address"] == "198.51.100.65"
    assert zone["LoadBalancerAddresses"][0]["PrivateIPv4Address"] == "172.31.192.1"
    assert await refused(clients, "nlb", "DeleteLoadBalancer", **which) == "IncorrectStatus.loadbalancer"
    pass_time()
    answer = await clients.call("nlb", "ListLoadBalancers", Tag=[{"Key": "a", "Value": "1"}])
    assert [item["LoadBalancerStatus"] for item in answer["LoadBalancers"]] == ["Active"]
    job = {"JobId": (await clients.call("nlb", "DeleteLoadBalancer", **which))["JobId"]}
    assert (await clients.call("nlb", "GetJobStatus", **job))["Status"] == "Processing"
    listed = {"JobIds": [job["JobId"], "job-none"]}
    assert (await clients.call("nlb", "ListAsynJobs", **listed))["Jobs"] == [
        {"Id": job["JobId"], "Status": "Processing"}
    ]
    pass_time()
    assert (await clients.call("nlb", "GetJobStatus", **job))["Status"] == "Succeeded"
    assert [each["Status"] for each in (await clients.call("nlb", "ListAsynJobs", **listed))["Jobs"]] == ["Succeeded"]
    many = {"JobIds": [f"job-{number}" for number in range(21)]}
    assert await refused(clients, "nlb", "ListAsynJobs", **many) == "InvalidParameter"
    assert await refused(clients, "nlb", "GetLoadBalancerAttribute", **which) == "ResourceNotFound.loadBalancer"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"VpcId": "vpc-none"}, "ResourceNotFound.vpc"),
        ({"ZoneMappings": [{"VSwitchId": "vsw-0", "ZoneId": "cn-hangzhou-b"}]}, "Mismatch.VSwitchIdAndZone"),
        ({"ZoneMappings": ZONES * 2}, "InvalidParameter"),
        ({"AddressType": "internet"}, "InvalidParameter"),
        ({"ZoneMappings": [{"VSwitchId": "vsw-1", "ZoneId": "cn-hangzhou-i"}], "AddressIpVersion": "DualStack"}, None),
    ],
)
async def test_balancers_that_cannot_be(clients: Clients, more: dict[str, Any], code: str | None) -> None:
    request = {"AddressType": "Internet", "VpcId": VPC, "ZoneMappings": ZONES, **more}
    expected = code or "OperationDenied.VSwitchNotSupportIpv6"
    assert await refused(clients, "nlb", "CreateLoadBalancer", **request) == expected


async def test_protections(clients: Clients) -> None:
    which = {"LoadBalancerId": await create(clients, DeletionProtectionConfig={"Enabled": True, "Reason": "managed"})}
    assert await refused(clients, "nlb", "DeleteLoadBalancer", **which) == "OperationDenied.DeletionProtectionEnabled"
    change = {"DeletionProtectionEnabled": False, "ModificationProtectionStatus": "ConsoleProtection"}
    await clients.call("nlb", "UpdateLoadBalancerProtection", **which, **change)
    answer = await clients.call("nlb", "GetLoadBalancerAttribute", **which)
    assert answer["DeletionProtectionConfig"]["Enabled"] is False
    assert answer["ModificationProtectionConfig"]["Status"] == "ConsoleProtection"
    await clients.call("nlb", "DeleteLoadBalancer", **which)


async def test_settings_of_a_balancer_are_changed(account: Account, clients: Clients) -> None:
    account.add_vswitch("172.31.0.0/24", identity="vsw-2", zone="cn-hangzhou-j")
    which = {"LoadBalancerId": await create(clients)}
    await clients.call("nlb", "UpdateLoadBalancerAttribute", **which, LoadBalancerName="b", CrossZoneEnabled=False)
    zones = [*ZONES, {"VSwitchId": "vsw-2", "ZoneId": "cn-hangzhou-j"}]
    await clients.call("nlb", "UpdateLoadBalancerZones", **which, ZoneMappings=zones)
    await clients.call("nlb", "LoadBalancerJoinSecurityGroup", **which, SecurityGroupIds=["sg-1"])
    await clients.call("nlb", "UpdateLoadBalancerAddressTypeConfig", **which, AddressType="Intranet")
    answer = await clients.call("nlb", "GetLoadBalancerAttribute", **which)
    assert (answer["LoadBalancerName"], answer["CrossZoneEnabled"], answer["AddressType"]) == ("b", False, "Intranet")
    assert [zone["ZoneId"] for zone in answer["ZoneMappings"]] == ["cn-hangzhou-i", "cn-hangzhou-j"]
    assert answer["SecurityGroupIds"] == ["sg-1"]
    await clients.call("nlb", "LoadBalancerLeaveSecurityGroup", **which, SecurityGroupIds=["sg-1"])


async def test_bandwidth_packages_belong_to_public_balancers(clients: Clients) -> None:
    private = {"LoadBalancerId": await create(clients, AddressType="Intranet"), "BandwidthPackageId": "cbwp-1"}
    attach, detach = "AttachCommonBandwidthPackageToLoadBalancer", "DetachCommonBandwidthPackageFromLoadBalancer"
    assert await refused(clients, "nlb", attach, **private) == "OperationDenied.AddressTypeNotSupport"
    which = {"LoadBalancerId": await create(clients), "BandwidthPackageId": "cbwp-1"}
    assert await refused(clients, "nlb", detach, **which) == "ResourceNotFound.BandwidthPackage"
    await clients.call("nlb", attach, **which)
    assert await refused(clients, "nlb", attach, **which) == "ResourceAlreadyAssociated.BandwidthPackage"
    found = {"LoadBalancerId": which["LoadBalancerId"]}
    assert (await clients.call("nlb", "GetLoadBalancerAttribute", **found))["BandwidthPackageId"] == "cbwp-1"
    await clients.call("nlb", detach, **which)


async def test_public_ipv6_addresses_need_ipv6_addresses(clients: Clients) -> None:
    which = {"LoadBalancerId": await create(clients)}
    code = await refused(clients, "nlb", "EnableLoadBalancerIpv6Internet", **which)
    assert code == "OperationDenied.AddressIpVersionNotSupport"
    which = {"LoadBalancerId": await create(clients, AddressIpVersion="DualStack")}
    for action, kind in (("Enable", "Internet"), ("Disable", "Intranet")):
        await clients.call("nlb", f"{action}LoadBalancerIpv6Internet", **which)
        assert (await clients.call("nlb", "GetLoadBalancerAttribute", **which))["Ipv6AddressType"] == kind


async def test_a_listener_of_a_range_of_ports(clients: Clients) -> None:
    balancer, group = await create(clients), await create_group(clients)
    free = await create_group(clients, AnyPortEnabled=True)
    where: dict[str, Any] = {"LoadBalancerId": balancer, "ListenerProtocol": "TCP"}
    ports: dict[str, Any] = {"ListenerPort": 0, "StartPort": 80, "EndPort": 90}
    assert await refused(clients, "nlb", "CreateListener", **where, ServerGroupId=group, **ports) == "Mismatch.AnyPort"
    where["ServerGroupId"] = free
    assert await refused(clients, "nlb", "CreateListener", **where, ListenerPort=0) == "MissingParameter"
    assert await refused(clients, "nlb", "CreateListener", **where, **{**ports, "EndPort": 80}) == "InvalidParameter"
    await clients.call("nlb", "CreateListener", **where, **ports)
    where["ServerGroupId"] = group
    taken = await refused(clients, "nlb", "CreateListener", **where, ListenerPort=85)
    assert taken == "ResourceAlreadyExist.Listener"


async def test_certificates_beside_the_own_one_are_of_tcpssl_listeners(clients: Clients) -> None:
    balancer, group = await create(clients), await create_group(clients, PreserveClientIpEnabled=False)
    where = {"LoadBalancerId": balancer, "ServerGroupId": group}
    plain = await clients.call("nlb", "CreateListener", **where, ListenerProtocol="TCP", ListenerPort=80)
    add, remove = (f"{each}AdditionalCertificatesWithListener" for each in ("Associate", "Disassociate"))
    sent: dict[str, Any] = {"ListenerId": plain["ListenerId"], "AdditionalCertificateIds": ["crt-2"]}
    assert await refused(clients, "nlb", add, **sent) == "Mismatch.Protocol"
    secure = {"ListenerProtocol": "TCPSSL", "ListenerPort": 443, "CertificateIds": ["crt-1"]}
    which = {"ListenerId": (await clients.call("nlb", "CreateListener", **where, **secure))["ListenerId"]}
    many = [f"crt-{number}" for number in range(2, 18)]
    assert await refused(clients, "nlb", add, **which, AdditionalCertificateIds=many) == "InvalidParameter"
    assert await refused(clients, "nlb", remove, **which, AdditionalCertificateIds=many[:1]) == (
        "ResourceNotFound.Certificate"
    )
    await clients.call("nlb", add, **which, AdditionalCertificateIds=many[:2])
    await clients.call("nlb", remove, **which, AdditionalCertificateIds=many[:1])
    answer = await clients.call("nlb", "ListListenerCertificates", **which, MaxResults=50)
    assert [(each["CertificateId"], each["IsDefault"]) for each in answer["Certificates"]] == [
        ("crt-1", True),
        ("crt-3", False),
    ]


async def test_a_listener_lives_and_dies(clients: Clients, pass_time: Callable[[], None]) -> None:
    balancer, group = await create(clients), await create_group(clients)
    request = {"LoadBalancerId": balancer, "ServerGroupId": group, "ListenerProtocol": "TCP", "ListenerPort": 80}
    assert await refused(clients, "nlb", "CreateListener", **request) == "IncorrectStatus.loadbalancer"
    pass_time()
    created = await clients.call("nlb", "CreateListener", **request, ProxyProtocolEnabled=True, IdleTimeout=60)
    which = {"ListenerId": created["ListenerId"]}
    assert await refused(clients, "nlb", "StopListener", **which) == "ResourceInConfiguring.listener"
    assert await refused(clients, "nlb", "CreateListener", **request) == "ResourceAlreadyExist.Listener"
    pass_time()
    answer = await clients.call("nlb", "GetListenerAttribute", **which)
    assert (answer["ListenerStatus"], answer["ProxyProtocolEnabled"], answer["IdleTimeout"]) == ("Running", True, 60)
    await clients.call("nlb", "UpdateListenerAttribute", **which, IdleTimeout=70)
    pass_time()
    await clients.call("nlb", "StopListener", **which)
    pass_time()
    answer = await clients.call("nlb", "ListListeners", LoadBalancerIds=[balancer])
    assert [(item["ListenerStatus"], item["IdleTimeout"]) for item in answer["Listeners"]] == [("Stopped", 70)]
    await clients.call("nlb", "StartListener", **which)
    pass_time()
    assert await refused(clients, "nlb", "DeleteServerGroup", ServerGroupId=group) == "ResourceInUse.ServerGroup"
    await clients.call("nlb", "GetListenerHealthStatus", **which)
    await clients.call("nlb", "DeleteListener", **which)
    pass_time()
    assert await refused(clients, "nlb", "GetListenerAttribute", **which) == "ResourceNotFound.listener"
    await clients.call("nlb", "DeleteServerGroup", ServerGroupId=group)
    pass_time()
    assert (await clients.call("nlb", "ListServerGroups"))["ServerGroups"] == []


async def test_a_group_is_described_and_changed(clients: Clients) -> None:
    health = {"HealthCheckEnabled": True, "HealthCheckType": "HTTP", "HealthCheckHttpCode": ["http_2xx", "http_3xx"]}
    group = await create_group(clients, HealthCheckConfig=health, Scheduler="rr", PreserveClientIpEnabled=False)
    change = {"ServerGroupName": "other", "HealthCheckConfig": {"HealthyThreshold": 5}}
    await clients.call("nlb", "UpdateServerGroupAttribute", ServerGroupId=group, **change)
    answer = await clients.call("nlb", "ListServerGroups", ServerGroupNames=["other"])
    (found,) = answer["ServerGroups"]
    assert (found["ServerGroupId"], found["Scheduler"], found["PreserveClientIpEnabled"]) == (group, "rr", False)
    assert found["HealthCheck"]["HealthCheckHttpCode"] == ["http_2xx", "http_3xx"]
    assert (found["HealthCheck"]["HealthyThreshold"], found["ServerGroupStatus"]) == (5, "Available")


@pytest.mark.parametrize("scheduler", ["Wrr", "Wlc", "rr", "sch", "tch", "qch"])
async def test_schedulers_are_spelt_as_the_api_spells_them(clients: Clients, scheduler: str) -> None:
    protocol = "UDP" if scheduler == "qch" else "TCP"
    group = await create_group(clients, Scheduler=scheduler, Protocol=protocol)
    (found,) = (await clients.call("nlb", "ListServerGroups", ServerGroupIds=[group]))["ServerGroups"]
    assert found["Scheduler"] == scheduler
    other = {"ServerGroupId": group, "Scheduler": scheduler.swapcase()}
    assert await refused(clients, "nlb", "UpdateServerGroupAttribute", **other) == "InvalidParameter"


async def test_servers_come_and_go_by_jobs(clients: Clients, pass_time: Callable[[], None]) -> None:
    group = {"ServerGroupId": await create_group(clients)}
    pass_time()

    async def status() -> list[tuple[str, int, str]]:
        answer = await clients.call("nlb", "ListServerGroupServers", **group)
        return [(row["ServerIp"], row["Weight"], row["Status"]) for row in answer["Servers"]]

    node = {"ServerId": "i-master", "ServerType": "Ecs", "Port": 30080, "Weight": 3}
    await clients.call("nlb", "AddServersToServerGroup", **group, Servers=[node])
    assert await status() == [("172.31.199.183", 3, "Adding")]
    assert await refused(clients, "nlb", "AddServersToServerGroup", **group, Servers=[node]) == (
        "IncorrectStatus.serverGroup"
    )
    pass_time()
    await clients.call("nlb", "UpdateServerGroupServersAttribute", **group, Servers=[{**node, "Weight": 9}])
    pass_time()
    assert await status() == [("172.31.199.183", 9, "Available")]
    named = {"ServerId": "i-master", "ServerType": "Ecs", "Port": 30080}
    await clients.call("nlb", "RemoveServersFromServerGroup", **group, Servers=[named])
    assert await status() == [("172.31.199.183", 9, "Removing")]
    pass_time()
    assert await status() == []
    assert await refused(clients, "nlb", "RemoveServersFromServerGroup", **group, Servers=[named]) == (
        "ResourceNotFound.BackendServer"
    )


async def test_a_server_is_in_no_more_groups_than_its_quota_allows(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nlb_groups, "TIMES_ADDED", 1)
    first, second = [await create_group(clients, ServerGroupType="Ip") for _ in range(2)]
    here, there = ([{"ServerId": each, "ServerType": "Ip", "Port": 80}] for each in ("172.31.192.9", "172.31.192.8"))
    await clients.call("nlb", "AddServersToServerGroup", ServerGroupId=first, Servers=here)
    await clients.call("nlb", "AddServersToServerGroup", ServerGroupId=second, Servers=there)
    full: dict[str, Any] = {"ServerGroupId": second, "Servers": here}
    assert await refused(clients, "nlb", "AddServersToServerGroup", **full) == "QuotaExceeded.ServerAddedNum"
    await clients.call("nlb", "RemoveServersFromServerGroup", ServerGroupId=second, Servers=there)
    assert await refused(clients, "nlb", "AddServersToServerGroup", **full) == "QuotaExceeded.ServerAddedNum"
    await clients.call("nlb", "RemoveServersFromServerGroup", ServerGroupId=first, Servers=here)
    await clients.call("nlb", "AddServersToServerGroup", **full)


async def test_an_ipv4_group_takes_no_ipv6_server(clients: Clients) -> None:
    server = {"ServerId": "2408::1", "ServerIp": "2408::1", "ServerType": "Ip", "Port": 80}
    group = {"ServerGroupId": await create_group(clients, ServerGroupType="Ip")}
    assert await refused(clients, "nlb", "AddServersToServerGroup", **group, Servers=[server]) == (
        "OperationDenied.ServerGroupNotSupportIpv6"
    )
    group = {"ServerGroupId": await create_group(clients, ServerGroupType="Ip", AddressIPVersion="DualStack")}
    await clients.call("nlb", "AddServersToServerGroup", **group, Servers=[server])
    assert await refused(clients, "nlb", "AddServersToServerGroup", **group, Servers=[server, server]) == (
        "DuplicatedParam.Server"
    )


async def test_tags_and_dry_runs(clients: Clients) -> None:
    balancer = await create(clients)
    what = {"ResourceType": "loadbalancer", "ResourceId": [balancer]}
    await clients.call("nlb", "TagResources", **what, Tag=[{"Key": "a", "Value": "1"}])
    answer = await clients.call("nlb", "ListTagResources", **what)
    assert [(row["TagKey"], row["TagValue"]) for row in answer["TagResources"]] == [("a", "1")]
    await clients.call("nlb", "UntagResources", **what, TagKey=["a"])
    assert (await clients.call("nlb", "ListTagResources", **what))["TagResources"] == []
    assert await refused(clients, "nlb", "DeleteLoadBalancer", LoadBalancerId=balancer, DryRun=True) == (
        "DryRunOperation"
    )

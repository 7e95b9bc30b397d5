"""Calls by which permissions are tried: each action that spiderpool-cloud needs, with parameters that change nothing.

Reads are made for real. Changes have ``DryRun``, where the API has it, and name what does not exist besides; so a
policy that lacks the action refuses it, and one that has it lets it through to another refusal. Changes without
DryRun are tried only if the user says so, as nothing but the identity keeps them from changing something.
`CreateLoadBalancer` and `CreateAccessControlList` of SLB name nothing and have no DryRun: they are never tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spiderpool.cloud.alibaba.policy import is_reading

ABSENT = "spiderpool-verify-0000"
"""End of identities that nothing has."""
_SLB, _NLB, _ENI = f"lb-{ABSENT}", f"nlb-{ABSENT}", f"eni-{ABSENT}"
_GROUP, _LISTENER, _NLB_GROUP = f"rsp-{ABSENT}", f"lsn-{ABSENT}", f"sgp-{ABSENT}"
_EXTENSION = f"de-{ABSENT}"
_PACKAGE = f"cbwp-{ABSENT}"
_ACL, _SECURITY_GROUP = f"acl-{ABSENT}", f"sg-{ABSENT}"
_ACL_ENTRIES = {"AclId": _ACL, "AclEntrys": '[{"entry": "192.0.2.0/24"}]'}
_RULES = [{"IpProtocol": "ALL", "PortRange": "-1/-1", "SourceCidrIp": "192.0.2.0/24", "Policy": "drop"}]
_ZONES = [{"ZoneId": f"zone-{ABSENT}", "VSwitchId": f"vsw-{ABSENT}"}]
_SERVERS = [{"ServerId": f"i-{ABSENT}", "ServerType": "Ecs", "Port": 80}]
_SLB_SERVERS = f'[{{"ServerId": "i-{ABSENT}", "Port": "80", "Type": "ecs"}}]'
_TAG = {"ResourceId": [_SLB], "ResourceType": "instance", "Tag": [{"Key": "k", "Value": "v"}]}
_SLB_LISTENER = {"LoadBalancerId": _SLB, "ListenerPort": 1}

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "ecs:AssignIpv6Addresses": {"NetworkInterfaceId": _ENI, "Ipv6AddressCount": 1},
    "ecs:AssignPrivateIpAddresses": {"NetworkInterfaceId": _ENI, "SecondaryPrivateIpAddressCount": 1},
    "ecs:AuthorizeSecurityGroup": {"SecurityGroupId": _SECURITY_GROUP, "Permissions": _RULES},
    "ecs:CreateSecurityGroup": {"SecurityGroupName": ABSENT, "VpcId": f"vpc-{ABSENT}"},
    "ecs:DeleteSecurityGroup": {"SecurityGroupId": _SECURITY_GROUP},
    "ecs:DescribeInstances": {},
    "ecs:DescribeInstanceTypes": {"MaxResults": 1},
    "ecs:DescribeNetworkInterfaces": {"MaxResults": 1},
    "ecs:DescribeSecurityGroupAttribute": {"SecurityGroupId": _SECURITY_GROUP},
    "ecs:DescribeSecurityGroups": {"MaxResults": 1},
    "ecs:RevokeSecurityGroup": {"SecurityGroupId": _SECURITY_GROUP, "Permissions": _RULES},
    "ecs:UnassignIpv6Addresses": {"NetworkInterfaceId": _ENI, "Ipv6Address": ["2001:db8::1"]},
    "ecs:UnassignPrivateIpAddresses": {"NetworkInterfaceId": _ENI, "PrivateIpAddress": ["192.0.2.1"]},
    "nlb:AddServersToServerGroup": {"ServerGroupId": _NLB_GROUP, "Servers": _SERVERS},
    "nlb:AssociateAdditionalCertificatesWithListener": {"ListenerId": _LISTENER, "AdditionalCertificateIds": [ABSENT]},
    "nlb:AttachCommonBandwidthPackageToLoadBalancer": {"LoadBalancerId": _NLB, "BandwidthPackageId": _PACKAGE},
    "nlb:CreateListener": {"LoadBalancerId": _NLB, "ListenerProtocol": "TCP", "ServerGroupId": _NLB_GROUP}
    | {"ListenerPort": 1},
    "nlb:CreateLoadBalancer": {"AddressType": "Intranet", "VpcId": f"vpc-{ABSENT}", "ZoneMappings": _ZONES},
    "nlb:CreateServerGroup": {"ServerGroupName": ABSENT, "VpcId": f"vpc-{ABSENT}"},
    "nlb:DeleteListener": {"ListenerId": _LISTENER},
    "nlb:DeleteLoadBalancer": {"LoadBalancerId": _NLB},
    "nlb:DeleteServerGroup": {"ServerGroupId": _NLB_GROUP},
    "nlb:DetachCommonBandwidthPackageFromLoadBalancer": {"LoadBalancerId": _NLB, "BandwidthPackageId": _PACKAGE},
    "nlb:DisableLoadBalancerIpv6Internet": {"LoadBalancerId": _NLB},
    "nlb:DisassociateAdditionalCertificatesWithListener": {
        "ListenerId": _LISTENER,
        "AdditionalCertificateIds": [ABSENT],
    },
    "nlb:EnableLoadBalancerIpv6Internet": {"LoadBalancerId": _NLB},
    "nlb:GetJobStatus": {"JobId": ABSENT},
    "nlb:ListAsynJobs": {"JobIds": [ABSENT]},
    "nlb:ListListenerCertificates": {"ListenerId": _LISTENER},
    "nlb:ListListeners": {"MaxResults": 1},
    "nlb:ListLoadBalancers": {"MaxResults": 1},
    "nlb:ListServerGroupServers": {"MaxResults": 1},
    "nlb:ListServerGroups": {"MaxResults": 1},
    "nlb:LoadBalancerJoinSecurityGroup": {"LoadBalancerId": _NLB, "SecurityGroupIds": [f"sg-{ABSENT}"]},
    "nlb:LoadBalancerLeaveSecurityGroup": {"LoadBalancerId": _NLB, "SecurityGroupIds": [f"sg-{ABSENT}"]},
    "nlb:RemoveServersFromServerGroup": {"ServerGroupId": _NLB_GROUP, "Servers": _SERVERS},
    "nlb:StartListener": {"ListenerId": _LISTENER},
    "nlb:TagResources": _TAG | {"ResourceId": [_NLB], "ResourceType": "loadbalancer"},
    "nlb:UntagResources": {"ResourceId": [_NLB], "ResourceType": "loadbalancer", "TagKey": ["k"]},
    "nlb:UpdateListenerAttribute": {"ListenerId": _LISTENER},
    "nlb:UpdateLoadBalancerAddressTypeConfig": {"LoadBalancerId": _NLB, "AddressType": "Intranet"},
    "nlb:UpdateLoadBalancerAttribute": {"LoadBalancerId": _NLB},
    "nlb:UpdateLoadBalancerProtection": {"LoadBalancerId": _NLB},
    "nlb:UpdateLoadBalancerZones": {"LoadBalancerId": _NLB, "ZoneMappings": _ZONES},
    "nlb:UpdateServerGroupAttribute": {"ServerGroupId": _NLB_GROUP},
    "nlb:UpdateServerGroupServersAttribute": {"ServerGroupId": _NLB_GROUP, "Servers": _SERVERS},
    "slb:AddAccessControlListEntry": _ACL_ENTRIES,
    "slb:AddVServerGroupBackendServers": {"VServerGroupId": _GROUP, "BackendServers": _SLB_SERVERS},
    "slb:CreateDomainExtension": _SLB_LISTENER | {"Domain": f"{ABSENT}.example.com", "ServerCertificateId": ABSENT},
    "slb:CreateLoadBalancerHTTPListener": _SLB_LISTENER | {"HealthCheck": "off", "StickySession": "off"},
    "slb:CreateLoadBalancerHTTPSListener": _SLB_LISTENER | {"HealthCheck": "off", "StickySession": "off"},
    "slb:CreateLoadBalancerTCPListener": _SLB_LISTENER,
    "slb:CreateLoadBalancerUDPListener": _SLB_LISTENER,
    "slb:CreateVServerGroup": {"LoadBalancerId": _SLB},
    "slb:DeleteAccessControlList": {"AclId": _ACL},
    "slb:DeleteDomainExtension": {"DomainExtensionId": _EXTENSION},
    "slb:DeleteLoadBalancer": {"LoadBalancerId": _SLB},
    "slb:DeleteLoadBalancerListener": _SLB_LISTENER | {"ListenerProtocol": "tcp"},
    "slb:DeleteVServerGroup": {"VServerGroupId": _GROUP},
    "slb:DescribeAccessControlListAttribute": {"AclId": _ACL},
    "slb:DescribeAccessControlLists": {"PageSize": 1},
    "slb:DescribeDomainExtensions": _SLB_LISTENER,
    "slb:DescribeLoadBalancerListeners": {"MaxResults": 1},
    "slb:DescribeLoadBalancers": {"PageSize": 1, "PageNumber": 1},
    "slb:DescribeVServerGroupAttribute": {"VServerGroupId": _GROUP},
    "slb:DescribeVServerGroups": {"LoadBalancerId": _SLB},
    "slb:ModifyLoadBalancerInstanceChargeType": {"LoadBalancerId": _SLB, "InstanceChargeType": "PayByCLCU"},
    "slb:ModifyLoadBalancerInstanceSpec": {"LoadBalancerId": _SLB, "LoadBalancerSpec": "slb.s1.small"},
    "slb:ModifyLoadBalancerInternetSpec": {"LoadBalancerId": _SLB, "InternetChargeType": "paybytraffic"},
    "slb:RemoveAccessControlListEntry": _ACL_ENTRIES,
    "slb:RemoveVServerGroupBackendServers": {"VServerGroupId": _GROUP, "BackendServers": _SLB_SERVERS},
    "slb:SetDomainExtensionAttribute": {"DomainExtensionId": _EXTENSION, "ServerCertificateId": ABSENT},
    "slb:SetLoadBalancerDeleteProtection": {"LoadBalancerId": _SLB, "DeleteProtection": "on"},
    "slb:SetLoadBalancerHTTPListenerAttribute": _SLB_LISTENER,
    "slb:SetLoadBalancerHTTPSListenerAttribute": _SLB_LISTENER,
    "slb:SetLoadBalancerModificationProtection": {"LoadBalancerId": _SLB}
    | {"ModificationProtectionStatus": "NonProtection"},
    "slb:SetLoadBalancerName": {"LoadBalancerId": _SLB, "LoadBalancerName": ABSENT},
    "slb:SetLoadBalancerTCPListenerAttribute": _SLB_LISTENER,
    "slb:SetLoadBalancerUDPListenerAttribute": _SLB_LISTENER,
    "slb:SetVServerGroupAttribute": {"VServerGroupId": _GROUP, "BackendServers": _SLB_SERVERS},
    "slb:StartLoadBalancerListener": _SLB_LISTENER | {"ListenerProtocol": "tcp"},
    "slb:TagResources": _TAG,
    "slb:UntagResources": {"ResourceId": [_SLB], "ResourceType": "instance", "TagKey": ["k"]},
    "vpc:DescribeEipAddresses": {"PageSize": 1},
    "vpc:DescribeVSwitches": {"PageSize": 1},
}
"""Action → the parameters of its trial, without region and DryRun."""

WITHOUT_REGION = frozenset({"ecs:DescribeInstanceTypes", "nlb:GetJobStatus", "nlb:ListAsynJobs"})
"""Actions that take no RegionId; all others do."""
NEVER = frozenset({"slb:CreateAccessControlList", "slb:CreateLoadBalancer"})
"""Actions that nothing would keep from being carried out."""


@dataclass(frozen=True, slots=True)
class TrialCall:
    """An action, and how it is tried."""

    action: str
    parameters: Mapping[str, Any]


def has_dry_run(action: str) -> bool:
    """Whether the API takes DryRun for a change: all of NLB do, of SLB those that set listeners."""
    product, _, name = action.partition(":")
    sets_listener = name.startswith("SetLoadBalancer") and name.endswith("ListenerAttribute")
    return not is_reading(action) and (product == "nlb" or (product == "slb" and sets_listener))


def trial(action: str, *, without_dry_run: bool = False) -> TrialCall | None:
    """Returns how an action is tried; None where that could change something, or the user has not allowed it."""
    if action in NEVER or action not in PARAMETERS:
        return None
    if is_reading(action):
        return TrialCall(action, PARAMETERS[action])
    if has_dry_run(action):
        return TrialCall(action, {**PARAMETERS[action], "DryRun": True})
    return TrialCall(action, PARAMETERS[action]) if without_dry_run else None

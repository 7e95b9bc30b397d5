"""The RAM policy that spiderpool-cloud needs: exactly the actions that it calls, by feature."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ACTIONS: dict[str, tuple[str, ...]] = {
    "nodes": ("ecs:DescribeInstances",),
    "addresses": (
        "ecs:AssignIpv6Addresses",
        "ecs:AssignPrivateIpAddresses",
        "ecs:DescribeInstanceTypes",
        "ecs:DescribeNetworkInterfaces",
        "ecs:UnassignIpv6Addresses",
        "ecs:UnassignPrivateIpAddresses",
        "vpc:DescribeVSwitches",
    ),
    "balancers": (
        "ecs:AuthorizeSecurityGroup",
        "ecs:CreateSecurityGroup",
        "ecs:DeleteSecurityGroup",
        "ecs:DescribeNetworkInterfaces",
        "ecs:DescribeSecurityGroupAttribute",
        "ecs:DescribeSecurityGroups",
        "ecs:RevokeSecurityGroup",
        "nlb:AddServersToServerGroup",
        "nlb:AssociateAdditionalCertificatesWithListener",
        "nlb:AttachCommonBandwidthPackageToLoadBalancer",
        "nlb:CreateListener",
        "nlb:CreateLoadBalancer",
        "nlb:CreateServerGroup",
        "nlb:DeleteListener",
        "nlb:DeleteLoadBalancer",
        "nlb:DeleteServerGroup",
        "nlb:DetachCommonBandwidthPackageFromLoadBalancer",
        "nlb:DisableLoadBalancerIpv6Internet",
        "nlb:DisassociateAdditionalCertificatesWithListener",
        "nlb:EnableLoadBalancerIpv6Internet",
        "nlb:GetJobStatus",
        "nlb:ListAsynJobs",
        "nlb:ListListenerCertificates",
        "nlb:ListListeners",
        "nlb:ListLoadBalancers",
        "nlb:ListServerGroupServers",
        "nlb:ListServerGroups",
        "nlb:LoadBalancerJoinSecurityGroup",
        "nlb:LoadBalancerLeaveSecurityGroup",
        "nlb:RemoveServersFromServerGroup",
        "nlb:StartListener",
        "nlb:TagResources",
        "nlb:UntagResources",
        "nlb:UpdateListenerAttribute",
        "nlb:UpdateLoadBalancerAddressTypeConfig",
        "nlb:UpdateLoadBalancerAttribute",
        "nlb:UpdateLoadBalancerProtection",
        "nlb:UpdateLoadBalancerZones",
        "nlb:UpdateServerGroupAttribute",
        "nlb:UpdateServerGroupServersAttribute",
        "slb:AddAccessControlListEntry",
        "slb:AddVServerGroupBackendServers",
        "slb:CreateAccessControlList",
        "slb:CreateDomainExtension",
        "slb:CreateLoadBalancer",
        "slb:CreateLoadBalancerHTTPListener",
        "slb:CreateLoadBalancerHTTPSListener",
        "slb:CreateLoadBalancerTCPListener",
        "slb:CreateLoadBalancerUDPListener",
        "slb:CreateVServerGroup",
        "slb:DeleteAccessControlList",
        "slb:DeleteDomainExtension",
        "slb:DeleteLoadBalancer",
        "slb:DeleteLoadBalancerListener",
        "slb:DeleteVServerGroup",
        "slb:DescribeAccessControlListAttribute",
        "slb:DescribeAccessControlLists",
        "slb:DescribeDomainExtensions",
        "slb:DescribeLoadBalancerListeners",
        "slb:DescribeLoadBalancers",
        "slb:DescribeVServerGroupAttribute",
        "slb:DescribeVServerGroups",
        "slb:ModifyLoadBalancerInstanceChargeType",
        "slb:ModifyLoadBalancerInstanceSpec",
        "slb:ModifyLoadBalancerInternetSpec",
        "slb:RemoveAccessControlListEntry",
        "slb:RemoveVServerGroupBackendServers",
        "slb:SetDomainExtensionAttribute",
        "slb:SetLoadBalancerDeleteProtection",
        "slb:SetLoadBalancerHTTPListenerAttribute",
        "slb:SetLoadBalancerHTTPSListenerAttribute",
        "slb:SetLoadBalancerModificationProtection",
        "slb:SetLoadBalancerName",
        "slb:SetLoadBalancerTCPListenerAttribute",
        "slb:SetLoadBalancerUDPListenerAttribute",
        "slb:SetVServerGroupAttribute",
        "slb:StartLoadBalancerListener",
        "slb:TagResources",
        "slb:UntagResources",
        "vpc:DescribeEipAddresses",
    ),
}
"""Feature → its actions, ``product:Action`` as policies spell them."""


READING = ("Describe", "List", "Get")
"""Beginnings of the actions that change nothing."""


def is_reading(action: str) -> bool:
    """Whether an action changes nothing. ``action`` may have its product before a colon, as policies name it."""
    return action.rpartition(":")[2].startswith(READING)


def document(features: Iterable[str], *, read_only: bool = False) -> dict[str, Any]:
    """Returns the policy document for features, as the RAM console takes it; ``read_only``: for who only looks."""
    allowed = {action for feature in features for action in ACTIONS[feature]}
    actions = sorted(action for action in allowed if is_reading(action) or not read_only)
    return {"Version": "1", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}

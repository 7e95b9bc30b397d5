"""Actions of ECS 2014-05-26 on security groups and their rules, which the network load balancers go by."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from spiderpool_lab.alibaba import paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.ecs_enis import describe_tags, has_tags, timestamp
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, missing, not_found
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.resources import SecurityGroup, SecurityRule

RULES = 200
"""Quota of rules of one group."""
PER_CALL = 100
"""Rules that one call may name."""
RULE = ("Description", "IpProtocol", "Ipv6SourceCidrIp", "NicType", "Policy", "PortRange", "Priority", "SourceCidrIp")
"""Parameters of a rule."""


def security_group(account: Account, parameters: Parameters) -> SecurityGroup:
    """The security group that a call names. Raises Refusal if it does not exist."""
    identity = parameters.required("SecurityGroupId")
    if (found := account.tables.security_groups.get(identity)) is None:
        raise not_found("InvalidSecurityGroupId.NotFound", "security group", identity)
    return found


@action(
    "ecs",
    "CreateSecurityGroup",
    required="RegionId",
    optional="ClientToken Description ResourceGroupId SecurityGroupName SecurityGroupType Tag VpcId",
)
def create_security_group(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 CreateSecurityGroup: creates a group without rules."""
    if parameters.required("VpcId") != account.vpc.identity:
        raise not_found("InvalidVpcId.NotFound", "VPC", parameters.required("VpcId"))
    created = SecurityGroup(
        account.new_id("sg-"),
        parameters.text("SecurityGroupName"),
        kind=parameters.one_of("SecurityGroupType", ("normal", "enterprise"), "normal"),
        description=parameters.text("Description"),
        tags=parameters.tags(),
        created=account.clock(),
    )
    return {"SecurityGroupId": account.tables.security_groups.put(created).identity}


@action("ecs", "DeleteSecurityGroup", required="RegionId SecurityGroupId")
def delete_security_group(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 DeleteSecurityGroup: deletes a group that neither an ENI nor a load balancer is in."""
    found = security_group(account, parameters)
    members = [*account.tables.enis, *account.tables.nlbs]
    if any(found.identity in each.security_groups for each in members):
        raise Refusal("DependencyViolation", f"There is still instance(s) in the security group {found.identity}.", 403)
    account.tables.security_groups.remove(found.identity)
    return {}


@action(
    "ecs",
    "DescribeSecurityGroups",
    required="RegionId",
    optional="MaxResults NextToken PageNumber PageSize SecurityGroupId SecurityGroupIds SecurityGroupName Tag VpcId",
)
def describe_security_groups(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 DescribeSecurityGroups: lists the security groups that pass all filters."""
    identities = [str(item) for item in parameters.json_list("SecurityGroupIds")]
    if single := parameters.text("SecurityGroupId"):
        identities.append(single)
    if parameters.text("VpcId") not in ("", account.vpc.identity):
        raise not_found("InvalidVpcId.NotFound", "VPC", parameters.text("VpcId"))
    found = [
        group
        for group in account.tables.security_groups
        if (not identities or group.identity in identities)
        and parameters.text("SecurityGroupName") in ("", group.name)
        and has_tags(group.tags, parameters)
    ]
    page, token = paging.by_token(found, parameters, default=10, most=100)
    return {
        "RegionId": account.region,
        "TotalCount": len(found),
        "NextToken": token,
        "SecurityGroups": {"SecurityGroup": [_group(account, group) for group in page]},
    }


def _group(account: Account, group: SecurityGroup) -> dict[str, Any]:
    members = sum(group.identity in eni.security_groups for eni in account.tables.enis)
    return {
        "SecurityGroupId": group.identity,
        "SecurityGroupName": group.name,
        "SecurityGroupType": group.kind,
        "Description": group.description,
        "CreationTime": timestamp(group.created),
        "VpcId": account.vpc.identity,
        "AvailableInstanceAmount": max(0, group.capacity - members),
        "RuleCount": len(group.rules),
        "Tags": {"Tag": describe_tags(group.tags)},
    }


@action(
    "ecs",
    "DescribeSecurityGroupAttribute",
    required="RegionId SecurityGroupId",
    optional="Direction MaxResults NextToken NicType",
)
def describe_security_group_attribute(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 DescribeSecurityGroupAttribute: lists the rules of a group, which are all inbound."""
    found = security_group(account, parameters)
    is_asked = parameters.one_of("Direction", ("ingress", "egress", "all"), "all") != "egress"
    page, token = paging.by_token(found.rules if is_asked else (), parameters, default=500, least=10, most=1000)
    return {
        "SecurityGroupId": found.identity,
        "SecurityGroupName": found.name,
        "Description": found.description,
        "VpcId": account.vpc.identity,
        "InnerAccessPolicy": "Accept",
        "NextToken": token,
        "Permissions": {"Permission": [_permission(rule) for rule in page]},
    }


def _permission(rule: SecurityRule) -> dict[str, Any]:
    is_ipv6 = ":" in rule.source
    return {
        "SecurityGroupRuleId": rule.identity,
        "Direction": "ingress",
        "Policy": rule.policy.capitalize(),  # upper case in answers alone
        "Priority": str(rule.priority),
        "IpProtocol": rule.protocol,
        "PortRange": rule.ports,
        "SourceCidrIp": "" if is_ipv6 else rule.source,
        "Ipv6SourceCidrIp": rule.source if is_ipv6 else "",
        "Description": rule.description,
        "NicType": "intranet",
    }


@action("ecs", "AuthorizeSecurityGroup", required="RegionId SecurityGroupId", optional="ClientToken Permissions")
def authorize_security_group(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 AuthorizeSecurityGroup: adds inbound rules; those that are there already stay."""
    found = security_group(account, parameters)
    sent = _rules(parameters)
    if not sent:
        raise missing("Permissions")
    new = [each for each in sent if not any(_is_same(each, rule) for rule in found.rules)]
    if len(found.rules) + len(new) > RULES:
        raise Refusal("AuthorizationLimitExceed", f"A security group has at most {RULES} rules.", 403)
    rules = (*found.rules, *(replace(each, identity=account.new_id("sgr-")) for each in new))
    account.tables.security_groups.put(replace(found, rules=rules))
    return {}


@action(
    "ecs",
    "RevokeSecurityGroup",
    required="RegionId SecurityGroupId",
    optional="ClientToken Permissions SecurityGroupRuleId",
)
def revoke_security_group(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 RevokeSecurityGroup: removes inbound rules, by their IDs or by all that they say."""
    found = security_group(account, parameters)
    identities, sent = parameters.texts("SecurityGroupRuleId"), _rules(parameters)
    if len(identities) > PER_CALL:
        raise invalid("SecurityGroupRuleId", f"has more than {PER_CALL} values")
    for identity in identities:
        if identity not in {rule.identity for rule in found.rules}:
            raise not_found("InvalidSecurityGroupRuleId.NotFound", "security group rule", identity)
    remaining = tuple(
        rule
        for rule in found.rules
        if rule.identity not in identities and not any(_is_same(rule, each) for each in sent)
    )
    account.tables.security_groups.put(replace(found, rules=remaining))
    return {}


def _rules(parameters: Parameters) -> list[SecurityRule]:
    """The rules of a call. Raises Refusal for one that is not valid."""
    sent = parameters.objects("Permissions")
    if len(sent) > PER_CALL:
        raise invalid("Permissions", f"has more than {PER_CALL} values")
    return [_rule(each) for each in sent]


def _rule(sent: Parameters) -> SecurityRule:
    sent.check(RULE, ("IpProtocol", "PortRange"))
    source = sent.text("SourceCidrIp") or sent.text("Ipv6SourceCidrIp")
    _check_source(source, 4 if "SourceCidrIp" in sent else 6)
    return SecurityRule(
        "",
        sent.one_of("Policy", ("accept", "drop"), "accept"),
        sent.required("IpProtocol").upper(),
        sent.required("PortRange"),
        source,
        sent.number("Priority", 1, 1, 100),
        sent.text("Description"),
    )


def _check_source(source: str, version: int) -> None:
    if not source:
        raise missing("SourceCidrIp")
    try:
        is_fitting = ip_network(source).version == version
    except ValueError:
        is_fitting = False
    if not is_fitting:
        raise invalid("SourceCidrIp", f"is {source}, which is no IPv{version} CIDR block")


def _is_same(rule: SecurityRule, other: SecurityRule) -> bool:
    """Whether two rules say the same; their descriptions do not count."""
    return replace(rule, identity="", description="") == replace(other, identity="", description="")

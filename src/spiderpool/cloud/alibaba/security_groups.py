"""Security groups that network balancers join to admit some clients alone, by ECS 2014-05-26.

A rule is known as ours by its description; others in the same group stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spiderpool.cloud.alibaba.answers import Json, all_objects, optional, required
from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.common import tag_list, text
from spiderpool.cloud.alibaba.ecs import ECS
from spiderpool.cloud.alibaba.source_lists import SourceLists, is_of
from spiderpool.core.cloud.alibaba.kinds import NLB
from spiderpool.core.cloud.alibaba.naming import name_tag, own_tags, source_description
from spiderpool.core.cloud.alibaba.sources import PRIORITIES
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.source_ranges import recognised, version_of_range
from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, SourceList

ANY: Mapping[str, str] = {"IpProtocol": "ALL", "PortRange": "-1/-1"}
"""Parameters of a rule for all protocols and ports."""
RULES_PAGE = 1000
"""Rules of one page."""


class SecurityGroups(SourceLists):
    """Implements `SourceLists` for network balancers of one region."""

    kind = NLB
    batch = 10  # the cloud would take more, but the URL that they are in has 8 KiB

    def __init__(self, client: OpenAPIClient, region: str) -> None:
        super().__init__()
        self._client = client
        self._region = region

    async def listed(self, owner: BalancerOwner) -> list[str]:
        """Returns the identities of the groups with the Service's tags, the oldest first."""
        sent = {"Tag": tag_list(name_tag(owner))}
        found = await all_objects(self._call, "DescribeSecurityGroups", sent, "SecurityGroups", "SecurityGroup")
        described = [each for each in found if is_of(each, owner)]
        return [group for _, group in sorted((optional(each, "CreationTime"), _identity(each)) for each in described)]

    async def entries(self, owner: BalancerOwner, identity: str) -> tuple[frozenset[str], frozenset[str]]:
        """Returns the rules of a group that are ours, and others that are as ours. Raises CloudNotFound.

        Whoever adds a rule that is there already, with another description, is answered as if it had been added.
        """
        described = await self._described(identity)
        ours = frozenset(_entry(each) for each in described if _is_ours(each, owner))
        return ours, frozenset(map(_entry, described)) - ours

    async def make(self, model: LoadBalancerModel, wanted: SourceList) -> str:
        """Makes a group without rules, and returns its identity."""
        sent: Json = {
            "SecurityGroupName": wanted.name,
            "SecurityGroupType": "enterprise",
            "Description": source_description(model.owner),
            "VpcId": model.vpc,
            "Tag": tag_list(own_tags(model.owner)),
        }
        if group := {**model.creation, **model.fixed}.get("ResourceGroupId"):
            sent["ResourceGroupId"] = group
        return _identity(await self._call("CreateSecurityGroup", sent, token=True))

    async def add(self, owner: BalancerOwner, identity: str, entries: list[str]) -> None:
        """Adds rules; those that are there already stay."""
        rules = [_rule(each, owner) for each in entries]
        await self._call("AuthorizeSecurityGroup", {"SecurityGroupId": identity, "Permissions": rules}, token=True)

    async def remove(self, owner: BalancerOwner, identity: str, entries: list[str]) -> None:
        """Removes rules; those that are gone already count as removed."""
        present = await self._rules(owner, identity)
        if named := [rule for rule, entry in present.items() if entry in entries]:
            sent = {"SecurityGroupId": identity, "SecurityGroupRuleId": named}
            await self._call("RevokeSecurityGroup", sent, token=True)

    async def delete(self, identity: str) -> None:
        """Deletes a group. Raises CloudNotFound when there is none, CloudConflict while a balancer uses it."""
        await self._call("DeleteSecurityGroup", {"SecurityGroupId": identity})

    async def _rules(self, owner: BalancerOwner, group: str) -> Mapping[str, str]:
        """Returns the identities of our rules in a group, each with its text as an entry."""
        ours = (each for each in await self._described(group) if _is_ours(each, owner))
        return {required(each, "SecurityGroupRuleId"): _entry(each) for each in ours}

    async def _described(self, group: str) -> list[Json]:
        sent = {"SecurityGroupId": group, "Direction": "ingress", "MaxResults": RULES_PAGE}
        action, path = "DescribeSecurityGroupAttribute", ("Permissions", "Permission")
        return await all_objects(self._call, action, sent, *path)

    async def _call(self, action: str, parameters: Mapping[str, Any], *, token: bool = False) -> Json:
        return await self._client.call(ECS, action, {"RegionId": self._region, **parameters}, token=token)


def _is_ours(described: Json, owner: BalancerOwner) -> bool:
    return optional(described, "Description") == source_description(owner)


def _identity(described: Json) -> str:
    return required(described, "SecurityGroupId")


def _rule(entry: str, owner: BalancerOwner) -> Json:
    """Returns the rule that an entry stands for, as the API takes it."""
    policy, _, source = entry.partition(" ")
    name = "SourceCidrIp" if version_of_range(source) == 4 else "Ipv6SourceCidrIp"
    shown = {"Policy": policy, "Priority": PRIORITIES[policy], "Description": source_description(owner)}
    return {**ANY, **shown, name: source}


def _entry(described: Json) -> str:
    """Returns a described rule as an entry; of one that is not as we make it, what differs is added."""
    policy = optional(described, "Policy").lower()
    source = recognised(optional(described, "SourceCidrIp") or optional(described, "Ipv6SourceCidrIp"))
    wanted = {**ANY, "Priority": PRIORITIES.get(policy, "")}
    others = [f"{name} {text(described.get(name))}" for name in wanted if not _is_same(described, name, wanted[name])]
    return " ".join([policy, source, *others])


def _is_same(described: Json, name: str, wanted: str) -> bool:
    return text(described.get(name)).lower() == wanted.lower()

"""How balancers of Alibaba Cloud admit the clients of some ranges alone: by access lists and by security groups.

A classic listener has access lists: one without entries admits everybody, so ours never lacks all of them. A network
balancer joins security groups, which admit everybody until one of their rules drops: name, tags, description and rules
are those of Alibaba Cloud's own cloud controller manager, so that the groups it made are taken over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from spiderpool.core.cloud.alibaba.clb import OPEN_TO_ALL
from spiderpool.core.cloud.loadbalancer.kinds import SourceListRules
from spiderpool.core.cloud.loadbalancer.source_ranges import EVERYBODY

ACCEPT, DROP = "accept", "drop"
"""Policies of a rule, with which its text as an entry begins; sorted, what accepts comes before what drops."""
PRIORITIES: Mapping[str, str] = {ACCEPT: "1", DROP: "100"}
"""Policy of a rule → its priority: the least drops what none of the others accepts."""

ACCESS_LIST_ENTRIES = 300
"""Entries of an access list, by the cloud's quota that every account has."""
SECURITY_GROUP_RULES = 200
"""Rules of a security group, by the cloud's quota that every account has."""
ROOM = 1
"""Entries that stay free, so that a range gets in before another one goes."""


def access_list(name: str) -> Mapping[str, str]:
    """Returns the annotations by which listeners admit the clients of an access list alone."""
    return {"acl-status": "on", "acl-id": name, "acl-type": "white"}


def security_group(name: str) -> Mapping[str, str]:
    """Returns the annotation by which a balancer is in a security group alone."""
    return {"security-group-ids": name}


def as_entries(ranges: Iterable[str], versions: Collection[int]) -> frozenset[str]:
    """Returns the entries of an access list: the ranges themselves."""
    return frozenset(ranges)


def as_rules(ranges: Iterable[str], versions: Collection[int]) -> frozenset[str]:
    """Returns the rules of a security group, ``policy range``: accept the ranges, drop all others of each version."""
    dropped = (f"{DROP} {EVERYBODY[version]}" for version in versions)
    return frozenset({*(f"{ACCEPT} {each}" for each in ranges), *dropped})


ACCESS_LISTS = SourceListRules(
    noun="access list",
    prefix="k8s-clb-",
    parameter="AclId",
    annotations=access_list,
    unused=OPEN_TO_ALL,
    entries=as_entries,
    barrier="",
    limit=ACCESS_LIST_ENTRIES - ROOM,
)
SECURITY_GROUPS = SourceListRules(
    noun="security group",
    prefix="k8s-nlb-",
    parameter="SecurityGroupIds",
    annotations=security_group,
    unused={"SecurityGroupIds": ""},
    entries=as_rules,
    barrier=DROP,
    limit=SECURITY_GROUP_RULES - len(EVERYBODY) - ROOM,
)

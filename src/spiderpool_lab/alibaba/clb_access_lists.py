"""Actions of SLB 2014-05-15 on access control lists, by which listeners admit or refuse clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from spiderpool_lab.alibaba import paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import CLB, AccessList, CLBListener
from spiderpool_lab.alibaba.ecs_enis import describe_tags, has_tags, timestamp
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, not_found
from spiderpool_lab.alibaba.registry import Answer, action

ENTRIES = 300
"""Quota of entries of one list."""
PER_CALL = 50
"""Entries that one call may name."""
NAME_MAX = 80


def access_list(account: Account, identity: str) -> AccessList:
    """An access list by its ID. Raises Refusal if it does not exist."""
    if (found := account.tables.access_lists.get(identity)) is None:
        raise not_found("AclNotExist", "AclId", identity)
    return found


def users(account: Account, identity: str) -> Iterator[tuple[CLB, CLBListener]]:
    """The listeners that admit or refuse clients by a list, with their balancers."""
    for owner in account.tables.clbs:
        yield from ((owner, each) for each in owner.listeners if identity in each.access_lists)


@action(
    "slb",
    "CreateAccessControlList",
    required="RegionId AclName",
    optional="AddressIPVersion ResourceGroupId Tag",
)
def create_access_control_list(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 CreateAccessControlList: creates a list without entries, which admits everybody."""
    name = parameters.required("AclName")
    if len(name) > NAME_MAX or any(each.name == name for each in account.tables.access_lists):
        raise invalid("AclName", "is too long, or that of another list")
    version = parameters.one_of("AddressIPVersion", ("ipv4", "ipv6"), "ipv4")
    created = AccessList(
        account.new_id("acl-"), name, int(version[-1]), tags=parameters.tags(), created=account.clock()
    )
    return {"AclId": account.tables.access_lists.put(created).identity}


@action("slb", "DeleteAccessControlList", required="RegionId AclId")
def delete_access_control_list(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DeleteAccessControlList: deletes a list that no listener uses."""
    found = access_list(account, parameters.required("AclId"))
    if any(users(account, found.identity)):
        raise Refusal("AclInUsed", f"The specified acl {found.identity} is in use.")
    account.tables.access_lists.remove(found.identity)
    return {}


@action(
    "slb",
    "DescribeAccessControlLists",
    required="RegionId",
    optional="AclName AddressIPVersion PageNumber PageSize ResourceGroupId Tag",
)
def describe_access_control_lists(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeAccessControlLists: lists the lists that pass all filters; names need only contain one."""
    found = [
        each
        for each in account.tables.access_lists
        if parameters.text("AclName") in each.name
        and parameters.text("AddressIPVersion") in ("", f"ipv{each.version}")
        and has_tags(each.tags, parameters)
    ]
    page, numbers = paging.by_number(found, parameters)
    return {**numbers, "Count": len(page), "Acls": {"Acl": [_describe(each) for each in page]}}


def _describe(found: AccessList) -> dict[str, Any]:
    return {
        "AclId": found.identity,
        "AclName": found.name,
        "AddressIPVersion": f"ipv{found.version}",
        "CreateTime": timestamp(found.created),
        "Tags": {"Tag": describe_tags(found.tags)},
    }


@action(
    "slb",
    "DescribeAccessControlListAttribute",
    required="RegionId AclId",
    optional="AclEntryComment Page PageSize",
)
def describe_access_control_list_attribute(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeAccessControlListAttribute: a page of the entries of a list, and the listeners of it."""
    found = access_list(account, parameters.required("AclId"))
    page, size = parameters.number("Page", 1, 1), parameters.number("PageSize", 10, 1, 50)
    entries = [{"AclEntryIP": entry, "AclEntryComment": comment} for entry, comment in found.entries.items()]
    related = [
        {"LoadBalancerId": owner.identity, "ListenerPort": each.port, "Protocol": each.protocol}
        for owner, each in users(account, found.identity)
    ]
    return {
        **_describe(found),
        "TotalAclEntry": len(entries),
        "AclEntrys": {"AclEntry": entries[(page - 1) * size : page * size]},
        "RelatedListeners": {"RelatedListener": related},
    }


@action("slb", "AddAccessControlListEntry", required="RegionId AclId AclEntrys")
def add_access_control_list_entry(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 AddAccessControlListEntry: adds entries; those that are there already stay."""
    found = access_list(account, parameters.required("AclId"))
    entries = {**_entries(found, parameters), **found.entries}
    if len(entries) > ENTRIES:
        raise Refusal("AclEntrysOverLimit", f"A list has at most {ENTRIES} entries.")
    account.tables.access_lists.put(replace(found, entries=entries))
    return {}


@action("slb", "RemoveAccessControlListEntry", required="RegionId AclId AclEntrys")
def remove_access_control_list_entry(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 RemoveAccessControlListEntry: removes entries."""
    found = access_list(account, parameters.required("AclId"))
    gone = _entries(found, parameters)
    remaining = {entry: comment for entry, comment in found.entries.items() if entry not in gone}
    account.tables.access_lists.put(replace(found, entries=remaining))
    return {}


def _entries(found: AccessList, parameters: Parameters) -> dict[str, str]:
    """The entries of a call with their comments. Raises Refusal for one that is no range of the list's IP version."""
    sent = parameters.json_objects("AclEntrys")
    if not sent or len(sent) > PER_CALL:
        raise invalid("AclEntrys", f"must have 1 to {PER_CALL} entries")
    for each in sent:
        _check_range(each.required("entry"), found.version)
    return {each.required("entry"): each.text("comment") for each in sent}


def _check_range(entry: str, version: int) -> None:
    try:
        network = ip_network(entry)
    except ValueError:
        raise invalid("AclEntrys", f"has {entry}, which is no CIDR block") from None
    if network.version != version or "/" not in entry:
        raise invalid("AclEntrys", f"has {entry}, which is no IPv{version} CIDR block")

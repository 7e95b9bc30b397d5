"""Actions of SLB 2014-05-15 on vServer groups and their backends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.backends import merged, read_backend, require_port, without, without_duplicates
from spiderpool_lab.alibaba.balancers import BalancerBackend, CLBGroup
from spiderpool_lab.alibaba.clb_balancers import balancer
from spiderpool_lab.alibaba.ecs_enis import describe_tags, timestamp
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid
from spiderpool_lab.alibaba.registry import Answer, action

BACKENDS_PER_CALL = 40
BACKENDS_PER_GROUP = 200
"""Quotas of the real API."""
_NEW_BACKENDS = "NewBackendServers"


def group(account: Account, parameters: Parameters) -> CLBGroup:
    """The vServer group that a call names. Raises Refusal if it does not exist."""
    if (found := account.tables.clb_groups.get(parameters.required("VServerGroupId"))) is None:
        raise Refusal("InvalidParameter", "The specified VServerGroupId does not exist.")
    return found


def _backends(account: Account, parameters: Parameters, name: str = "BackendServers") -> list[BalancerBackend]:
    sent = parameters.json_objects(name)
    if len(sent) > BACKENDS_PER_CALL:
        raise invalid(name, f"has more than {BACKENDS_PER_CALL} servers")
    found = [require_port(read_backend(account, item, item.text("Type", "ecs").lower())) for item in sent]
    return list(without_duplicates(found, invalid(name, "names a server twice")))


def _backends_to_remove(account: Account, parameters: Parameters, name: str) -> list[BalancerBackend]:
    """The backends that a call removes; their servers need not exist any more."""
    return [
        BalancerBackend(
            item.required("ServerId"),
            item.text("Type", "ecs").lower(),
            item.number("Port", 0, 1, 65535),
            address=item.text("ServerIp") or _address_of(account, item),
        )
        for item in parameters.json_objects(name)
    ]


def _address_of(account: Account, item: Parameters) -> str:
    eni = account.tables.enis.get(item.required("ServerId"))
    return eni.address if eni else ""


def _put(account: Account, found: CLBGroup, backends: tuple[BalancerBackend, ...]) -> Answer:
    if len(backends) > BACKENDS_PER_GROUP:
        raise Refusal("QuotaExceeded.BackendServers", f"A VServerGroup has at most {BACKENDS_PER_GROUP} servers.")
    account.tables.clb_groups.put(replace(found, backends=backends))
    return {
        "VServerGroupId": found.identity,
        "BackendServers": {"BackendServer": [_describe(item) for item in backends]},
    }


def _describe(item: BalancerBackend) -> dict[str, Any]:
    return {
        "ServerId": item.server,
        "ServerIp": item.address if item.server_type != "ecs" else "",
        "Type": item.server_type,
        "Port": item.port,
        "Weight": item.weight,
        "Description": item.description,
    }


@action(
    "slb",
    "CreateVServerGroup",
    required="RegionId LoadBalancerId",
    optional="BackendServers ClientToken Tag VServerGroupName",
)
def create_vserver_group(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 CreateVServerGroup: creates a vServer group of a CLB."""
    identity = account.new_id("rsp-")
    created = CLBGroup(
        identity,
        parameters.text("VServerGroupName", identity),
        balancer(account, parameters).identity,
        tags=parameters.tags(),
        created=account.clock(),
    )
    return _put(account, created, tuple(_backends(account, parameters)))


@action(
    "slb",
    "DescribeVServerGroups",
    required="RegionId LoadBalancerId",
    optional="Description IncludeListener IncludeRule Tag",
)
def describe_vserver_groups(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeVServerGroups: lists the vServer groups of a CLB."""
    owner = balancer(account, parameters)
    found = [
        {
            "VServerGroupId": item.identity,
            "VServerGroupName": item.name,
            "ServerCount": len(item.backends),
            "CreateTime": timestamp(item.created),
            "AssociatedObjects": {
                "Listeners": {
                    "Listener": [
                        {"Port": listener.port, "Protocol": listener.protocol}
                        for listener in owner.listeners
                        if listener.group == item.identity
                    ]
                },
                "Rules": {"Rule": []},
            },
            "Tags": {"Tag": describe_tags(item.tags)},
        }
        for item in account.tables.clb_groups
        if item.balancer == owner.identity and parameters.text("Description") in item.name
    ]
    return {"VServerGroups": {"VServerGroup": found}}


@action("slb", "DescribeVServerGroupAttribute", required="VServerGroupId")
def describe_vserver_group_attribute(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeVServerGroupAttribute: describes one vServer group with its backends."""
    found = group(account, parameters)
    return {
        "VServerGroupId": found.identity,
        "VServerGroupName": found.name,
        "LoadBalancerId": found.balancer,
        "CreateTime": timestamp(found.created),
        "BackendServers": {"BackendServer": [_describe(item) for item in found.backends]},
        "Tags": {"Tag": describe_tags(found.tags)},
    }


@action("slb", "AddVServerGroupBackendServers", required="RegionId VServerGroupId BackendServers")
def add_backends(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 AddVServerGroupBackendServers: adds backends."""
    found = group(account, parameters)
    return _put(account, found, merged(found.backends, _backends(account, parameters)))


@action("slb", "RemoveVServerGroupBackendServers", required="RegionId VServerGroupId BackendServers")
def remove_backends(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 RemoveVServerGroupBackendServers: removes backends."""
    found = group(account, parameters)
    return _put(account, found, without(found.backends, _backends_to_remove(account, parameters, "BackendServers")))


@action(
    "slb",
    "ModifyVServerGroupBackendServers",
    required="RegionId VServerGroupId",
    optional=f"{_NEW_BACKENDS} OldBackendServers",
)
def modify_backends(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 ModifyVServerGroupBackendServers: replaces old backends by new ones."""
    found = group(account, parameters)
    remaining = without(found.backends, _backends_to_remove(account, parameters, "OldBackendServers"))
    return _put(account, found, merged(remaining, _backends(account, parameters, _NEW_BACKENDS)))


@action(
    "slb", "SetVServerGroupAttribute", required="RegionId VServerGroupId", optional="BackendServers VServerGroupName"
)
def set_vserver_group_attribute(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 SetVServerGroupAttribute: renames a group, or changes weight and description of its backends."""
    found = group(account, parameters)
    found = replace(found, name=parameters.text("VServerGroupName", found.name))
    sent = {item.key: item for item in _backends(account, parameters)}
    if unknown := sent.keys() - {item.key for item in found.backends}:
        raise invalid("BackendServers", f"names a server that the group does not have: {min(unknown)[0]}")
    return {**_put(account, found, merged(found.backends, sent.values())), "VServerGroupName": found.name}


@action("slb", "DeleteVServerGroup", required="RegionId VServerGroupId")
def delete_vserver_group(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DeleteVServerGroup: deletes a group that no listener uses."""
    found = group(account, parameters)
    owner = account.tables.clbs.get(found.balancer)
    if owner and any(listener.group == found.identity for listener in owner.listeners):
        raise Refusal("RspoolVipExist", "there are vips associating with this vServer group.")
    account.tables.clb_groups.remove(found.identity)
    return {}

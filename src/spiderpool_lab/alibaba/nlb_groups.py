"""Actions of NLB 2022-04-30 on server groups and their servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Literal

from spiderpool_lab.alibaba import nlb_jobs, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.backends import merged, read_backend, without, without_duplicates
from spiderpool_lab.alibaba.balancers import BalancerBackend, NLBGroup
from spiderpool_lab.alibaba.nlb_balancers import key_value_tags
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, not_found
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.settings import FLAG, NumberRange, Rule, read_settings, typed_settings

SERVERS_PER_CALL = 200
TIMES_ADDED = 200
"""Quotas of the real API: servers in a call, and how many times one server may be in server groups."""
SERVER_TYPES = {"Instance": ("ecs", "eni", "eci"), "Ip": ("ip",)}
"""ServerGroupType → types of the servers that the group takes."""

RULES: dict[str, Rule] = {
    "AddressIPVersion": ("ipv4", "DualStack"),
    "AnyPortEnabled": FLAG,
    "ConnectionDrainEnabled": FLAG,
    "ConnectionDrainTimeout": NumberRange(0, 900),
    "IpVersionAffinityMode": ("Affinity", "NonAffinity"),
    "PreserveClientIpEnabled": FLAG,
    "Protocol": ("TCP", "UDP", "TCP_UDP"),
    "Scheduler": ("Wrr", "Wlc", "rr", "sch", "tch", "qch"),
    "ServerGroupType": ("Instance", "Ip"),
}
DEFAULTS = {
    "AddressIPVersion": "ipv4",
    "AnyPortEnabled": "false",
    "ConnectionDrainEnabled": "false",
    "ConnectionDrainTimeout": "300",
    "IpVersionAffinityMode": "NonAffinity",
    "PreserveClientIpEnabled": "true",
    "Protocol": "TCP",
    "Scheduler": "Wrr",
    "ServerGroupType": "Instance",
}
HEALTH_RULES: dict[str, Rule] = {
    "HealthCheckConnectPort": NumberRange(0, 65535),
    "HealthCheckConnectTimeout": NumberRange(1, 300),
    "HealthCheckEnabled": FLAG,
    "HealthCheckInterval": NumberRange(1, 50),
    "HealthCheckType": ("TCP", "HTTP", "UDP"),
    "HealthyThreshold": NumberRange(2, 10),
    "HttpCheckMethod": ("GET", "HEAD"),
    "UnhealthyThreshold": NumberRange(2, 10),
}
HEALTH_DEFAULTS = {
    "HealthCheckConnectPort": "0",
    "HealthCheckConnectTimeout": "5",
    "HealthCheckEnabled": "true",
    "HealthCheckInterval": "10",
    "HealthCheckType": "TCP",
    "HealthyThreshold": "2",
    "UnhealthyThreshold": "2",
}
_HEALTH = (*HEALTH_RULES, "HealthCheckDomain", "HealthCheckExp", "HealthCheckReq", "HealthCheckUrl")
_FLAGS = ("AnyPortEnabled", "ConnectionDrainEnabled", "PreserveClientIpEnabled", "HealthCheckEnabled")
_CODES = "HealthCheckHttpCode"


@action(
    "nlb",
    "CreateServerGroup",
    required="ServerGroupName VpcId",
    optional="AddressIPVersion AnyPortEnabled ClientToken ConnectionDrainEnabled ConnectionDrainTimeout DryRun "
    "HealthCheckConfig IpVersionAffinityMode PreserveClientIpEnabled Protocol ResourceGroupId Scheduler "
    "ServerGroupType Tag",
)
def create_server_group(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 CreateServerGroup: creates an empty server group, Available after ``delays.job`` seconds."""
    if parameters.required("VpcId") != account.vpc.identity:
        raise not_found("ResourceNotFound.vpc", "resource vpc", parameters.required("VpcId"))
    created = NLBGroup(
        account.new_id("sgp-"),
        parameters.required("ServerGroupName"),
        {**DEFAULTS, **_settings(parameters, (*RULES, "ResourceGroupId"))},
        {**HEALTH_DEFAULTS, **_health(parameters)},
        status="Creating",
        tags=parameters.tags(),
    )
    account.tables.nlb_groups.put(created)
    return {**nlb_jobs.start(account, lambda: _finish(account, created)), "ServerGroupId": created.identity}


def _settings(parameters: Parameters, names: Iterable[str]) -> dict[str, str]:
    return read_settings(parameters, names, RULES)


def _health(parameters: Parameters) -> dict[str, str]:
    sent = parameters.object("HealthCheckConfig")
    codes = sent.texts(_CODES)
    return {**read_settings(sent, _HEALTH, HEALTH_RULES), **({_CODES: ",".join(codes)} if codes else {})}


def _finish(account: Account, done: NLBGroup) -> None:
    """Finish a change of a server group, unless it was deleted in the meantime."""
    if (present := account.tables.nlb_groups.get(done.identity)) is not None:
        account.tables.nlb_groups.put(replace(done, status="Available", tags=present.tags))


def _change(
    account: Account, found: NLBGroup, done: NLBGroup, *, meanwhile: tuple[BalancerBackend, ...] | None = None
) -> Answer:
    """Make a group Configuring, and ``done`` when the job is done. Until then it shows the servers in ``meanwhile``."""
    account.tables.nlb_groups.put(
        replace(found, status="Configuring", backends=found.backends if meanwhile is None else meanwhile)
    )
    return {**nlb_jobs.start(account, lambda: _finish(account, done)), "ServerGroupId": found.identity}


@action(
    "nlb",
    "UpdateServerGroupAttribute",
    required="ServerGroupId",
    optional="ClientToken ConnectionDrainEnabled ConnectionDrainTimeout DryRun HealthCheckConfig IpVersionAffinityMode "
    "PreserveClientIpEnabled Scheduler ServerGroupName",
)
def update_server_group_attribute(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 UpdateServerGroupAttribute: changes the attributes that are sent."""
    found = nlb_jobs.group(account, parameters.required("ServerGroupId"), idle=True)
    names = (
        "ConnectionDrainEnabled",
        "ConnectionDrainTimeout",
        "IpVersionAffinityMode",
        "PreserveClientIpEnabled",
        "Scheduler",
    )
    done = replace(
        found,
        name=parameters.text("ServerGroupName", found.name),
        settings={**found.settings, **_settings(parameters, names)},
        health={**found.health, **_health(parameters)},
    )
    return _change(account, found, done)


@action("nlb", "DeleteServerGroup", required="ServerGroupId", optional="ClientToken DryRun")
def delete_server_group(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 DeleteServerGroup: deletes a server group that no listener uses."""
    found = nlb_jobs.group(account, parameters.required("ServerGroupId"), idle=True)
    if any(item.group == found.identity for item in account.tables.nlb_listeners):
        raise Refusal("ResourceInUse.ServerGroup", "The specified resource of ServerGroup is in use.")
    account.tables.nlb_groups.put(replace(found, status="Deleting"))
    job = nlb_jobs.start(account, lambda: account.tables.nlb_groups.remove(found.identity))
    return {**job, "ServerGroupId": found.identity}


@action(
    "nlb",
    "ListServerGroups",
    optional="MaxResults NextToken ResourceGroupId ServerGroupIds ServerGroupNames ServerGroupType Tag VpcId",
)
def list_server_groups(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 ListServerGroups: lists the server groups that pass all filters."""
    ids, names = parameters.texts("ServerGroupIds"), parameters.texts("ServerGroupNames")
    found = [
        item
        for item in account.tables.nlb_groups
        if (not ids or item.identity in ids)
        and (not names or item.name in names)
        and parameters.text("ServerGroupType") in ("", item.kind)
        and parameters.text("VpcId") in ("", account.vpc.identity)
        and all(key in item.tags and value in ("", item.tags[key]) for key, value in parameters.tags().items())
    ]
    page, token = paging.by_token(found, parameters)
    items = [_describe(account, item) for item in page]
    return {"TotalCount": len(found), "MaxResults": len(items), "NextToken": token, "ServerGroups": items}


def _describe(account: Account, item: NLBGroup) -> dict[str, Any]:
    health = _typed(item.health, HEALTH_RULES)
    if _CODES in health:
        health[_CODES] = health[_CODES].split(",")
    related = {listener.balancer for listener in account.tables.nlb_listeners if listener.group == item.identity}
    return {
        **_typed(item.settings, RULES),
        "ServerGroupId": item.identity,
        "ServerGroupName": item.name,
        "ServerGroupStatus": item.status,
        "ServerCount": len(item.backends),
        "RelatedLoadBalancerIds": sorted(related),
        "RegionId": account.region,
        "VpcId": account.vpc.identity,
        "HealthCheck": health,
        "Tags": key_value_tags(item.tags),
    }


def _typed(settings: Any, rules: dict[str, Rule]) -> dict[str, Any]:
    typed: dict[str, Any] = typed_settings(settings, rules)
    typed.update({name: typed[name] == "true" for name in _FLAGS if name in typed})
    return typed


def _servers(account: Account, found: NLBGroup, parameters: Parameters) -> list[BalancerBackend]:
    sent = parameters.objects("Servers")
    if not 1 <= len(sent) <= SERVERS_PER_CALL:
        raise invalid("Servers", f"must be 1 to {SERVERS_PER_CALL} servers")
    servers = [_server(account, found, item) for item in sent]
    return list(without_duplicates(servers, Refusal("DuplicatedParam.Server", "The param of Server is duplicated.")))


def _server(account: Account, found: NLBGroup, sent: Parameters) -> BalancerBackend:
    kind = sent.required("ServerType").lower()
    if kind not in SERVER_TYPES[found.kind]:
        raise Refusal("Mismatch.ServerType", f"A {sent.text('ServerType')} does not fit a group of type {found.kind}.")
    server = read_backend(account, sent, kind)
    if ip_address(server.address).version == 6 and found.settings["AddressIPVersion"] == "ipv4":
        raise Refusal(
            "OperationDenied.ServerGroupNotSupportIpv6",
            "The operation is not allowed because of ServerGroupNotSupportIpv6.",
        )
    return server


def _with_status(
    servers: tuple[BalancerBackend, ...], keys: set[Any], status: Literal["Adding", "Removing", "Configuring"]
) -> Any:
    return tuple(replace(item, status=status) if item.key in keys else item for item in servers)


@action("nlb", "AddServersToServerGroup", required="ServerGroupId Servers", optional="ClientToken DryRun")
def add_servers(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 AddServersToServerGroup: adds servers; they are Adding until they are Available."""
    found = nlb_jobs.group(account, parameters.required("ServerGroupId"), idle=True)
    sent = _servers(account, found, parameters)
    done = replace(found, backends=merged(found.backends, sent))
    _check_times_added(account, found, done)
    meanwhile = _with_status(done.backends, {item.key for item in sent}, "Adding")
    return _change(account, found, done, meanwhile=meanwhile)


def _check_times_added(account: Account, found: NLBGroup, done: NLBGroup) -> None:
    """Raise Refusal for a new server that would be in server groups too often. Other servers make it no room."""
    groups = [item for item in account.tables.nlb_groups if item.identity != done.identity]
    times = Counter(server.server for item in (*groups, done) for server in item.backends)
    for server in {item.server for item in done.backends} - {item.server for item in found.backends}:
        if times[server] > TIMES_ADDED:
            quota = f"the quota of server_added_num is exceeded for {server}, usage {times[server] - 1}/{TIMES_ADDED}"
            raise Refusal("QuotaExceeded.ServerAddedNum", f"The operation is not allowed because {quota}.")


@action("nlb", "UpdateServerGroupServersAttribute", required="ServerGroupId Servers", optional="ClientToken DryRun")
def update_servers(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 UpdateServerGroupServersAttribute: changes weight and description of servers of the group."""
    found = nlb_jobs.group(account, parameters.required("ServerGroupId"), idle=True)
    sent = _servers(account, found, parameters)
    keys = {item.key for item in sent}
    if unknown := keys - {item.key for item in found.backends}:
        raise not_found("ResourceNotFound.BackendServer", "resource BackendServer", min(unknown)[0])
    done = replace(found, backends=merged(found.backends, sent))
    return _change(account, found, done, meanwhile=_with_status(found.backends, keys, "Configuring"))


@action("nlb", "RemoveServersFromServerGroup", required="ServerGroupId Servers", optional="ClientToken DryRun")
def remove_servers(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 RemoveServersFromServerGroup: removes servers; they are Removing until the job is done."""
    found = nlb_jobs.group(account, parameters.required("ServerGroupId"), idle=True)
    removed = [_present(found, item) for item in parameters.objects("Servers")]
    done = replace(found, backends=without(found.backends, removed))
    return _change(
        account, found, done, meanwhile=_with_status(found.backends, {item.key for item in removed}, "Removing")
    )


def _present(found: NLBGroup, sent: Parameters) -> BalancerBackend:
    """The server of a group that a call removes; it need not exist in the account any more."""
    server, port, address = sent.required("ServerId"), sent.number("Port", 0, 0, 65535), sent.text("ServerIp")
    for item in found.backends:
        if (item.server, item.port) == (server, port) and address in ("", item.address):
            return item
    raise not_found("ResourceNotFound.BackendServer", "resource BackendServer", server)


@action("nlb", "ListServerGroupServers", optional="MaxResults NextToken ServerGroupId ServerIds ServerIps")
def list_server_group_servers(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 ListServerGroupServers: lists the servers of one or all server groups."""
    only, ids, addresses = (
        parameters.text("ServerGroupId"),
        parameters.texts("ServerIds"),
        parameters.texts("ServerIps"),
    )
    found = [
        _describe_server(group, item)
        for group in account.tables.nlb_groups
        if only in ("", group.identity)
        for item in group.backends
        if (not ids or item.server in ids) and (not addresses or item.address in addresses)
    ]
    page, token = paging.by_token(found, parameters)
    return {"TotalCount": len(found), "MaxResults": len(page), "NextToken": token, "Servers": list(page)}


def _describe_server(group: NLBGroup, item: BalancerBackend) -> dict[str, Any]:
    return {
        "ServerGroupId": group.identity,
        "ServerId": item.server,
        "ServerIp": item.address,
        "ServerType": item.server_type.title(),
        "Port": item.port,
        "Weight": item.weight,
        "Description": item.description,
        "Status": item.status,
    }

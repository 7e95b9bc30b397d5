"""Actions of NLB 2022-04-30 on listeners."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from spiderpool_lab.alibaba import nlb_jobs, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import NLBListener, NlbProtocol
from spiderpool_lab.alibaba.ecs_enis import describe_tags
from spiderpool_lab.alibaba.nlb_balancers import key_value_tags
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, missing
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.settings import FLAG, NumberRange, Rule, read_settings, typed_settings

PROTOCOLS = ("TCP", "UDP", "TCPSSL")
RULES: dict[str, Rule] = {
    "AlpnEnabled": FLAG,
    "CaEnabled": FLAG,
    "Cps": NumberRange(0, 1_000_000),
    "IdleTimeout": NumberRange(1, 900),
    "Mss": NumberRange(0, 1500),
    "ProxyProtocolEnabled": FLAG,
    "SecSensorEnabled": FLAG,
}
ADDITIONAL = "AdditionalCertificateIds"
"""Setting that only the actions of `nlb_certificates` change and show."""
_LISTS = ("CaCertificateIds", "CertificateIds")
_STORED = (*RULES, "AlpnPolicy", "ListenerDescription", "SecurityPolicyId", "ServerGroupId", "StartPort", "EndPort")
_PROXY_V2 = "ProxyProtocolV2Config"
_PROXY_V2_FLAGS = ("Ppv2PrivateLinkEpIdEnabled", "Ppv2PrivateLinkEpsIdEnabled", "Ppv2VpcIdEnabled")
_CHANGEABLE = (
    "AlpnEnabled AlpnPolicy CaCertificateIds CaEnabled CertificateIds ClientToken Cps DryRun IdleTimeout "
    "ListenerDescription Mss ProxyProtocolEnabled ProxyProtocolV2Config SecSensorEnabled SecurityPolicyId"
)
_FLAGS = frozenset(name for name, rule in RULES.items() if rule == FLAG)


def _settings(account: Account, parameters: Parameters) -> dict[str, str]:
    sent = read_settings(parameters, _STORED, RULES)
    sent.update({name: ",".join(values) for name in _LISTS if (values := parameters.texts(name))})
    proxy = parameters.object(_PROXY_V2)
    sent.update({f"{_PROXY_V2}.{name}": str(proxy.flag(name)).lower() for name in _PROXY_V2_FLAGS if name in proxy})
    if "ServerGroupId" in sent:
        nlb_jobs.group(account, sent["ServerGroupId"])
    return sent


@action(
    "nlb",
    "CreateListener",
    required="ListenerProtocol LoadBalancerId ServerGroupId",
    optional=f"{_CHANGEABLE} EndPort ListenerPort StartPort Tag",
)
def create_listener(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 CreateListener: creates a listener, Running after ``delays.job`` seconds."""
    owner = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"), idle=True)
    protocol = parameters.one_of("ListenerProtocol", PROTOCOLS)
    if "ListenerPort" not in parameters:
        raise missing("ListenerPort")
    port = parameters.number("ListenerPort", 0, 0, 65535)
    ports = _ports(parameters, port)
    _check_free(account, owner.identity, protocol, ports)
    settings = _settings(account, parameters)
    if protocol == "TCPSSL" and not settings.get("CertificateIds"):
        raise missing("CertificateIds")
    group = nlb_jobs.group(account, settings["ServerGroupId"])
    if (port == 0) != (group.settings["AnyPortEnabled"] == "true"):
        raise Refusal("Mismatch.AnyPort", f"The server group {group.identity} does not fit the ports of the listener.")
    if (group.settings["Protocol"] == "UDP") != (protocol == "UDP"):
        raise Refusal("Mismatch.Protocol", f"The protocols of listener and server group {group.identity} differ.")
    created = NLBListener(
        f"{account.new_id('lsn-')}@{port}",
        owner.identity,
        cast(NlbProtocol, protocol),
        port,
        settings,
        status="Provisioning",
        tags=parameters.tags(),
    )
    account.tables.nlb_listeners.put(created)
    job = nlb_jobs.start(account, lambda: finish(account, replace(created, status="Running")))
    return {**job, "ListenerId": created.identity}


def _ports(parameters: Parameters, port: int) -> range:
    """The ports of a new listener: one, or a range if its port is 0."""
    if port:
        return range(port, port + 1)
    for name in ("StartPort", "EndPort"):
        parameters.required(name)
    first, last = (parameters.number(name, 0, 1, 65535) for name in ("StartPort", "EndPort"))
    if first >= last:
        raise invalid("EndPort", "must be greater than StartPort")
    return range(first, last + 1)


def _check_free(account: Account, owner: str, protocol: str, ports: range) -> None:
    """Raises Refusal if a port is taken. UDP has its own ports; TCP and TCPSSL share theirs."""
    for item in account.tables.nlb_listeners:
        overlaps = item.ports.start < ports.stop and ports.start < item.ports.stop
        if item.balancer == owner and overlaps and (item.protocol == "UDP") == (protocol == "UDP"):
            text = f"The specified resource listener {ports.start} is already exist."
            raise Refusal("ResourceAlreadyExist.Listener", text)


def finish(account: Account, done: NLBListener) -> None:
    """Finish a change of a listener, unless it was deleted in the meantime."""
    if (present := account.tables.nlb_listeners.get(done.identity)) is not None:
        account.tables.nlb_listeners.put(replace(done, tags=present.tags))


@action("nlb", "UpdateListenerAttribute", required="ListenerId", optional=f"{_CHANGEABLE} ServerGroupId")
def update_listener_attribute(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 UpdateListenerAttribute: changes the attributes that are sent."""
    found = nlb_jobs.listener(account, parameters.required("ListenerId"), idle=True)
    done = replace(found, settings={**found.settings, **_settings(account, parameters)})
    account.tables.nlb_listeners.put(replace(found, status="Configuring"))
    return nlb_jobs.start(account, lambda: finish(account, done))


@action("nlb", "DeleteListener", required="ListenerId", optional="ClientToken DryRun")
def delete_listener(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 DeleteListener: deletes a listener, not its server group."""
    found = nlb_jobs.listener(account, parameters.required("ListenerId"), idle=True)
    account.tables.nlb_listeners.put(replace(found, status="Deleting"))
    return nlb_jobs.start(account, lambda: account.tables.nlb_listeners.remove(found.identity))


@action("nlb", "StartListener", required="ListenerId", optional="ClientToken DryRun")
def start_listener(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 StartListener: starts a stopped listener."""
    found = nlb_jobs.listener(account, parameters.required("ListenerId"), idle=True)
    account.tables.nlb_listeners.put(replace(found, status="Starting"))
    return nlb_jobs.start(account, lambda: finish(account, replace(found, status="Running")))


@action("nlb", "StopListener", required="ListenerId", optional="ClientToken DryRun")
def stop_listener(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 StopListener: stops a listener."""
    found = nlb_jobs.listener(account, parameters.required("ListenerId"), idle=True)
    account.tables.nlb_listeners.put(replace(found, status="Stopping"))
    return nlb_jobs.start(account, lambda: finish(account, replace(found, status="Stopped")))


@action("nlb", "GetListenerAttribute", required="ListenerId", optional="ClientToken DryRun")
def get_listener_attribute(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 GetListenerAttribute: describes one listener."""
    found = nlb_jobs.listener(account, parameters.required("ListenerId"))
    return {**_describe(account, found), "Tags": describe_tags(found.tags)}


@action(
    "nlb",
    "ListListeners",
    optional="ListenerIds ListenerProtocol LoadBalancerIds MaxResults NextToken SecSensorEnabled Tag",
)
def list_listeners(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 ListListeners: lists the listeners that pass all filters."""
    owners, ids = parameters.texts("LoadBalancerIds"), parameters.texts("ListenerIds")
    found = [
        item
        for item in account.tables.nlb_listeners
        if (not owners or item.balancer in owners)
        and (not ids or item.identity in ids)
        and parameters.text("ListenerProtocol") in ("", item.protocol)
        and all(item.tags.get(key) == value for key, value in parameters.tags().items())
    ]
    page, token = paging.by_token(found, parameters)
    items = [{**_describe(account, item), "Tags": key_value_tags(item.tags)} for item in page]
    return {"TotalCount": len(found), "MaxResults": len(items), "NextToken": token, "Listeners": items}


def _describe(account: Account, item: NLBListener) -> dict[str, Any]:
    plain = {name: text for name, text in item.settings.items() if not name.startswith((_PROXY_V2, ADDITIONAL))}
    described: dict[str, Any] = typed_settings(plain, RULES)
    described.update({name: described[name] == "true" for name in _FLAGS if name in described})
    described.update({name: described[name].split(",") for name in _LISTS if name in described})
    flags = {name: item.settings.get(f"{_PROXY_V2}.{name}", "false") == "true" for name in _PROXY_V2_FLAGS}
    return {
        **described,
        _PROXY_V2: flags,
        "ListenerId": item.identity,
        "LoadBalancerId": item.balancer,
        "ListenerPort": item.port,
        "ListenerProtocol": item.protocol,
        "ListenerStatus": item.status,
        "RegionId": account.region,
    }


@action("nlb", "GetListenerHealthStatus", required="ListenerId", optional="MaxResults NextToken")
def get_listener_health_status(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 GetListenerHealthStatus: lists the servers that the data plane reported unhealthy."""
    found = nlb_jobs.listener(account, parameters.required("ListenerId"))
    group = nlb_jobs.group(account, found.group)
    unhealthy = [
        {"ServerId": item.server, "ServerIp": item.address, "Port": item.port, "Status": "Unhealthy"}
        for item in group.backends
        if account.health.get((item.address, item.port)) is False
    ]
    info = {
        "ServerGroupId": group.identity,
        "HeathCheckEnabled": group.health.get("HealthCheckEnabled", "true") == "true",
        "NonNormalServers": unhealthy,
    }
    row = {
        "ListenerId": found.identity,
        "ListenerPort": found.port,
        "ListenerProtocol": found.protocol,
        "ServerGroupInfos": [info],
    }
    return {"ListenerHealthStatus": [row]}

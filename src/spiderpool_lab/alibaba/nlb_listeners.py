"""NLB: listeners."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from spiderpool_lab.alibaba import nlb_jobs, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import NLBListener, NlbProtocol
from spiderpool_lab.alibaba.ecs_enis import describe_tags
from spiderpool_lab.alibaba.nlb_balancers import key_value_tags
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, missing
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.settings import FLAG, NumberRange, Rule, numbers, read_settings

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
_LISTS = ("CaCertificateIds", "CertificateIds")
_KEPT = (*RULES, "AlpnPolicy", "ListenerDescription", "SecurityPolicyId", "ServerGroupId", "StartPort", "EndPort")
_CHANGEABLE = (
    "AlpnEnabled AlpnPolicy CaCertificateIds CaEnabled CertificateIds ClientToken Cps DryRun IdleTimeout "
    "ListenerDescription Mss ProxyProtocolEnabled ProxyProtocolV2Config SecSensorEnabled SecurityPolicyId"
)
_FLAGS = frozenset(name for name, rule in RULES.items() if rule == FLAG)


def _settings(account: Account, parameters: Parameters) -> dict[str, str]:
    sent = read_settings(parameters, _KEPT, RULES)
    sent.update({name: ",".join(values) for name in _LISTS if (values := parameters.texts(name))})
    if "ServerGroupId" in sent:
        nlb_jobs.group(account, sent["ServerGroupId"])
    return sent


@action(
    "nlb",
    "CreateListener",
    needed="ListenerProtocol LoadBalancerId ServerGroupId",
    known=f"{_CHANGEABLE} EndPort ListenerPort StartPort Tag",
)
def create_listener(account: Account, parameters: Parameters) -> Answer:
    """A listener that is Provisioning until it is Running."""
    owner = nlb_jobs.balancer(account, parameters.needed("LoadBalancerId"), settled=True)
    protocol = parameters.one_of("ListenerProtocol", PROTOCOLS)
    if "ListenerPort" not in parameters:
        raise missing("ListenerPort")
    port = parameters.number("ListenerPort", 0, 0, 65535)
    _check_free(account, owner.identity, protocol, port)
    settings = _settings(account, parameters)
    if protocol == "TCPSSL" and not settings.get("CertificateIds"):
        raise missing("CertificateIds")
    group = nlb_jobs.group(account, settings["ServerGroupId"])
    if (group.settings["Protocol"] == "UDP") != (protocol == "UDP"):
        raise Refusal("Mismatch.Protocol", f"The protocols of listener and server group {group.identity} differ.")
    made = NLBListener(
        f"{account.new_id('lsn-')}@{port}",
        owner.identity,
        cast(NlbProtocol, protocol),
        port,
        settings,
        status="Provisioning",
        tags=parameters.tags(),
    )
    account.world.nlb_listeners.put(made)
    job = nlb_jobs.start(account, lambda: _finish(account, replace(made, status="Running")))
    return {**job, "ListenerId": made.identity}


def _check_free(account: Account, owner: str, protocol: str, port: int) -> None:
    """UDP has ports of its own, TCP and TCPSSL share theirs."""
    for item in account.world.nlb_listeners:
        if item.balancer == owner and item.port == port and (item.protocol == "UDP") == (protocol == "UDP"):
            raise Refusal("ResourceAlreadyExist.Listener", f"The specified resource listener {port} is already exist.")


def _finish(account: Account, done: NLBListener) -> None:
    """A change of a listener has been made, unless the listener went meanwhile."""
    if (present := account.world.nlb_listeners.get(done.identity)) is not None:
        account.world.nlb_listeners.put(replace(done, tags=present.tags))


@action("nlb", "UpdateListenerAttribute", needed="ListenerId", known=f"{_CHANGEABLE} ServerGroupId")
def update_listener_attribute(account: Account, parameters: Parameters) -> Answer:
    """Change what is sent and leave the rest."""
    found = nlb_jobs.listener(account, parameters.needed("ListenerId"), settled=True)
    done = replace(found, settings={**found.settings, **_settings(account, parameters)})
    account.world.nlb_listeners.put(replace(found, status="Configuring"))
    return nlb_jobs.start(account, lambda: _finish(account, done))


@action("nlb", "DeleteListener", needed="ListenerId", known="ClientToken DryRun")
def delete_listener(account: Account, parameters: Parameters) -> Answer:
    """Delete a listener and leave its server group."""
    found = nlb_jobs.listener(account, parameters.needed("ListenerId"), settled=True)
    account.world.nlb_listeners.put(replace(found, status="Deleting"))
    return nlb_jobs.start(account, lambda: account.world.nlb_listeners.remove(found.identity))


@action("nlb", "StartListener", needed="ListenerId", known="ClientToken DryRun")
def start_listener(account: Account, parameters: Parameters) -> Answer:
    """Let a stopped listener forward again."""
    found = nlb_jobs.listener(account, parameters.needed("ListenerId"), settled=True)
    account.world.nlb_listeners.put(replace(found, status="Starting"))
    return nlb_jobs.start(account, lambda: _finish(account, replace(found, status="Running")))


@action("nlb", "StopListener", needed="ListenerId", known="ClientToken DryRun")
def stop_listener(account: Account, parameters: Parameters) -> Answer:
    """Let a listener forward nothing."""
    found = nlb_jobs.listener(account, parameters.needed("ListenerId"), settled=True)
    account.world.nlb_listeners.put(replace(found, status="Stopping"))
    return nlb_jobs.start(account, lambda: _finish(account, replace(found, status="Stopped")))


@action("nlb", "GetListenerAttribute", needed="ListenerId", known="ClientToken DryRun")
def get_listener_attribute(account: Account, parameters: Parameters) -> Answer:
    """One listener."""
    found = nlb_jobs.listener(account, parameters.needed("ListenerId"))
    return {**_describe(account, found), "Tags": describe_tags(found.tags)}


@action(
    "nlb",
    "ListListeners",
    known="ListenerIds ListenerProtocol LoadBalancerIds MaxResults NextToken SecSensorEnabled Tag",
)
def list_listeners(account: Account, parameters: Parameters) -> Answer:
    """The listeners that pass every filter."""
    owners, ids = parameters.texts("LoadBalancerIds"), parameters.texts("ListenerIds")
    found = [
        item
        for item in account.world.nlb_listeners
        if (not owners or item.balancer in owners)
        and (not ids or item.identity in ids)
        and parameters.text("ListenerProtocol") in ("", item.protocol)
        and all(item.tags.get(key) == value for key, value in parameters.tags().items())
    ]
    page, token = paging.by_token(found, parameters)
    items = [{**_describe(account, item), "Tags": key_value_tags(item.tags)} for item in page]
    return {"TotalCount": len(found), "MaxResults": len(items), "NextToken": token, "Listeners": items}


def _describe(account: Account, item: NLBListener) -> dict[str, Any]:
    described: dict[str, Any] = numbers(item.settings, RULES)
    described.update({name: described[name] == "true" for name in _FLAGS if name in described})
    described.update({name: described[name].split(",") for name in _LISTS if name in described})
    return {
        **described,
        "ListenerId": item.identity,
        "LoadBalancerId": item.balancer,
        "ListenerPort": item.port,
        "ListenerProtocol": item.protocol,
        "ListenerStatus": item.status,
        "RegionId": account.region,
    }


@action("nlb", "GetListenerHealthStatus", needed="ListenerId", known="MaxResults NextToken")
def get_listener_health_status(account: Account, parameters: Parameters) -> Answer:
    """The servers of a listener that the data plane reported as unhealthy."""
    found = nlb_jobs.listener(account, parameters.needed("ListenerId"))
    group = nlb_jobs.group(account, found.group)
    sick = [
        {"ServerId": item.server, "ServerIp": item.address, "Port": item.port, "Status": "Unhealthy"}
        for item in group.backends
        if account.health.get((item.address, item.port)) is False
    ]
    info = {
        "ServerGroupId": group.identity,
        "HeathCheckEnabled": group.health.get("HealthCheckEnabled", "true") == "true",
        "NonNormalServers": sick,
    }
    row = {
        "ListenerId": found.identity,
        "ListenerPort": found.port,
        "ListenerProtocol": found.protocol,
        "ServerGroupInfos": [info],
    }
    return {"ListenerHealthStatus": [row]}

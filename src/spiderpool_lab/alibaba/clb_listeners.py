"""Actions of SLB 2014-05-15 on listeners for TCP, UDP, HTTP and HTTPS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from spiderpool_lab.alibaba import paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import CLB, CLBListener, ClbProtocol, Settings
from spiderpool_lab.alibaba.clb_access_lists import access_list
from spiderpool_lab.alibaba.clb_balancers import balancer
from spiderpool_lab.alibaba.ecs_enis import describe_tags
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, missing
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.settings import FLAG, ON_OFF, NumberRange, Rule, read_settings, typed_settings

PROTOCOLS: tuple[ClbProtocol, ...] = ("tcp", "udp", "http", "https")

RULES: dict[str, Rule] = {
    "AclStatus": ON_OFF,
    "AclType": ("white", "black"),
    "BackendServerPort": NumberRange(1, 65535),
    "Bandwidth": NumberRange(1, 5120, also=(-1,)),
    "ConnectionDrain": ON_OFF,
    "ConnectionDrainTimeout": NumberRange(10, 900),
    "CookieTimeout": NumberRange(1, 86400),
    "EnableHttp2": ON_OFF,
    "EstablishedTimeout": NumberRange(10, 900),
    "ForwardPort": NumberRange(1, 65535),
    "Gzip": ON_OFF,
    "HealthCheck": ON_OFF,
    "HealthCheckConnectPort": NumberRange(1, 65535, also=(-520,)),
    "HealthCheckConnectTimeout": NumberRange(1, 300),
    "HealthCheckInterval": NumberRange(1, 50),
    "HealthCheckMethod": ("head", "get"),
    "HealthCheckSwitch": ON_OFF,
    "HealthCheckTimeout": NumberRange(1, 300),
    "HealthCheckType": ("tcp", "http"),
    "HealthyThreshold": NumberRange(2, 10),
    "IdleTimeout": NumberRange(1, 60),
    "ListenerForward": ON_OFF,
    "PersistenceTimeout": NumberRange(0, 3600),
    "ProxyProtocolV2Enabled": FLAG,
    "RequestTimeout": NumberRange(1, 180),
    "Scheduler": ("wrr", "rr", "wlc", "sch", "tch", "qch"),
    "StickySession": ON_OFF,
    "StickySessionType": ("insert", "server"),
    "UnhealthyThreshold": NumberRange(2, 10),
    "XForwardedFor": ON_OFF,
    "XForwardedFor_ClientSrcPort": ON_OFF,
    "XForwardedFor_SLBID": ON_OFF,
    "XForwardedFor_SLBIP": ON_OFF,
    "XForwardedFor_SLBPORT": ON_OFF,
    "XForwardedFor_proto": ON_OFF,
}

_COMMON = (
    "AclId AclStatus AclType BackendServerPort Bandwidth Description HealthCheckConnectPort HealthyThreshold "
    "HealthCheckInterval Scheduler UnhealthyThreshold VServerGroupId"
)
_LAYER_4 = f"{_COMMON} HealthCheckConnectTimeout HealthCheckSwitch MasterSlaveServerGroupId ProxyProtocolV2Enabled"
_LAYER_7 = (
    f"{_COMMON} Cookie CookieTimeout Gzip HealthCheck HealthCheckDomain HealthCheckHttpCode HealthCheckMethod "
    "HealthCheckTimeout HealthCheckURI IdleTimeout RequestTimeout StickySession StickySessionType XForwardedFor "
    "XForwardedFor_ClientSrcPort XForwardedFor_SLBID XForwardedFor_SLBIP XForwardedFor_SLBPORT XForwardedFor_proto"
)
NAMES: dict[ClbProtocol, str] = {
    "tcp": f"{_LAYER_4} ConnectionDrain ConnectionDrainTimeout EstablishedTimeout HealthCheckDomain "
    "HealthCheckHttpCode HealthCheckType HealthCheckURI PersistenceTimeout",
    "udp": f"{_LAYER_4} HealthCheckExp HealthCheckReq",
    "http": f"{_LAYER_7} ForwardPort ListenerForward",
    "https": f"{_LAYER_7} CACertificateId EnableHttp2 ServerCertificateId TLSCipherPolicy",
}
"""The settings of each protocol, under the names of Describe…Attribute."""

_LOWER_CASE = {name: name[0].lower() + name[1:] for name in ("HealthCheckInterval", "HealthCheckExp", "HealthCheckReq")}
"""Settings whose names start with a lower-case letter in calls: the interval in CreateLoadBalancer(TCP|UDP)Listener,
the others in all calls."""

_CREATE_ONLY = ("BackendServerPort", "ForwardPort", "ListenerForward")
"""Settings that cannot be changed later."""


def _parameter_names(protocol: ClbProtocol, *, create: bool) -> str:
    """Names of the settings that a call may send, separated by blanks."""
    names = [name for name in NAMES[protocol].split() if create or name not in _CREATE_ONLY]
    renamed = {} if protocol in ("http", "https") else _LOWER_CASE
    if not create:
        renamed = {name: text for name, text in renamed.items() if name != "HealthCheckInterval"}
    return " ".join(renamed.get(name, name) for name in names)


_DEFAULTS_ALL = {
    "AclStatus": "off",
    "Bandwidth": "-1",
    "Description": "",
    "HealthyThreshold": "3",
    "UnhealthyThreshold": "3",
    "HealthCheckInterval": "2",
    "Scheduler": "wrr",
    "VServerGroupId": "",
}
_DEFAULTS_LAYER_4 = {
    **_DEFAULTS_ALL,
    "HealthCheckConnectTimeout": "5",
    "HealthCheckSwitch": "on",
    "ProxyProtocolV2Enabled": "false",
}
_DEFAULTS_LAYER_7 = {
    **_DEFAULTS_ALL,
    "Gzip": "on",
    "HealthCheckTimeout": "5",
    "HealthCheckURI": "/",
    "HealthCheckHttpCode": "http_2xx",
    "HealthCheckMethod": "head",
    "IdleTimeout": "15",
    "RequestTimeout": "60",
    "XForwardedFor": "on",
    "XForwardedFor_ClientSrcPort": "off",
    "XForwardedFor_SLBID": "off",
    "XForwardedFor_SLBIP": "off",
    "XForwardedFor_SLBPORT": "off",
    "XForwardedFor_proto": "off",
}
DEFAULTS: dict[ClbProtocol, dict[str, str]] = {
    "tcp": {
        **_DEFAULTS_LAYER_4,
        "ConnectionDrain": "off",
        "EstablishedTimeout": "900",
        "HealthCheckType": "tcp",
        "PersistenceTimeout": "0",
    },
    "udp": {**_DEFAULTS_LAYER_4, "HealthCheckConnectTimeout": "10", "HealthCheckInterval": "5"},
    "http": {**_DEFAULTS_LAYER_7, "ListenerForward": "off"},
    "https": {**_DEFAULTS_LAYER_7, "EnableHttp2": "on", "TLSCipherPolicy": "tls_cipher_policy_1_0"},
}
_MANDATORY: dict[ClbProtocol, tuple[str, ...]] = {
    "tcp": (),
    "udp": (),
    "http": ("StickySession", "HealthCheck"),
    "https": ("StickySession", "HealthCheck", "ServerCertificateId"),
}


def _settings(parameters: Parameters, protocol: ClbProtocol) -> dict[str, str]:
    upper_case = {sent: name for name, sent in _LOWER_CASE.items()}
    renamed = Parameters({upper_case.get(name, name): value for name, value in parameters.values.items()})
    return read_settings(renamed, NAMES[protocol].split(), RULES)


def _check(account: Account, owner: CLB, protocol: ClbProtocol, settings: Settings) -> None:
    """Raises Refusal if settings do not fit together."""
    forwards = settings.get("ListenerForward") == "on"
    if forwards and "ForwardPort" not in settings:
        raise missing("ForwardPort")
    for name in () if forwards else _MANDATORY[protocol]:
        if name not in settings:
            raise missing(name)
    if settings.get("StickySession") == "on":
        needed = {"insert": "CookieTimeout", "server": "Cookie"}.get(settings.get("StickySessionType", ""))
        if needed is None or needed not in settings:
            raise missing(needed or "StickySessionType")
    group = account.tables.clb_groups.get(settings["VServerGroupId"]) if settings["VServerGroupId"] else None
    if settings["VServerGroupId"] and (group is None or group.balancer != owner.identity):
        raise Refusal("InvalidParameter", "The specified VServerGroupId does not exist.")
    if group is None and not forwards and "BackendServerPort" not in settings:
        raise missing("BackendServerPort")
    _check_access(account, owner, settings)


def _check_access(account: Account, owner: CLB, settings: Settings) -> None:
    """Raises Refusal if clients are to be admitted by no list, or by one that does not fit the balancer."""
    if settings.get("AclStatus") != "on":
        return
    for name in ("AclId", "AclType"):
        if not settings.get(name):
            raise missing(name)
    version = owner.settings.get("AddressIPVersion", "ipv4")
    for identity in settings["AclId"].split(","):
        if version != f"ipv{access_list(account, identity).version}":
            raise Refusal("InvalidParameter", f"The IP version of {identity} is not that of the load balancer.")


def _store(account: Account, owner: CLB, listener: CLBListener) -> None:
    others = tuple(item for item in owner.listeners if not _same(item, listener.protocol, listener.port))
    listeners = sorted((*others, listener), key=lambda item: (item.port, item.protocol))
    account.tables.clbs.put(replace(owner, listeners=tuple(listeners)))


def _same(listener: CLBListener, protocol: str, port: int) -> bool:
    return listener.port == port and listener.protocol == protocol


def _collides(listener: CLBListener, protocol: str, port: int) -> bool:
    """Whether a port is taken: UDP has its own ports, all other protocols share the TCP ports."""
    return listener.port == port and (listener.protocol == "udp") == (protocol == "udp")


def _listener(owner: CLB, parameters: Parameters, protocol: str) -> CLBListener:
    port = _port(parameters)
    for listener in owner.listeners:
        if listener.port == port and protocol in ("", listener.protocol):
            return listener
    raise Refusal("InvalidParameter", f"The specified resource does not exist: listener {protocol}:{port}.")


def _port(parameters: Parameters) -> int:
    parameters.required("ListenerPort")
    return parameters.number("ListenerPort", 0, 1, 65535)


def _register_create(protocol: ClbProtocol) -> None:
    """Register CreateLoadBalancer(TCP|UDP|HTTP|HTTPS)Listener of SLB 2014-05-15."""

    @action(
        "slb",
        f"CreateLoadBalancer{protocol.upper()}Listener",
        required="RegionId LoadBalancerId ListenerPort",
        optional=f"{_parameter_names(protocol, create=True)} Tag",
    )
    def create(account: Account, parameters: Parameters) -> Answer:
        owner = balancer(account, parameters)
        port = _port(parameters)
        if any(_collides(item, protocol, port) for item in owner.listeners):
            raise Refusal("ListenerAlreadyExists", f"The specified listener {protocol}:{port} already exists.")
        settings = {**DEFAULTS[protocol], **_settings(parameters, protocol)}
        _check(account, owner, protocol, settings)
        _store(account, owner, CLBListener(protocol, port, settings, tags=parameters.tags()))
        return {}


def _register_set(protocol: ClbProtocol) -> None:
    """Register SetLoadBalancer(TCP|UDP|HTTP|HTTPS)ListenerAttribute of SLB 2014-05-15."""
    group_switches = "MasterSlaveServerGroup VServerGroup" if protocol in ("tcp", "udp") else "VServerGroup"

    @action(
        "slb",
        f"SetLoadBalancer{protocol.upper()}ListenerAttribute",
        required="RegionId LoadBalancerId ListenerPort",
        optional=f"{_parameter_names(protocol, create=False)} DryRun {group_switches}",
    )
    def change(account: Account, parameters: Parameters) -> Answer:
        owner = balancer(account, parameters)
        found = _listener(owner, parameters, protocol)
        settings = {**found.settings, **_settings(parameters, protocol)}
        if settings["AclStatus"] == "off":
            settings = {name: text for name, text in settings.items() if name not in ("AclId", "AclType")}
        if parameters.one_of("VServerGroup", ON_OFF) == "off":
            settings["VServerGroupId"] = ""
        _check(account, owner, protocol, settings)
        _store(account, owner, replace(found, settings=settings))
        return {}


def _register_describe(protocol: ClbProtocol) -> None:
    """Register DescribeLoadBalancer(TCP|UDP|HTTP|HTTPS)ListenerAttribute of SLB 2014-05-15."""

    @action(
        "slb",
        f"DescribeLoadBalancer{protocol.upper()}ListenerAttribute",
        required="LoadBalancerId ListenerPort",
    )
    def describe(account: Account, parameters: Parameters) -> Answer:
        owner = balancer(account, parameters)
        found = _listener(owner, parameters, protocol)
        return {**_head(owner, found), **_body(found), "Tags": {"Tag": describe_tags(found.tags)}}


for _protocol in PROTOCOLS:
    _register_create(_protocol)
    _register_set(_protocol)
    _register_describe(_protocol)


_HEAD = (
    "AclId",
    "AclStatus",
    "AclType",
    "BackendServerPort",
    "Bandwidth",
    "Description",
    "Scheduler",
    "VServerGroupId",
)


def _head(owner: CLB, item: CLBListener) -> dict[str, Any]:
    """The fields that listeners of all protocols have."""
    head = typed_settings({name: item.settings[name] for name in _HEAD if name in item.settings}, RULES)
    return {
        **head,
        "LoadBalancerId": owner.identity,
        "ListenerPort": item.port,
        "Status": "running" if item.running else "stopped",
    }


def _body(item: CLBListener) -> dict[str, Any]:
    """The fields of the protocol. HealthCheckSwitch of a call is HealthCheck in answers."""
    body: dict[str, Any] = typed_settings(
        {name: text for name, text in item.settings.items() if name not in _HEAD}, RULES
    )
    if "HealthCheckSwitch" in body:
        body["HealthCheck"] = body.pop("HealthCheckSwitch")
    if "ProxyProtocolV2Enabled" in body:
        body["ProxyProtocolV2Enabled"] = body["ProxyProtocolV2Enabled"] == "true"
    return body


@action(
    "slb",
    "DescribeLoadBalancerListeners",
    required="RegionId",
    optional="Description ListenerPort ListenerProtocol LoadBalancerId MaxResults NextToken Tag",
)
def describe_load_balancer_listeners(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeLoadBalancerListeners: lists the listeners of some or all CLBs."""
    identities = parameters.texts("LoadBalancerId")
    protocol, port = parameters.text("ListenerProtocol"), parameters.number("ListenerPort", 0, 1, 65535)
    found = [
        _listed(owner, item)
        for owner in account.tables.clbs
        for item in owner.listeners
        if (not identities or owner.identity in identities)
        and protocol in ("", item.protocol)
        and port in (0, item.port)
        and parameters.text("Description") in item.settings.get("Description", "")
    ]
    page, token = paging.by_token(found, parameters, default=50, most=100)
    return {"TotalCount": len(found), "NextToken": token, "MaxResults": len(page), "Listeners": list(page)}


def _listed(owner: CLB, item: CLBListener) -> dict[str, Any]:
    lists = [each for each in item.settings.get("AclId", "").split(",") if each]
    return {
        **_head(owner, item),
        "AclIds": lists[::-1],  # in no particular order
        "ListenerProtocol": item.protocol,
        f"{item.protocol.upper()}ListenerConfig": _body(item),
        "Tags": describe_tags(item.tags),
    }


def _switch(name: str, work: Callable[[CLB, CLBListener], CLB]) -> None:
    """Register an action of SLB 2014-05-15 that replaces one listener and has no other parameters."""

    @action("slb", name, required="RegionId LoadBalancerId ListenerPort", optional="ListenerProtocol")
    def switch(account: Account, parameters: Parameters) -> Answer:
        owner = balancer(account, parameters)
        found = _listener(owner, parameters, parameters.one_of("ListenerProtocol", PROTOCOLS))
        account.tables.clbs.put(work(owner, found))
        return {}


def _running(owner: CLB, found: CLBListener, running: bool) -> CLB:
    changed = tuple(replace(item, running=running) if item == found else item for item in owner.listeners)
    return replace(owner, listeners=changed)


_switch("StartLoadBalancerListener", lambda owner, found: _running(owner, found, True))
_switch("StopLoadBalancerListener", lambda owner, found: _running(owner, found, False))
_switch(
    "DeleteLoadBalancerListener",
    lambda owner, found: replace(owner, listeners=tuple(item for item in owner.listeners if item != found)),
)


@action("slb", "DescribeHealthStatus", required="LoadBalancerId", optional="ListenerPort ListenerProtocol")
def describe_health_status(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeHealthStatus: backend health as the data plane reported it, else ``unavailable``."""
    owner = balancer(account, parameters)
    protocol, port = parameters.text("ListenerProtocol"), parameters.number("ListenerPort", 0, 1, 65535)
    found = [
        entry
        for item in owner.listeners
        if protocol in ("", item.protocol) and port in (0, item.port)
        for entry in _health(account, item)
    ]
    return {"BackendServers": {"BackendServer": found}}


def _health(account: Account, item: CLBListener) -> list[Mapping[str, Any]]:
    group = account.tables.clb_groups.get(item.group)
    health = {True: "normal", False: "abnormal", None: "unavailable"}
    return [
        {
            "ListenerPort": item.port,
            "Protocol": item.protocol,
            "ServerId": backend.server,
            "ServerIp": backend.address,
            "Port": backend.port,
            "ServerHealthStatus": health[account.health.get((backend.address, backend.port))],
        }
        for backend in (group.backends if group else ())
    ]

"""Actions of SLB 2014-05-15 on the certificates that an HTTPS listener has for further domains."""

from __future__ import annotations

from dataclasses import replace

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import CLB, CLBListener, DomainExtension
from spiderpool_lab.alibaba.clb_balancers import balancer
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, not_found
from spiderpool_lab.alibaba.registry import Answer, action


def _secure(owner: CLB, parameters: Parameters) -> CLBListener:
    port = parameters.number("ListenerPort", 0, 1, 65535)
    for listener in owner.listeners:
        if listener.port == port and listener.protocol == "https":
            return listener
    raise Refusal("InvalidParameter", f"The specified resource does not exist: listener https:{port}.")


def _store(account: Account, owner: CLB, former: CLBListener, domains: tuple[DomainExtension, ...]) -> None:
    changed = (replace(item, domains=domains) if item == former else item for item in owner.listeners)
    account.tables.clbs.put(replace(owner, listeners=tuple(changed)))


def _extension(account: Account, parameters: Parameters) -> tuple[CLB, CLBListener, DomainExtension]:
    """The domain extension that a call names, with its listener and balancer."""
    identity = parameters.required("DomainExtensionId")
    for owner in account.tables.clbs:
        for listener in owner.listeners:
            for found in listener.domains:
                if found.identity == identity:
                    return owner, listener, found
    raise not_found("InvalidDomainExtensionId.NotFound", "DomainExtensionId", identity)


@action(
    "slb",
    "CreateDomainExtension",
    required="RegionId LoadBalancerId ListenerPort Domain",
    optional="ServerCertificateId",
)
def create_domain_extension(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 CreateDomainExtension: gives a listener a certificate for one more domain."""
    owner = balancer(account, parameters)
    listener, domain = _secure(owner, parameters), parameters.required("Domain")
    if any(each.domain == domain for each in listener.domains):
        raise Refusal("DomainExtensionAlreadyExists", f"The domain {domain} has a certificate.")
    created = DomainExtension(account.new_id("de-"), domain, parameters.required("ServerCertificateId"))
    _store(account, owner, listener, (*listener.domains, created))
    return {"DomainExtensionId": created.identity, "ListenerPort": listener.port}


@action("slb", "SetDomainExtensionAttribute", required="RegionId DomainExtensionId", optional="ServerCertificateId")
def set_domain_extension_attribute(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 SetDomainExtensionAttribute: gives the domain another certificate."""
    owner, listener, found = _extension(account, parameters)
    changed = replace(found, certificate=parameters.required("ServerCertificateId"))
    _store(account, owner, listener, tuple(changed if each == found else each for each in listener.domains))
    return {}


@action("slb", "DeleteDomainExtension", required="RegionId DomainExtensionId")
def delete_domain_extension(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DeleteDomainExtension: takes the domain's certificate away."""
    owner, listener, found = _extension(account, parameters)
    _store(account, owner, listener, tuple(each for each in listener.domains if each != found))
    return {}


@action(
    "slb",
    "DescribeDomainExtensions",
    required="RegionId LoadBalancerId ListenerPort",
    optional="DomainExtensionId",
)
def describe_domain_extensions(account: Account, parameters: Parameters) -> Answer:
    """SLB 2014-05-15 DescribeDomainExtensions: lists the further domains of a listener."""
    listener = _secure(balancer(account, parameters), parameters)
    found = [
        {"DomainExtensionId": each.identity, "Domain": each.domain, "ServerCertificateId": each.certificate}
        for each in listener.domains
        if parameters.text("DomainExtensionId") in ("", each.identity)
    ]
    return {"DomainExtensions": {"DomainExtension": found}}

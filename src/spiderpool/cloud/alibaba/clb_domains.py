"""Certificates that an https listener of a classic balancer has beside its own one, each for a domain."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from spiderpool.cloud.alibaba.answers import Json, objects, required
from spiderpool.core.cloud.alibaba.clb import domain_text


class ClassicCall(Protocol):
    """Calls an action of SLB 2014-05-15 in the region of the balancer. Raises CloudError."""

    def __call__(self, action: str, parameters: Mapping[str, Any]) -> Awaitable[Json]:
        """Returns the answer."""


async def described(call: ClassicCall, balancer: str, port: int) -> list[Json]:
    """Returns the domain extensions of a listener. Raises CloudError."""
    action = "DescribeDomainExtensions"
    answer = await call(action, {"LoadBalancerId": balancer, "ListenerPort": port})
    return objects(answer, action, "DomainExtensions", "DomainExtension")


async def domains_of(call: ClassicCall, balancer: str, port: int) -> str:
    """Returns the domains of a listener and their certificates, as text. Raises CloudError."""
    found = await described(call, balancer, port)
    return domain_text({required(each, "Domain").lower(): required(each, "ServerCertificateId") for each in found})


async def add_domains(call: ClassicCall, balancer: str, port: int, wanted: Mapping[str, str]) -> None:
    """Gives a listener certificates for domains that it has none for. Raises CloudError."""
    for domain, certificate in wanted.items():
        sent: Json = {"LoadBalancerId": balancer, "ListenerPort": port, "Domain": domain}
        await call("CreateDomainExtension", sent | {"ServerCertificateId": certificate})


async def change_domains(call: ClassicCall, balancer: str, port: int, wanted: Mapping[str, str]) -> None:
    """Makes the domains of a listener those that are wanted, each with its certificate. Raises CloudError."""
    present = {required(each, "Domain").lower(): each for each in await described(call, balancer, port)}
    new = {domain: certificate for domain, certificate in wanted.items() if domain not in present}
    await add_domains(call, balancer, port, new)
    for domain, extension in present.items():
        certificate = wanted.get(domain)
        if certificate is None:
            await call("DeleteDomainExtension", {"DomainExtensionId": required(extension, "DomainExtensionId")})
        elif required(extension, "ServerCertificateId") != certificate:
            sent = {"DomainExtensionId": required(extension, "DomainExtensionId"), "ServerCertificateId": certificate}
            await call("SetDomainExtensionAttribute", sent)

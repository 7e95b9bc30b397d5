"""Certificates that an https listener of a classic balancer has beside its own one, each for a domain."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from spiderpool.cloud.alibaba.answers import Json, objects, required
from spiderpool.core.cloud.alibaba.clb import domain_text, domains


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


async def change_domains(call: ClassicCall, balancer: str, port: int, wanted: str) -> None:
    """Makes the domains of a listener those of the text ``domain:certificate,…``. Raises CloudError."""
    present = {required(each, "Domain").lower(): each for each in await described(call, balancer, port)}
    certificates = domains(wanted)
    for domain, certificate in certificates.items():
        extension = present.get(domain)
        if extension is None:
            sent: Json = {"LoadBalancerId": balancer, "ListenerPort": port, "Domain": domain}
            await call("CreateDomainExtension", sent | {"ServerCertificateId": certificate})
        elif required(extension, "ServerCertificateId") != certificate:
            sent = {"DomainExtensionId": required(extension, "DomainExtensionId"), "ServerCertificateId": certificate}
            await call("SetDomainExtensionAttribute", sent)
    for domain in present.keys() - certificates.keys():
        sent = {"DomainExtensionId": required(present[domain], "DomainExtensionId")}
        await call("DeleteDomainExtension", sent)

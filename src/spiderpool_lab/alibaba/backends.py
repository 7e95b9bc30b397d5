"""Backend servers of a CLB or NLB server group: parses them from a call, checks and merges them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import BalancerBackend
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, missing


def read_backend(account: Account, sent: Parameters, kind: str) -> BalancerBackend:
    """Parse a backend. ``kind`` is its type in lower case: ecs, eni or ip. Raises Refusal if it does not exist."""
    server = sent.required("ServerId")
    return BalancerBackend(
        server,
        kind,
        sent.number("Port", 0, 0, 65535),
        sent.number("Weight", 100, 0, 100),
        _address(account, server, sent.text("ServerIp"), kind),
        sent.text("Description"),
    )


def _address(account: Account, server: str, requested: str, kind: str) -> str:
    """The address that traffic goes to: the requested one, or the primary address of the instance or ENI."""
    match kind:
        case "ecs":
            enis = account.enis_of(server)
            if not enis:
                raise Refusal("InvalidServerId.NotExist", f"The specified server {server} does not exist.")
            return requested or enis[0].address
        case "eni":
            eni = account.tables.enis.get(server)
            if eni is None:
                raise Refusal("InvalidServerId.NotExist", f"The specified server {server} does not exist.")
            if requested and requested not in (*eni.addresses, *eni.ipv6_addresses):
                raise Refusal("InvalidServerIp", f"The address {requested} is not one of {server}.")
            return requested or eni.address
        case "ip":
            return _literal(requested or server)
        case _:
            raise invalid("ServerType", f"{kind} is not simulated")


def _literal(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise invalid("ServerIp", f"{text} is not an IP address") from None


def without_duplicates(backends: Sequence[BalancerBackend], refusal: Refusal) -> Sequence[BalancerBackend]:
    """Return ``backends``, or raise ``refusal`` if the same server is listed twice."""
    if len({backend.key for backend in backends}) < len(backends):
        raise refusal
    return backends


def merged(present: Iterable[BalancerBackend], sent: Iterable[BalancerBackend]) -> tuple[BalancerBackend, ...]:
    """The present backends with the sent ones replaced or added, by server, address and port."""
    by_key = {backend.key: backend for backend in present}
    by_key.update((backend.key, backend) for backend in sent)
    return tuple(by_key.values())


def without(present: Iterable[BalancerBackend], removed: Iterable[BalancerBackend]) -> tuple[BalancerBackend, ...]:
    """The present backends without the removed ones. Removed backends that are not present are ignored."""
    keys = {backend.key for backend in removed}
    return tuple(backend for backend in present if backend.key not in keys)


def require_port(backend: BalancerBackend) -> BalancerBackend:
    """Return ``backend``, or raise Refusal if it has no port."""
    if backend.port == 0:
        raise missing("Port")
    return backend

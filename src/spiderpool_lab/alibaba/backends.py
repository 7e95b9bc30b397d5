"""The servers of a group, of CLB or NLB: read from a call, checked against what exists, merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import BalancerBackend
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, missing


def read_backend(account: Account, sent: Parameters, kind: str) -> BalancerBackend:
    """A server as a call describes it; ``kind`` is its type in lower case: ecs, eni, eci or ip."""
    server = sent.needed("ServerId")
    return BalancerBackend(
        server,
        kind,
        sent.number("Port", 0, 0, 65535),
        sent.number("Weight", 100, 0, 100),
        _address(account, server, sent.text("ServerIp"), kind),
        sent.text("Description"),
    )


def _address(account: Account, server: str, wanted: str, kind: str) -> str:
    """Where traffic for a server goes: the address wanted, or the primary one of the instance or ENI."""
    match kind:
        case "ecs":
            enis = account.enis_of(server)
            if not enis:
                raise Refusal("InvalidServerId.NotExist", f"The specified server {server} does not exist.")
            return wanted or enis[0].address
        case "eni":
            eni = account.world.enis.get(server)
            if eni is None:
                raise Refusal("InvalidServerId.NotExist", f"The specified server {server} does not exist.")
            if wanted and wanted not in (*eni.addresses, *eni.ipv6_addresses):
                raise Refusal("InvalidServerIp", f"The address {wanted} is not one of {server}.")
            return wanted or eni.address
        case "ip":
            return _literal(wanted or server)
        case _:
            raise invalid("ServerType", f"{kind} is not simulated")


def _literal(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise invalid("ServerIp", f"{text} is not an IP address") from None


def without_doubles(backends: Sequence[BalancerBackend], refusal: Refusal) -> Sequence[BalancerBackend]:
    """Refuse a list that names the same server twice."""
    if len({backend.key for backend in backends}) < len(backends):
        raise refusal
    return backends


def merged(present: Iterable[BalancerBackend], sent: Iterable[BalancerBackend]) -> tuple[BalancerBackend, ...]:
    """What is present with what was sent put in its place or added."""
    by_key = {backend.key: backend for backend in present}
    by_key.update((backend.key, backend) for backend in sent)
    return tuple(by_key.values())


def without(present: Iterable[BalancerBackend], gone: Iterable[BalancerBackend]) -> tuple[BalancerBackend, ...]:
    """What is present less what was sent; what is not there is not missed."""
    keys = {backend.key for backend in gone}
    return tuple(backend for backend in present if backend.key not in keys)


def require_port(backend: BalancerBackend) -> BalancerBackend:
    """Refuse a server without a port."""
    if backend.port == 0:
        raise missing("Port")
    return backend

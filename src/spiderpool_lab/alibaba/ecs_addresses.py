"""Actions of ECS 2014-05-26 that assign and unassign IPv4 addresses, IPv4 prefixes and IPv6 addresses of ENIs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address, IPv6Address, IPv6Network

from spiderpool_lab.alibaba import addressing
from spiderpool_lab.alibaba.account import Account, no_addresses
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, not_found
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.resources import NetworkInterface

NAMED_MAX = 32
"""IPv4 addresses that one call may name."""
COUNT_MAX = 49
"""IPv4 addresses that one call may request by number, and that an unattached ENI may have."""
IPV6_MAX = 10
PREFIXES_MAX = 10
"""IPv6 addresses and IPv4 prefixes that one call may assign."""


def choose_ipv4(account: Account, eni: NetworkInterface, parameters: Parameters, available: int) -> list[str]:
    """The IPv4 addresses that a call requests by name or number. Raises Refusal for more than ``available``."""
    named = parameters.texts("PrivateIpAddress")
    count = parameters.number("SecondaryPrivateIpAddressCount", 0, 1, COUNT_MAX)
    if named and count:
        raise Refusal(
            "InvalidParameter.Conflict", "PrivateIpAddress and SecondaryPrivateIpAddressCount exclude each other."
        )
    if len(named) > NAMED_MAX:
        raise invalid("PrivateIpAddress", f"has more than {NAMED_MAX} values")
    if (len(named) or count) > available:
        raise _too_many("Ipv4")
    if named:
        _check_named(account, eni, named)
        return named
    return account.choose_addresses(eni.vswitch, count, excluded=[eni.address])


def _check_named(account: Account, eni: NetworkInterface, named: Sequence[str]) -> None:
    found = account.vswitch(eni.vswitch)
    used = account.used_addresses(found.identity) | account.reserved_addresses(found.identity) | {eni.address}
    if found.full:
        raise no_addresses(found.identity)
    for address in named:
        if not _is_ipv4(address) or not addressing.assignable(found.block, address):
            raise Refusal("InvalidPrivateIpAddress.Malformed", f"{address} cannot be assigned in {found.block}.")
        if address in used:
            raise Refusal("InvalidPrivateIpAddress.Duplicated", f"{address} is in use.", 403)
    if len(set(named)) < len(named):
        raise Refusal("InvalidPrivateIpAddress.Duplicated", "An address is named twice.", 403)


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def choose_ipv6(
    account: Account, eni: NetworkInterface, parameters: Parameters, available: int = IPV6_MAX
) -> list[str]:
    """The IPv6 addresses that a call requests. Raises Refusal for more than ``available`` or a vSwitch without IPv6."""
    named = parameters.texts("Ipv6Address")
    count = parameters.number("Ipv6AddressCount", 0, 1, IPV6_MAX)
    if not named and not count:
        return []
    block = account.vswitch(eni.vswitch).ipv6_block
    if block is None:
        raise Refusal("InvalidVSwitchId.Ipv6NotEnabled", f"The VSwitch {eni.vswitch} has no IPv6.", 403)
    if len(named) > IPV6_MAX:
        raise invalid("Ipv6Address", f"has more than {IPV6_MAX} values")
    if (len(named) or count) > available:
        raise _too_many("Ipv6")
    used = {address for item in account.tables.enis for address in item.ipv6_addresses}
    return _named_ipv6(block, named, used) if named else addressing.free_ipv6(block, used, count)


def _named_ipv6(block: str, named: Sequence[str], used: Collection[str]) -> list[str]:
    chosen: list[str] = []
    for text in named:
        address = _ipv6(text)
        if address not in IPv6Network(block):
            raise Refusal("InvalidIpv6Address.Malformed", f"{text} is not in {block}.")
        if str(address) in used or str(address) in chosen:
            raise Refusal("InvalidIpv6Address.Duplicated", f"{text} is in use.", 403)
        chosen.append(str(address))
    return chosen


def _ipv6(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except AddressValueError:
        raise Refusal("InvalidIpv6Address.Malformed", f"{text} is not an IPv6 address.") from None


def _too_many(family: str) -> Refusal:
    return Refusal(
        f"InvalidOperation.{family}CountExceeded", f"The network interface takes no more {family} addresses.", 403
    )


def _eni(account: Account, parameters: Parameters) -> NetworkInterface:
    """The ENI that a call names. Raises Refusal if it is being attached, detached or deleted."""
    identity = parameters.required("NetworkInterfaceId")
    if (found := account.tables.enis.get(identity)) is None:
        raise not_found("InvalidEniId.NotFound", "network interface", identity)
    if found.status not in ("Available", "InUse"):
        raise Refusal(
            "InvalidOperation.InvalidEniState", f"The network interface {identity} is {found.status}; wait.", 403
        )
    return found


def _available_ipv4(account: Account, eni: NetworkInterface) -> int:
    """Number of IPv4 addresses or prefixes that can still be assigned. Unattached ENIs have a fixed limit."""
    most = COUNT_MAX if eni.instance is None else account.type_of(eni.instance).addresses - 1
    return most - len(eni.secondaries) - len(eni.prefixes)


def _available_ipv6(account: Account, eni: NetworkInterface) -> int:
    most = IPV6_MAX if eni.instance is None else account.type_of(eni.instance).ipv6_addresses
    return most - len(eni.ipv6_addresses)


@action(
    "ecs",
    "AssignPrivateIpAddresses",
    required="RegionId NetworkInterfaceId",
    optional="ClientToken Ipv4Prefix Ipv4PrefixCount PrivateIpAddress SecondaryPrivateIpAddressCount",
)
def assign_private_ip_addresses(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 AssignPrivateIpAddresses: assigns secondary IPv4 addresses or prefixes to an ENI."""
    eni = _eni(account, parameters)
    available = _available_ipv4(account, eni)
    singles = choose_ipv4(account, eni, parameters, available)
    prefixes = _choose_prefixes(account, eni, parameters, available)
    if bool(singles) == bool(prefixes):
        raise Refusal(
            "MissingParameter", "Exactly one of addresses, their count, prefixes, or their count must be sent."
        )
    account.tables.enis.put(replace(eni, secondaries=(*eni.secondaries, *singles), prefixes=(*eni.prefixes, *prefixes)))
    return {
        "AssignedPrivateIpAddressesSet": {
            "NetworkInterfaceId": eni.identity,
            "PrivateIpSet": {"PrivateIpAddress": singles},
            "Ipv4PrefixSet": {"Ipv4Prefixes": prefixes},
        }
    }


def _choose_prefixes(account: Account, eni: NetworkInterface, parameters: Parameters, available: int) -> list[str]:
    named = parameters.texts("Ipv4Prefix")
    count = parameters.number("Ipv4PrefixCount", 0, 1, PREFIXES_MAX)
    if len(named) > PREFIXES_MAX:
        raise invalid("Ipv4Prefix", f"has more than {PREFIXES_MAX} values")
    if (len(named) or count) > available:
        raise _too_many("Ipv4")
    vswitch = account.vswitch(eni.vswitch)
    used = account.used_addresses(vswitch.identity)
    free = [] if vswitch.full else addressing.free_prefixes(vswitch.block, used, count)
    if named:
        free = [prefix for prefix in named if used.isdisjoint(addressing.addresses_in(prefix))]
    if len(free) < (len(named) or count):
        raise no_addresses(vswitch.identity)
    return free


@action(
    "ecs",
    "UnassignPrivateIpAddresses",
    required="RegionId NetworkInterfaceId",
    optional="Ipv4Prefix PrivateIpAddress",
)
def unassign_private_ip_addresses(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 UnassignPrivateIpAddresses: removes secondary IPv4 addresses or prefixes from an ENI."""
    eni = _eni(account, parameters)
    singles, prefixes = parameters.texts("PrivateIpAddress"), parameters.texts("Ipv4Prefix")
    if not singles and not prefixes:
        raise Refusal("MissingParameter", 'The input parameter "PrivateIpAddress" that is mandatory is not supplied.')
    if len(singles) > NAMED_MAX:
        raise invalid("PrivateIpAddress", f"has more than {NAMED_MAX} values")
    account.tables.enis.put(
        replace(
            eni,
            secondaries=_without(eni.secondaries, singles),
            prefixes=_without(eni.prefixes, prefixes),
        )
    )
    return {}


@action(
    "ecs",
    "AssignIpv6Addresses",
    required="RegionId NetworkInterfaceId",
    optional="ClientToken Ipv6Address Ipv6AddressCount",
)
def assign_ipv6_addresses(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 AssignIpv6Addresses: assigns IPv6 addresses to an ENI."""
    eni = _eni(account, parameters)
    chosen = choose_ipv6(account, eni, parameters, _available_ipv6(account, eni))
    if not chosen:
        raise Refusal("MissingParameter", "Ipv6Address or Ipv6AddressCount must be sent.")
    account.tables.enis.put(replace(eni, ipv6_addresses=(*eni.ipv6_addresses, *chosen)))
    return {
        "NetworkInterfaceId": eni.identity,
        "Ipv6Sets": {"Ipv6Address": chosen},
        "Ipv6PrefixSets": {"Ipv6Prefix": []},
    }


@action("ecs", "UnassignIpv6Addresses", required="RegionId NetworkInterfaceId Ipv6Address")
def unassign_ipv6_addresses(account: Account, parameters: Parameters) -> Answer:
    """ECS 2014-05-26 UnassignIpv6Addresses: removes IPv6 addresses from an ENI."""
    eni = _eni(account, parameters)
    named = [str(_ipv6(text)) for text in parameters.texts("Ipv6Address")]
    if len(named) > IPV6_MAX:
        raise invalid("Ipv6Address", f"has more than {IPV6_MAX} values")
    account.tables.enis.put(replace(eni, ipv6_addresses=_without(eni.ipv6_addresses, named)))
    return {}


def _without(present: tuple[str, ...], removed: Sequence[str]) -> tuple[str, ...]:
    for item in removed:
        if item not in present:
            raise Refusal("InvalidIp.IpUnassigned", f"{item} is not assigned to the network interface.")
    return tuple(item for item in present if item not in removed)

"""Rules that SpiderIPPool, SpiderSubnet and SpiderReservedIP share: address family, ranges, gateway, routes."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from spiderpool.api.ippool import Route
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, ObjectMeta
from spiderpool.core.addresses import AddressSet, Network, RangeError, parse_address, parse_subnet, to_int
from spiderpool.core.admission.faults import Fault, Faults, FieldError, is_address, is_label_value, parse_prefix

FAMILIES = frozenset({4, 6})
"""All address families; those that are switched on unless a caller says otherwise."""

Labels = dict[str, str]


def subnet_or_none(text: str) -> Network | None:
    """A subnet that is written in canonical form; None for any other text."""
    try:
        return parse_subnet(text)
    except ValueError:
        return None


def cidr_label(subnet: Network) -> str | None:
    """The subnet as a label value; None for the few, such as ``::/0``, that would begin or end with a dash."""
    value = str(subnet).translate(str.maketrans(".:/", "---"))
    return value if is_label_value(value) else None


def with_finalizer(metadata: ObjectMeta, labels: Labels) -> ObjectMeta:
    """The metadata with our finalizer, without its former name, and with its labels replaced by ``labels``."""
    finalizers = [name for name in metadata.finalizers or () if name != FORMER_FINALIZER]
    ours = finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER]
    return replace(metadata, finalizers=ours, labels=labels or None)


def merged(ranges: list[str] | None, version: int, whole: AddressSet | None = None) -> list[str] | None:
    """The ranges, joined and sorted.

    Stay as written: a single range, and ranges that the validation refuses (unreadable, or outside ``whole``), so that
    the fault names the entry that the user wrote.
    """
    if not ranges or len(ranges) < 2:
        return ranges
    try:
        parsed = AddressSet.parse(ranges, version)
    except RangeError:
        return ranges
    return parsed.ranges() if whole is None or parsed.issubset(whole) else ranges


def subnet_faults(subnet: str, version: int | None, families: frozenset[int]) -> Faults:
    """Faults of ``spec.subnet`` and ``spec.ipVersion``. While there is one, the other fields cannot be checked.

    That the subnet stays as it is, is a rule of the CRD.
    """
    try:
        family = parse_subnet(subnet).version
    except ValueError as error:
        yield FieldError(Fault.INVALID, "spec.subnet", subnet, str(error))
        return
    if (version or family) != family:
        remedy = f"the subnet {subnet} is IPv{family}; write {family} or leave the field out"
        yield FieldError(Fault.INVALID, "spec.ipVersion", version, remedy)
    else:
        yield from family_faults(family, families)


def family_faults(version: int, families: frozenset[int]) -> Faults:
    """The fault of an address family that is not among ``families``, those that are switched on."""
    if version not in families:
        remedy = f"IPv{version} is switched off; set enableIPv{version} to true in the ConfigMap first"
        yield FieldError(Fault.FORBIDDEN, "spec.ipVersion", version, remedy)


def range_faults(ranges: list[str] | None, path: str, version: int, subnet: Network | None = None) -> Faults:
    """Faults of entries that are no range of the family, or lie outside the subnet."""
    for index, text in enumerate(ranges or ()):
        try:
            parsed = AddressSet.parse((text,), version)
        except RangeError as error:
            yield FieldError(Fault.INVALID, f"{path}[{index}]", text, error.reason)
            continue
        if subnet and (outside := (parsed - AddressSet.of_network(subnet)).ranges()):
            remedy = f"{', '.join(outside)} lies outside the subnet {subnet}; write addresses of the subnet"
            yield FieldError(Fault.INVALID, f"{path}[{index}]", text, remedy)


def gateway_faults(gateway: str | None, subnet: Network, usable: AddressSet) -> Faults:
    """Faults of a gateway; ``usable`` are the addresses that pods may get."""
    if gateway is None:
        return
    yield from _hop_faults(gateway, "spec.gateway", subnet)
    if is_address(gateway, subnet.version) and to_int(gateway, subnet.version) in usable:
        remedy = "is one of spec.ips and would be given to a pod; add it to spec.excludeIPs"
        yield FieldError(Fault.INVALID, "spec.gateway", gateway, remedy)


def route_faults(routes: Iterable[Route], subnet: Network) -> Faults:
    """Faults of routes: a destination that is repeated or the default route, a next hop outside the subnet."""
    earlier: set[str] = set()  # destinations of earlier routes
    for index, route in enumerate(routes):
        path = f"spec.routes[{index}]"
        yield from _destination_faults(route.dst, f"{path}.dst", subnet.version, earlier)
        yield from _hop_faults(route.gw, f"{path}.gw", subnet)


def _hop_faults(text: str, path: str, subnet: Network) -> Faults:
    try:
        hop = parse_address(text, subnet.version)
    except ValueError as error:
        yield FieldError(Fault.INVALID, path, text, f"{error}; write an address of the subnet {subnet}")
        return
    if hop not in subnet:
        yield FieldError(Fault.INVALID, path, text, f"lies outside the subnet {subnet}; write an address of the subnet")


def _destination_faults(text: str, path: str, version: int, earlier: set[str]) -> Faults:
    prefix = parse_prefix(text) if "/" in text else None
    if prefix is None or prefix.version != version:
        yield FieldError(Fault.INVALID, path, text, f"not an IPv{version} CIDR; write one such as {_example(version)}")
        return
    network = str(prefix.network)
    if prefix.network.prefixlen == 0:
        yield FieldError(Fault.INVALID, path, text, "a default route is made from spec.gateway; leave this one out")
    elif network in earlier:
        yield FieldError(Fault.INVALID, path, text, f"a route to {network} is in the list already; keep one of them")
    earlier.add(network)


def _example(version: int) -> str:
    return "10.233.0.0/18" if version == 4 else "fd00:233::/64"

"""Rules of SpiderReservedIP: what it gets by default, and what it may contain."""

from __future__ import annotations

from msgspec.structs import replace

from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.core.admission.faults import Fault, Faults, FieldError, first_faults, is_address
from spiderpool.core.admission.ranges import FAMILIES, family_faults, merged, range_faults


def default_reservedip(reserved: SpiderReservedIP) -> SpiderReservedIP:
    """The object with ``ipVersion``, read from the first entry, and merged ranges.

    It gets no finalizer, because its deletion leaves nothing to clean up.
    """
    spec = reserved.spec
    version = spec.ipVersion or _family(spec.ips or [])
    if reserved.terminating or version is None:
        return reserved
    return replace(reserved, spec=replace(spec, ipVersion=version, ips=merged(spec.ips, version)))


def _family(ips: list[str]) -> int | None:
    first = ips[0].partition("-")[0] if ips else ""
    return next((version for version in (4, 6) if is_address(first, version)), None)


def validate_reservedip(
    new: SpiderReservedIP, old: SpiderReservedIP | None, families: frozenset[int] = FAMILIES
) -> tuple[FieldError, ...]:
    """All faults of a new or changed object; ``old`` is None for a new one.

    ``families`` are those that are switched on. A change that leaves ``spec`` as it is has no faults.
    """
    if old is not None and old.spec == new.spec:
        return ()
    if new.terminating:
        return (FieldError(Fault.FORBIDDEN, "spec", None, "it is being deleted; create another one"),)
    return tuple(_version_faults(new, families)) or first_faults(_range_faults(new))


def _version_faults(new: SpiderReservedIP, families: frozenset[int]) -> Faults:
    """Faults of ``spec.ipVersion``; that it stays as it is, is a rule of the CRD."""
    if new.spec.ipVersion is not None:
        yield from family_faults(new.spec.ipVersion, families)
    elif new.spec.ips:
        remedy = "not an IPv4 or IPv6 address; write one address, or two joined by '-'"
        yield FieldError(Fault.INVALID, "spec.ips[0]", new.spec.ips[0], remedy)
    else:
        yield FieldError(Fault.REQUIRED, "spec.ipVersion", None, "write 4 or 6, or name addresses in spec.ips")


def _range_faults(new: SpiderReservedIP) -> Faults:
    if new.spec.ipVersion:
        yield from range_faults(new.spec.ips, "spec.ips", new.spec.ipVersion)

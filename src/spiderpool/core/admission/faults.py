"""The type of faults, and checks of values that all kinds have: labels, selectors, prefixes, addresses."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from itertools import chain, islice

import msgspec

from spiderpool.api.meta import LabelSelector, SelectorRequirement
from spiderpool.core.addresses import to_int
from spiderpool.core.labels import LABEL_LENGTH, NAME_LENGTH

SHOWN = 5
"""Names that one message lists; it counts the others."""
MAX_FAULTS = 50
"""Faults that a refusal lists; whoever has mended these learns of the others."""
MAX_VALUE = 200
"""Characters of a value that a message repeats."""

_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


class Fault(enum.StrEnum):
    """Kind of a fault: the cause types of metav1.Status."""

    REQUIRED = "FieldValueRequired"
    INVALID = "FieldValueInvalid"
    FORBIDDEN = "FieldValueForbidden"
    NOT_SUPPORTED = "FieldValueNotSupported"


_FAULT_WORDS = {
    Fault.REQUIRED: "Required value",
    Fault.INVALID: "Invalid value",
    Fault.FORBIDDEN: "Forbidden",
    Fault.NOT_SUPPORTED: "Unsupported value",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of an object."""

    kind: Fault
    path: str
    """The field as the user wrote it, such as ``spec.ips[1]``."""
    value: object
    """The field's value."""
    message: str
    """What is wrong, and what to do about it."""

    @property
    def detail(self) -> str:
        """The fault without its path, in the words of Kubernetes' own field errors."""
        words = _FAULT_WORDS[self.kind]
        if self.kind in (Fault.INVALID, Fault.NOT_SUPPORTED):
            text = msgspec.json.encode(self.value).decode()
            words += f": {text[:MAX_VALUE]}…" if len(text) > MAX_VALUE else f": {text}"
        return f"{words}: {self.message}"

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


Faults = Iterator[FieldError]


def first_faults(*faults: Iterable[FieldError]) -> tuple[FieldError, ...]:
    """As many faults as a refusal lists."""
    return tuple(islice(chain.from_iterable(faults), MAX_FAULTS))


def shown(words: list[str]) -> str:
    """The first of several names, and how many more there are."""
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


def selector_faults(selector: LabelSelector | None, path: str) -> Faults:
    """Faults of a selector, by the rules of metav1.LabelSelector."""
    if selector is None:
        return
    for key, value in (selector.matchLabels or {}).items():
        yield from _label_key_faults(key, f"{path}.matchLabels")
        yield from _label_value_faults(value, f"{path}.matchLabels[{key}]")
    for index, requirement in enumerate(selector.matchExpressions or ()):
        yield from _requirement_faults(requirement, f"{path}.matchExpressions[{index}]")


def _requirement_faults(requirement: SelectorRequirement, path: str) -> Faults:
    yield from _label_key_faults(requirement.key, f"{path}.key")
    values = requirement.values or []
    match requirement.operator:
        case "In" | "NotIn" if not values:
            yield FieldError(Fault.REQUIRED, f"{path}.values", None, f"{requirement.operator} needs at least one value")
        case "In" | "NotIn":
            for index, value in enumerate(values):
                yield from _label_value_faults(value, f"{path}.values[{index}]")
        case "Exists" | "DoesNotExist" if values:
            yield FieldError(Fault.FORBIDDEN, f"{path}.values", values, f"{requirement.operator} takes no values")
        case "Exists" | "DoesNotExist":
            pass
        case other:
            yield FieldError(Fault.INVALID, f"{path}.operator", other, "write In, NotIn, Exists or DoesNotExist")


def _label_key_faults(key: str, path: str) -> Faults:
    prefix, slash, name = key.rpartition("/")
    if not name or not is_label_value(name) or (slash and not is_object_name(prefix)):
        remedy = "not a label key; write a name of at most 63 letters, digits, '-', '_', '.', with an optional domain/"
        yield FieldError(Fault.INVALID, path, key, remedy)


def _label_value_faults(value: str, path: str) -> Faults:
    if not is_label_value(value):
        remedy = "not a label value; write at most 63 letters, digits, '-', '_' or '.', a letter or digit at both ends"
        yield FieldError(Fault.INVALID, path, value, remedy)


def is_label_value(text: str) -> bool:
    """Whether a text may be the value of a label."""
    return len(text) <= LABEL_LENGTH and _LABEL_VALUE.fullmatch(text) is not None


def is_object_name(text: str) -> bool:
    """Whether a text may be the name of an object (DNS-1123 subdomain)."""
    return len(text) <= NAME_LENGTH and _DNS_SUBDOMAIN.fullmatch(text) is not None


def is_address(text: str, version: int) -> bool:
    """Whether a text is an address of a family, without a prefix length."""
    try:
        to_int(text, version)
    except ValueError:
        return False
    return True


def parse_prefix(text: str) -> IPv4Interface | IPv6Interface | None:
    """An address with or without a prefix length; None for other text, also for netmasks and IPv6 zones.

    Host bits may be set.
    """
    _, slash, length = text.partition("/")
    if "%" in text or (slash and not re.fullmatch(r"0|[1-9][0-9]{0,2}", length)):
        return None
    try:
        return ip_interface(text)
    except ValueError:
        return None


def prefix_text(text: str) -> str:
    """The address or CIDR with a prefix length; text that cannot be read stays as written."""
    prefix = parse_prefix(text)
    return prefix.with_prefixlen if prefix else text

"""Label values, label selectors and the length of names of Kubernetes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from spiderpool.api.meta import LabelSelector, SelectorRequirement

LABEL_LENGTH = 63
"""The longest label value that Kubernetes accepts."""
NAME_LENGTH = 253
"""The longest name of an object, and the longest domain of a label key, that Kubernetes accepts (RFC 1123)."""

Labels = Mapping[str, str]


def label_value(name: str) -> str:
    """A name as a label value. A name that is too long for a label is replaced by its digest."""
    return name if len(name) <= LABEL_LENGTH else hashlib.sha256(name.encode()).hexdigest()[:LABEL_LENGTH]


def matches(selector: LabelSelector, labels: Labels) -> bool:
    """Whether labels satisfy all requirements of a selector (metav1.LabelSelector)."""
    equal = all(labels.get(key) == value for key, value in (selector.matchLabels or {}).items())
    return equal and all(_holds(requirement, labels) for requirement in selector.matchExpressions or ())


def _holds(requirement: SelectorRequirement, labels: Labels) -> bool:
    """Whether labels satisfy one requirement; an unknown operator satisfies nothing."""
    present = requirement.key in labels
    listed = present and labels[requirement.key] in (requirement.values or ())
    match requirement.operator:
        case "In":
            return listed
        case "NotIn":
            return not listed
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
        case _:
            return False

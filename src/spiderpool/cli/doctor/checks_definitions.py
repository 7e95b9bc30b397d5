"""Whether the cluster has our custom resources in the form of this version, and is new enough."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from spiderpool import __version__
from spiderpool.api.apiextensions_v1 import CustomResourceDefinition, DefinedVersion
from spiderpool.api.crd import KINDS, schema
from spiderpool.api.meta import GROUP, Kind, Object
from spiderpool.cli.attention import ready_pods
from spiderpool.cli.finding import Finding
from spiderpool.cli.installation import VERSION_LABEL, Installation, component_of
from spiderpool.cli.printing import object_reference

OLDEST = (1, 30)
"""The oldest Kubernetes whose tokens name the node of an agent, and that has ValidatingAdmissionPolicies."""
SHOWN_FIELDS = 5


def definition_findings(definitions: Iterable[CustomResourceDefinition] | None) -> Iterator[Finding]:
    """Kinds that are missing, or without fields that this version writes; none where they may not be read."""
    if definitions is None:
        return
    found = {each.name: each for each in definitions}
    for kind in KINDS:
        name = f"{kind.KIND.plural}.{kind.KIND.group}"
        yield from _of_kind(kind, name, found.get(name))


def _of_kind(kind: type[Object], name: str, found: CustomResourceDefinition | None) -> Iterator[Finding]:
    subject = object_reference(CustomResourceDefinition, name)
    version = _served(kind.KIND, found)
    if version is None:
        what = "does not exist" if found is None else f"does not serve {kind.KIND.api_version}"
        yield Finding("crd-missing", subject, f"CustomResourceDefinition {name} {what}")
    elif kind.KIND.group == GROUP:  # others are not ours alone
        missing = sorted({*fields(schema(kind))} - {*fields(version.schema.openAPIV3Schema)})
        if missing:
            more = f" and {len(missing) - SHOWN_FIELDS} more" if len(missing) > SHOWN_FIELDS else ""
            what = f"CustomResourceDefinition {name} is of another version: it lacks "
            yield Finding("crd-outdated", subject, f"{what}{', '.join(missing[:SHOWN_FIELDS])}{more}")


def _served(kind: Kind, found: CustomResourceDefinition | None) -> DefinedVersion | None:
    versions = found.spec.versions if found else ()
    return next((each for each in versions if each.name == kind.version and each.served), None)


def fields(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """The path of each field of a schema."""
    for name, child in (node.get("properties") or {}).items():
        here = f"{path}.{name}" if path else name
        yield here
        yield from fields(child, here)
    if isinstance(items := node.get("items"), dict):
        yield from fields(items, f"{path}[]")


def version_findings(found: Installation) -> Iterator[Finding]:
    """A Kubernetes that is too old, and daemons of another version than ours."""
    match = re.match(r"v(\d+)\.(\d+)", found.kubernetes or "")
    if match and (int(match[1]), int(match[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        what = f"the API server is Kubernetes {found.kubernetes}, and the oldest that serves is {oldest}"
        yield Finding("kubernetes-too-old", "", what)
    for each in found.workloads or ():
        version = (each.metadata.labels or {}).get(VERSION_LABEL)
        if version and version != __version__ and ready_pods(each):
            what = f"{component_of(each)} is of version {version}, and this spiderpoolctl of {__version__}"
            yield Finding("version-differs", object_reference(type(each), each.name), what)

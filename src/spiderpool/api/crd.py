"""CustomResourceDefinitions (apiextensions.k8s.io/v1) made from the types, so that schema and code always agree."""

from __future__ import annotations

from typing import Any

import msgspec

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.iphistory import SpiderIPHistory
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from spiderpool.api.meta import SERVER_DEFAULT, Column, Kind, Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet

KINDS: tuple[type[Object], ...] = (
    SpiderIPPool,
    SpiderIP,
    SpiderSubnet,
    SpiderReservedIP,
    SpiderIPQuota,
    SpiderIPHistory,
    SpiderMultusConfig,
    SpiderCoordinator,
    SpiderEndpoint,
    SpiderNode,
    SpiderServer,
    SpiderLoadBalancerGrant,
    NetworkAttachmentDefinition,
)

SCHEMA_KEYWORDS = ("type", "description", "enum", "minimum", "maximum", "pattern", "maxLength")
"""Keywords of JSON Schema that go into the CRD as they are."""


def crd(kind: type[Object]) -> dict[str, Any]:
    """The CRD of a kind (apiextensions.k8s.io/v1), valid from Kubernetes 1.30 on."""
    info = kind.KIND
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{info.plural}.{info.group}"},
        "spec": {
            "group": info.group,
            "names": _names(info),
            "scope": str(info.scope),
            "versions": [_version(kind)],
        },
    }


def schema(kind: type[Object]) -> dict[str, Any]:
    """The structural OpenAPI schema of a kind."""
    (root,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    whole = _structural(root, components)
    whole["description"] = (kind.__doc__ or "").strip()
    whole["properties"]["metadata"] = {"type": "object"}
    for name in ("apiVersion", "kind"):
        whole["properties"][name] = {"type": "string"}
    if kind.KIND.rules:
        whole["x-kubernetes-validations"] = [msgspec.to_builtins(rule) for rule in kind.KIND.rules]
    return whole


def _names(info: Kind) -> dict[str, Any]:
    names: dict[str, Any] = {
        "kind": info.name,
        "listKind": f"{info.name}List",
        "plural": info.plural,
        "singular": info.plural.removesuffix("s") if info.group.startswith("k8s") else info.name.lower(),
        "shortNames": list(info.shortNames),
    }
    return names | ({"categories": list(info.categories)} if info.categories else {})


def _version(kind: type[Object]) -> dict[str, Any]:
    info = kind.KIND
    version: dict[str, Any] = {
        "name": info.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema(kind)},
    }
    if info.columns:
        version["additionalPrinterColumns"] = [_column(column) for column in info.columns]
    if info.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in info.selectable]
    if info.status:
        version["subresources"] = {"status": {}}
    return version


def _column(column: Column) -> dict[str, Any]:
    return {"name": column.name, "type": column.type, "jsonPath": column.jsonPath} | (
        {"priority": column.priority} if column.priority else {}
    )


def _structural(node: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """A schema in the form that apiextensions/v1 accepts: references inlined, without null alternatives and titles."""
    if "anyOf" in node:
        node = _without_null(node)
    if "$ref" in node:
        node = components[node["$ref"]] | {key: value for key, value in node.items() if key != "$ref"}
    result = {key: node[key] for key in SCHEMA_KEYWORDS if node.get(key) is not None}
    result |= {key: value for key, value in node.items() if key.startswith("x-kubernetes-")}
    if SERVER_DEFAULT in node:
        result["default"] = node[SERVER_DEFAULT]
    if "format" not in result and result.get("type") == "integer":
        result["format"] = "int64"
    return result | _children(node, components)


def _children(node: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The keywords of a schema that describe the fields of an object or the items of an array."""
    result: dict[str, Any] = {}
    if properties := node.get("properties"):
        result["properties"] = {name: _structural(child, components) for name, child in properties.items()}
    if required := node.get("required"):
        result["required"] = list(required)
    if items := node.get("items"):
        result["items"] = _structural(items, components)
    if isinstance(values := node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(values, components)
    return result


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """The schema of an optional field without its null alternative: in a CRD the field may be absent, not null."""
    (only,) = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
    return {**only, **{key: value for key, value in node.items() if key != "anyOf"}}

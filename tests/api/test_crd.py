"""The CRD manifests in the chart equal those made from the types, and hold what tools and users rely on."""

from __future__ import annotations

from typing import Any

import pytest
from scripts.generate_crds import manifest, path

from spiderpool.api.crd import KINDS, crd
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_NODE_LABEL, SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.nad import NetworkAttachmentDefinition

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND.name)
def test_the_manifest_in_the_chart_is_that_of_the_type(kind: type[Object]) -> None:
    assert path(kind).read_text() == manifest(kind), "run scripts/generate_crds.py"


def leaves(schema: dict[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    below = [leaf for name, child in schema.get("properties", {}).items() for leaf in leaves(child, f"{where}.{name}")]
    return [(where, schema), *below]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND.name)
def test_every_field_is_described_and_structural(kind: type[Object]) -> None:
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for where, field in leaves(schema, ""):
        assert field.get("type"), f"{where} has no type"
        standard = where in (".apiVersion", ".kind", ".metadata") or "Affinity." in where
        assert standard or field.get("description"), f"{where} has no description"
        assert not {"anyOf", "$ref", "title", "nullable"} & field.keys(), where


def test_printer_columns_of_pools() -> None:
    columns = crd(SpiderIPPool)["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [(each["name"], each["type"], each.get("priority", 0)) for each in columns] == [
        ("VERSION", "string", 0),
        ("SUBNET", "string", 0),
        ("ALLOCATED-IP-COUNT", "integer", 0),
        ("TOTAL-IP-COUNT", "integer", 0),
        ("DEFAULT", "boolean", 0),
        ("DISABLE", "boolean", 10),
        ("NODE", "string", 10),
        ("NodeName", "string", 10),
        ("MultusName", "string", 10),
        ("APP-NAMESPACE", "string", 10),
    ]


def test_the_column_of_a_pool_s_node_is_its_label() -> None:
    (node,) = (each for each in SpiderIPPool.KIND.columns if each.name == "NODE")
    assert node.jsonPath.replace("\\", "") == f".metadata.labels['{POOL_NODE_LABEL}']"


@pytest.mark.parametrize("kind", [each for each in KINDS if each is not NetworkAttachmentDefinition])
def test_kubectl_shows_more_of_each_kind_than_its_age(kind: type[Object]) -> None:
    """A CRD without columns has one of the age."""
    assert [each for each in kind.KIND.columns if each.name != "AGE" and not each.priority]


def test_the_fields_of_records_that_selectors_name_are_those_that_a_record_has() -> None:
    version = crd(SpiderIP)["spec"]["versions"][0]
    fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    names = [each["jsonPath"].removeprefix(".spec.") for each in version["selectableFields"]]
    assert names == ["namespace", "pod", "podUID", "node", "pool", "interface"]
    assert len(names) <= 8, "the limit of the API server"
    assert all(fields[name]["type"] == "string" for name in names)


def test_the_api_server_fills_in_defaults() -> None:
    spec = crd(SpiderIPPool)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert (spec["properties"]["default"]["default"], spec["properties"]["disable"]["default"]) == (False, False)
    assert "default" not in spec["properties"]["ips"]
    assert spec["required"] == ["subnet"]

"""What a SpiderMultusConfig describes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import CNI_TYPES, NAD_NAME_ANNOTATION, MultusConfigSpec, SpiderMultusConfig, VlanConfig
from spiderpool.core.network.multusconfig import BLOCK_FIELDS, attachment_name, interface_block

pytestmark = pytest.mark.unit


def spec(document: dict[str, Any]) -> MultusConfigSpec:
    return msgspec.convert(document, MultusConfigSpec)


def test_every_cni_type_but_custom_has_a_field_of_the_spec() -> None:
    assert set(BLOCK_FIELDS) == set(CNI_TYPES) - {"custom"}
    assert set(BLOCK_FIELDS.values()) <= set(MultusConfigSpec.__struct_fields__)


def test_the_interface_is_described_by_the_block_that_cni_type_names() -> None:
    both = {"vlan": {"master": ["eth0"]}, "ipvlan": {"master": ["eth1"]}}
    assert isinstance(interface_block(spec({"cniType": "vlan", **both})), VlanConfig)


@pytest.mark.parametrize("document", [{}, {"cniType": "custom"}, {"cniType": "ovs", "ipvlan": {"master": ["eth0"]}}])
def test_there_is_no_block_for_custom_or_when_it_is_missing(document: dict[str, Any]) -> None:
    assert interface_block(spec(document)) is None


@pytest.mark.parametrize(
    ("annotations", "name"), [(None, "net"), ({}, "net"), ({NAD_NAME_ANNOTATION: "other"}, "other")]
)
def test_name_of_the_network_attachment_definition(annotations: dict[str, str] | None, name: str) -> None:
    config = SpiderMultusConfig(metadata=ObjectMeta(name="net", namespace="ns", annotations=annotations))
    assert attachment_name(config) == name

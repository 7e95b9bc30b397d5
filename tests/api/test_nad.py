"""NetworkAttachmentDefinition: the CNI configuration of a network."""

from __future__ import annotations

import pytest

from spiderpool.api.nad import NetworkAttachmentDefinition
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_the_configuration_is_text_and_may_be_absent() -> None:
    nad = read({"metadata": {"name": "a"}, "spec": {"config": '{"type":"ipvlan"}'}}, NetworkAttachmentDefinition)
    assert nad.spec is not None
    assert nad.spec.config == '{"type":"ipvlan"}'
    assert read({"metadata": {"name": "a"}}, NetworkAttachmentDefinition).spec is None
    assert nad.KIND.object_path("shop", "a") == (
        "apis/k8s.cni.cncf.io/v1/namespaces/shop/network-attachment-definitions/a"
    )

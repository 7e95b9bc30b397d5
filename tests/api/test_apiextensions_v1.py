"""CustomResourceDefinitions as commands read them."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.apiextensions_v1 import CustomResourceDefinition
from spiderpool.api.crd import crd
from spiderpool.api.ip import SpiderIP

pytestmark = pytest.mark.unit


def test_it_reads_what_we_write() -> None:
    found = msgspec.convert(crd(SpiderIP), CustomResourceDefinition)
    (version,) = found.spec.versions
    assert (found.spec.group, version.name, version.served) == (SpiderIP.KIND.group, "v2beta1", True)
    assert "spec" in version.schema.openAPIV3Schema["properties"]

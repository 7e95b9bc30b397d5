"""`spiderpoolctl doctor`: our kinds and versions, as the cluster has them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from spiderpool.api.apiextensions_v1 import CustomResourceDefinition
from spiderpool.api.crd import KINDS, crd
from spiderpool.api.ip import SpiderIP
from spiderpool.cli.doctor.checks_definitions import definition_findings, version_findings
from tests.cli.doctor.snapshots import daemon, found, snapshot

pytestmark = pytest.mark.unit


class TestDefinitions:
    """Custom resources, and versions."""

    ALL = tuple(msgspec.convert(crd(kind), CustomResourceDefinition) for kind in KINDS)

    def test_those_of_this_version_are_right(self) -> None:
        assert [*definition_findings(self.ALL)] == []
        assert [*definition_findings(None)] == []

    def test_one_is_missing(self) -> None:
        (one,) = definition_findings(each for each in self.ALL if not each.name.startswith("spiderips."))
        assert one.what == "CustomResourceDefinition spiderips.spiderpool.spidernet.io does not exist"

    def test_one_serves_another_version(self) -> None:
        older = crd(SpiderIP)
        older["spec"]["versions"][0]["name"] = "v1"
        others = [each for each in self.ALL if not each.name.startswith("spiderips.")]
        (one,) = definition_findings([*others, msgspec.convert(older, CustomResourceDefinition)])
        assert one.check == "crd-missing"
        assert one.what.endswith("does not serve spiderpool.spidernet.io/v2beta1")

    def test_one_lacks_fields(self) -> None:
        older = crd(SpiderIP)
        fields = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        del fields["movedFrom"]
        others = [each for each in self.ALL if not each.name.startswith("spiderips.")]
        (one,) = definition_findings([*others, msgspec.convert(older, CustomResourceDefinition)])
        assert one.check == "crd-outdated"
        assert one.what.endswith(
            "it lacks spec.movedFrom, spec.movedFrom[].node, spec.movedFrom[].pod,"
            " spec.movedFrom[].podUID, spec.movedFrom[].recordVersion"
        )

    def test_kubernetes_is_too_old(self) -> None:
        old = replace(snapshot().installation, kubernetes="v1.29.9")
        assert [each.check for each in version_findings(old)] == ["kubernetes-too-old"]
        assert [*version_findings(replace(old, kubernetes="v1.30.0"))] == []
        assert [*version_findings(replace(old, kubernetes=None))] == []

    def test_a_daemon_is_of_another_version(self) -> None:
        assert [check for check, _ in found(daemon("9.9.9"))] == ["version-differs"]

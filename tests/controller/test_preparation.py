"""What an installation needs before the daemons run, with the rights of its Job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from spiderpool.controller import preparation
from spiderpool.controller.preparation import prepare
from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool.kube.client import Invalid
from spiderpool.settings import SettingsSource, controller_settings
from spiderpool_lab import chart
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.chart.combinations import POOLS, WALKTHROUGH
from tests.support.eventually import wait_until
from tests.support.job_account import job_account

pytestmark = pytest.mark.control_plane

OF_VALUES = ("SpiderCoordinator", "SpiderSubnet", "SpiderIPPool", "SpiderMultusConfig")
"""Kinds of the objects that values ask for."""
UNREACHABLE = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: spiderpool-controller}
webhooks:
- name: all.spiderpool.spidernet.io
  clientConfig: {url: "https://127.0.0.1:9/mutate"}
  failurePolicy: Fail
  timeoutSeconds: 10
  sideEffects: None
  admissionReviewVersions: [v1]
  rules: [{apiGroups: [spiderpool.spidernet.io], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: ["*"]}]
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own, whose custom resources are made and changed."""
    directory = tmp_path_factory.mktemp("preparation")
    plane = ControlPlane(directory, Processes(directory / "processes"))
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


class TestPreparation:
    async def prepare(self, plane: ControlPlane, tmp_path: Path, *values: str) -> None:
        """What the Job before an installation does, with the objects that the chart gives it."""
        (config,) = [
            each
            for each in chart.documents(chart.template("init.yaml", *(values or WALKTHROUGH)))
            if each["kind"] == "ConfigMap"
        ]
        file = tmp_path / "objects.yaml"
        file.write_text(config["data"]["objects.yaml"])
        account = job_account(plane, "init.yaml", "spiderpool-init", *values)
        env = {"KUBECONFIG": str(account), "SPIDERPOOL_INITIAL_OBJECTS": str(file)}
        await prepare(controller_settings(SettingsSource(env, {})))

    async def test_objects_are_made_once_and_left_alone_afterwards(self, plane: ControlPlane, tmp_path: Path) -> None:
        await self.prepare(plane, tmp_path, *WALKTHROUGH, *POOLS)
        assert "ipvlan-eth0" in plane.kubectl("get", "spidermultusconfigs", "-n", "kube-system")
        assert "default-v4-subnet" in plane.kubectl("get", "spidersubnets")
        assert "default-v4-ippool" in plane.kubectl("get", "spiderippools")
        edit = '{"spec": {"cniType": "ipvlan", "ipvlan": {"master": ["eth0"]}}}'
        plane.kubectl("patch", "spidermultusconfig", "ipvlan-eth0", "-n", "kube-system", "--type=merge", "-p", edit)
        await self.prepare(plane, tmp_path, *WALKTHROUGH, *POOLS)
        assert '"eth0"' in plane.kubectl("get", "spidermultusconfig", "ipvlan-eth0", "-n", "kube-system", "-o", "json")

    async def test_an_upgrade_does_not_need_the_controller_that_it_mends(
        self, plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.prepare(plane, tmp_path, *WALKTHROUGH, *POOLS)
        plane.apply(UNREACHABLE)
        for kind in OF_VALUES:
            wait_until(partial(self._is_refused, plane, kind), f"{kind} have a webhook", timeout=20.0)
        monkeypatch.setattr(preparation, "TIMEOUT", 20.0)
        try:
            await self.prepare(plane, tmp_path, *WALKTHROUGH, *POOLS)
        finally:
            plane.kubectl("delete", "mutatingwebhookconfiguration", "spiderpool-controller")

    def _is_refused(self, plane: ControlPlane, kind: str) -> bool:
        body = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": kind, "metadata": {"name": "tried"}}
        try:
            plane.kubectl("create", "-n", "kube-system", "--dry-run=server", "-f", "-", input=json.dumps(body))
        except SpiderpoolError as error:
            return "failed calling webhook" in error.message
        return False

    async def test_custom_resources_get_new_fields_and_keep_their_objects(
        self, plane: ControlPlane, tmp_path: Path
    ) -> None:
        await self.prepare(plane, tmp_path)
        crd = "spidercoordinators.spiderpool.spidernet.io"
        field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/vethMTU"
        plane.kubectl("patch", "crd", crd, "--type=json", "-p", json.dumps([{"op": "remove", "path": field}]))
        uid = plane.kubectl("get", "spidercoordinator", "default", "-o", "jsonpath={.metadata.uid}")
        await self.prepare(plane, tmp_path)
        assert "vethMTU" in plane.kubectl("get", "crd", crd, "-o", "json")
        assert plane.kubectl("get", "spidercoordinator", "default", "-o", "jsonpath={.metadata.uid}") == uid
        wait_until(lambda: self._takes_mtu(plane), "the field is served", timeout=20.0)

    def _takes_mtu(self, plane: ControlPlane) -> bool:
        try:
            plane.kubectl("patch", "spidercoordinator", "default", "--type=merge", "-p", '{"spec": {"vethMTU": 1400}}')
        except SpiderpoolError:
            return False
        return "1400" in plane.kubectl("get", "spidercoordinator", "default", "-o", "json")

    async def test_the_definition_of_another_project_is_left_as_it_is(
        self, plane: ControlPlane, tmp_path: Path
    ) -> None:
        await self.prepare(plane, tmp_path)
        crd = "network-attachment-definitions.k8s.cni.cncf.io"
        plane.kubectl("patch", "crd", crd, "--type=merge", "-p", '{"spec": {"names": {"shortNames": ["theirs"]}}}')
        await self.prepare(plane, tmp_path)
        assert "theirs" in plane.kubectl("get", "crd", crd, "-o", "json")

    async def test_an_object_that_is_refused_is_told(self, plane: ControlPlane, tmp_path: Path) -> None:
        await self.prepare(plane, tmp_path)
        plane.kubectl("delete", "spidercoordinator", "default")
        with pytest.raises(Invalid, match="mode"):
            await self._prepare_file(plane, tmp_path, "kind: SpiderCoordinator\nspec: {mode: sideways}")
        with pytest.raises(BadConfig, match="kind 'Pod' is none of"):
            await self._prepare_file(plane, tmp_path, "kind: Pod")

    async def _prepare_file(self, plane: ControlPlane, tmp_path: Path, text: str) -> None:
        file = tmp_path / "bad.yaml"
        file.write_text(f"apiVersion: spiderpool.spidernet.io/v2beta1\nmetadata: {{name: default}}\n{text}\n")
        env = {"KUBECONFIG": str(plane.admin_kubeconfig), "SPIDERPOOL_INITIAL_OBJECTS": str(file)}
        await prepare(controller_settings(SettingsSource(env, {})))

"""Where the coordinator's status comes from: the CNI directory, calico, cilium, ServiceCIDRs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from spiderpool.api.coordinator import ClusterCoordinatorSpec, SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap
from spiderpool.api.meta import FORMER_FINALIZER, ObjectMeta
from spiderpool.controller.cidr_detection import CIDRDetector, CIDRSources, ServiceCIDR
from spiderpool.controller.coordinator import CoordinatorListers, CoordinatorReconciler
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.go_build import kubernetes_minor
from spiderpool_lab.topology import POD_CIDR, POD_CIDR6, SERVICE_CIDR, SERVICE_CIDR6
from tests.controller.conftest import Running
from tests.controller.test_cidr_detection import conflist
from tests.support.clients import answered_by
from tests.support.eventually import eventually

PATIENCE = 8.0


KUBEADM = "networking: {podSubnet: 10.1.0.0/16, serviceSubnet: 10.2.0.0/16}"


async def status_on(
    lists: dict[str, Any], kind: str = "cluster", cilium: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The status that a controller writes on a cluster which serves these lists, by path, and nothing else."""
    written: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.Response:
        if request.method == "PATCH" and not written.done():
            written.set_result((await request.json())["status"])
        if request.path.endswith("/kubeadm-config"):
            return web.json_response({"metadata": {}, "data": {"ClusterConfiguration": KUBEADM}})
        if request.path.endswith("/cilium-config") and cilium:
            return web.json_response(cilium)
        if request.path not in lists:
            return web.json_response({"code": 404}, status=404 if request.method == "GET" else 200)
        return web.json_response({"metadata": {}, "items": lists[request.path]})

    async with answered_by(answer) as client:
        coordinators = Informer(client, SpiderCoordinator)
        spec = ClusterCoordinatorSpec(podCIDRType=kind)
        metadata = ObjectMeta(name="default", resourceVersion="1")
        coordinators.note(SpiderCoordinator(metadata=metadata, spec=spec))
        detector = CIDRDetector(client, CIDRSources(Path("/nowhere"), "kube-system/cilium-config"))
        listers = CoordinatorListers(coordinators, Informer(client, ConfigMap), Informer(client, ServiceCIDR))
        work = CoordinatorReconciler(client, listers, Recorder(client, "test"), detector, default="default")
        task = asyncio.create_task(work.run())
        try:
            async with asyncio.timeout(5):
                return await written
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def service_cidr(made: str, *cidrs: str, **metadata: str) -> dict[str, Any]:
    return {"metadata": {"name": made, "creationTimestamp": made, **metadata}, "spec": {"cidrs": list(cidrs)}}


@pytest.mark.unit
class TestServiceCIDRs:
    """A server of each version; a real one has a range of its own, and serves one version of the kind."""

    @pytest.mark.parametrize("version", ["v1", "v1beta1"])
    async def test_they_go_before_what_kubeadm_left_behind(self, version: str) -> None:
        items = [
            service_cidr("2026-01-02T00:00:00Z", "10.4.0.0/16"),
            service_cidr("2026-01-01T00:00:00Z", "10.3.0.0/16", "fd03::/108"),
            service_cidr("2026-01-03T00:00:00Z", "10.5.0.0/16", deletionTimestamp="2026-01-04T00:00:00Z"),
        ]
        status = await status_on({f"/apis/networking.k8s.io/{version}/servicecidrs": items})
        assert status["serviceCIDR"] == ["10.3.0.0/16", "fd03::/108", "10.4.0.0/16", "10.5.0.0/16"]
        assert (status["phase"], status["overlayPodCIDR"]) == ("Synced", ["10.1.0.0/16"])

    async def test_without_them_kubeadm_tells(self) -> None:
        assert (await status_on({}))["serviceCIDR"] == ["10.2.0.0/16"]
        assert (await status_on({"/apis/networking.k8s.io/v1/servicecidrs": []}))["serviceCIDR"] == ["10.2.0.0/16"]


def calico_pool(made: str, cidr: str, *, disabled: bool = False, **metadata: str) -> dict[str, Any]:
    return {
        "metadata": {"name": made, "creationTimestamp": made, **metadata},
        "spec": {"cidr": cidr, "disabled": disabled},
    }


@pytest.mark.unit
class TestPodCIDRsInUse:
    """Pools that give no new addresses still have pods."""

    @pytest.mark.parametrize("kind", ["calico", "auto"])
    async def test_calicos_disabled_pools(self, kind: str) -> None:
        path = "/apis/crd.projectcalico.org/v1/ippools"
        disabled = calico_pool("2026-01-01T00:00:00Z", "10.101.0.0/16", disabled=True)
        status = await status_on({path: [disabled]}, kind)
        assert (status["phase"], status["overlayPodCIDR"]) == ("Synced", ["10.101.0.0/16"])
        others = [
            calico_pool("2026-01-03T00:00:00Z", "10.102.0.0/16", deletionTimestamp="2026-01-04T00:00:00Z"),
            calico_pool("2026-01-02T00:00:00Z", "10.100.0.0/16"),
        ]
        status = await status_on({path: [*others, disabled]}, kind)
        assert status["overlayPodCIDR"] == ["10.101.0.0/16", "10.100.0.0/16", "10.102.0.0/16"]
        status = await status_on({path: []}, "calico")
        assert (status["phase"], status["reason"].partition(";")[0]) == ("NotReady", "calico has no IPPool")

    async def test_ciliums_pools_that_are_being_deleted(self) -> None:
        config = {"metadata": {}, "data": {"ipam": "multi-pool"}}
        pool = {
            "metadata": {"name": "p", "deletionTimestamp": "2026-01-04T00:00:00Z"},
            "spec": {"ipv4": {"cidrs": ["10.110.0.0/16"]}, "ipv6": {"cidrs": ["fd11::/104"]}},
        }
        objects = {"/apis/cilium.io/v2alpha1/ciliumpodippools": [pool]}
        status = await status_on(objects, "cilium", config)
        assert status["overlayPodCIDR"] == ["10.110.0.0/16", "fd11::/104"]


CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.{group}}}
spec:
  group: {group}
  names: {{kind: {kind}, plural: {plural}}}
  scope: Cluster
  versions:
  - name: {version}
    served: true
    storage: true
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"""
CALICO = CRD.format(group="crd.projectcalico.org", version="v1", kind="IPPool", plural="ippools")
CILIUM = CRD.format(group="cilium.io", version="v2alpha1", kind="CiliumPodIPPool", plural="ciliumpodippools")
SERVED = (CALICO, CILIUM)
HELD = '{"metadata": {"finalizers": ["example.com/in-use"]}}'
FREE = '{"metadata": {"finalizers": null}}'


@pytest.fixture(scope="module")
def foreign_kinds(control_plane: ControlPlane) -> Iterator[None]:
    """The kinds of calico and cilium."""
    names = ("ippools.crd.projectcalico.org", "ciliumpodippools.cilium.io")
    control_plane.apply(*SERVED)
    control_plane.kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in names), "--timeout=30s")
    yield
    control_plane.kubectl("delete", "crd", *names)


@pytest.fixture
async def probe(client: Client) -> AsyncIterator[str]:
    """A coordinator beside the default one."""
    spec = ClusterCoordinatorSpec(podCIDRType="none")
    await client.create(SpiderCoordinator(metadata=ObjectMeta(name="probe"), spec=spec))
    yield "probe"
    await client.delete(SpiderCoordinator, "probe")


async def look(client: Client, kind: str, *pod_cidrs: str, reason: str = "") -> None:
    """Set podCIDRType and wait for the status. A pause in between, so that it is looked at anew."""
    await client.patch(SpiderCoordinator, "probe", {"spec": {"podCIDRType": "none"}})
    await client.patch(SpiderCoordinator, "probe", {"spec": {"podCIDRType": kind}})

    async def as_expected() -> bool:
        status = (await client.get(SpiderCoordinator, "probe")).status
        if status is None:
            return False
        if reason:
            return status.phase == "NotReady" and reason in (status.reason or "")
        return (
            status.phase == "Synced"
            and status.overlayPodCIDR == list(pod_cidrs)
            and status.serviceCIDR == [SERVICE_CIDR, SERVICE_CIDR6]
        )

    await eventually(as_expected, timeout=PATIENCE)


def made(kind: str, api_version: str, name: str, spec: str) -> str:
    return f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


@pytest.mark.control_plane
@pytest.mark.usefixtures("controller", "probe", "foreign_kinds")
class TestSources:
    async def test_none_and_cluster(self, client: Client) -> None:
        await look(client, "cluster", POD_CIDR, POD_CIDR6)
        await look(client, "none")

    @pytest.mark.skipif(kubernetes_minor() < "1.33", reason="networking.k8s.io/v1 has ServiceCIDRs from 1.33 on")
    async def test_service_cidrs_that_are_added_and_removed_count_within_seconds(
        self, client: Client, control_plane: ControlPlane
    ) -> None:
        async def are_known(*more: str) -> bool:
            status = (await client.get(SpiderCoordinator, "probe")).status
            return status is not None and status.serviceCIDR == [SERVICE_CIDR, SERVICE_CIDR6, *more]

        await eventually(are_known, timeout=PATIENCE)
        control_plane.apply(made("ServiceCIDR", "networking.k8s.io/v1", "more", "{cidrs: [10.99.0.0/24]}"))
        try:
            await eventually(partial(are_known, "10.99.0.0/24"), timeout=PATIENCE)
        finally:
            control_plane.kubectl("delete", "servicecidrs", "more")
        await eventually(are_known, timeout=PATIENCE)

    async def test_one_with_the_finalizer_of_a_former_version_can_be_deleted(self, client: Client) -> None:
        metadata = ObjectMeta(name="former", finalizers=[FORMER_FINALIZER])
        await client.create(SpiderCoordinator(metadata=metadata, spec=ClusterCoordinatorSpec(podCIDRType="none")))
        await client.delete(SpiderCoordinator, "former")

        async def gone() -> bool:
            return await client.find(SpiderCoordinator, "former") is None

        await eventually(gone, timeout=PATIENCE)

    async def test_calico(self, client: Client, control_plane: ControlPlane) -> None:
        await look(client, "calico", reason="calico has no IPPool")
        pools = "ippools.crd.projectcalico.org"
        switched_off = made("IPPool", "crd.projectcalico.org/v1", "a", "{cidr: 10.101.0.0/16, disabled: true}")
        control_plane.apply(switched_off)
        await look(client, "calico", "10.101.0.0/16")  # its pods run on
        await asyncio.sleep(1.1)  # creation times have whole seconds
        control_plane.apply(made("IPPool", "crd.projectcalico.org/v1", "b", "{cidr: 10.100.0.0/16}"))
        await look(client, "calico", "10.101.0.0/16", "10.100.0.0/16")
        control_plane.kubectl("patch", pools, "a", "--type=merge", "-p", HELD)
        control_plane.kubectl("delete", pools, "--all", "--wait=false")
        await look(client, "calico", "10.101.0.0/16")  # until the last one has ended
        control_plane.kubectl("patch", pools, "a", "--type=merge", "-p", FREE)

    async def test_cilium(self, client: Client, control_plane: ControlPlane) -> None:
        config = ConfigMap(metadata=ObjectMeta(name="cilium-config", namespace="kube-system"))
        await look(client, "cilium", reason="kube-system/cilium-config names no pod CIDR")
        await client.create(config)
        control_plane.apply(
            made(
                "CiliumPodIPPool",
                "cilium.io/v2alpha1",
                "p",
                "{ipv4: {cidrs: [10.110.0.0/16]}, ipv6: {cidrs: [fd11::/104]}}",
            ),
        )
        try:
            for data, cidrs in (
                (
                    {
                        "ipam": "cluster-pool",
                        "cluster-pool-ipv4-cidr": "10.120.0.0/16",
                        "cluster-pool-ipv6-cidr": "fd12::/104",
                    },
                    ("10.120.0.0/16", "fd12::/104"),
                ),
                ({"ipam": "multi-pool"}, ("10.110.0.0/16", "fd11::/104")),
                ({"ipam": "kubernetes"}, (POD_CIDR, POD_CIDR6)),
            ):
                await client.patch(ConfigMap, config.name, {"data": data}, "kube-system")
                await look(client, "cilium", *cidrs)
            await client.patch(ConfigMap, config.name, {"data": {"ipam": "eni"}}, "kube-system")
            await look(client, "cilium", reason="IPAM mode eni")
        finally:
            await client.delete(ConfigMap, config.name, "kube-system")
            control_plane.kubectl("delete", "ciliumpodippools", "--all")

    async def test_auto_reads_the_directory_of_the_node(
        self, client: Client, control_plane: ControlPlane, controller: Running
    ) -> None:
        directory = controller.log.parent / "net.d"
        control_plane.apply(made("IPPool", "crd.projectcalico.org/v1", "a", "{cidr: 10.100.0.0/16}"))
        try:
            await look(client, "auto", "10.100.0.0/16")
            directory.mkdir()
            await look(client, "auto")
            (directory / "10-calico.conflist").write_text(conflist("k8s-pod-network", "calico"))
            await look(client, "auto", "10.100.0.0/16")
            (directory / "05-flannel.conflist").write_text(conflist("cbr0", "flannel"))
            await look(client, "auto", POD_CIDR, POD_CIDR6)
            (directory / "01-broken.conf").write_text("{")
            await look(client, "auto", reason="01-broken.conf")
        finally:
            for path in directory.glob("*"):
                path.unlink()
            directory.rmdir()
            control_plane.kubectl("delete", "ippools.crd.projectcalico.org", "--all")

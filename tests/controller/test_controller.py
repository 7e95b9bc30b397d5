"""What users and agents see of the controller, against a real API server and under its own roles."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Pod
from spiderpool.api.ip import IP_NODE_LABEL, IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import POOL_CIDR_LABEL, POOL_NODE_LABEL, IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import FINALIZER, ObjectMeta
from spiderpool.api.multusconfig import NAD_NAME_ANNOTATION, SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.addresses import object_name
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, Conflict, Invalid, NotFound
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.topology import POD_CIDR, POD_CIDR6, SERVICE_CIDR, SERVICE_CIDR6
from tests.controller.conftest import Running
from tests.support.eventually import eventually

API_VERSION = SpiderIPPool.KIND.api_version

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]

C = '{"txQueueLen":0,"tunePodRoutes":true,"mode":"auto","type":"coordinator"}'


def pool(name: str, subnet: str, *ips: str, **spec: Any) -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(subnet=subnet, ips=list(ips), **spec))


def holder(address: str, of: str, pod: str = "nobody", uid: str = "u", namespace: str = "default") -> SpiderIP:
    return SpiderIP(
        metadata=ObjectMeta(name=object_name(address), labels={IP_POOL_LABEL: of, IP_NODE_LABEL: "n1"}),
        spec=IPSpec(f"{address}/24", of, "n1", namespace, pod, uid, "eth0"),
    )


async def make_pod(client: Client, name: str) -> Pod:
    """A pod that no scheduler places: it stays Pending, alive."""
    body = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]},
    }
    return await client.apply(Pod, body, name, "default")


def _count(of: SpiderIPPool) -> int | None:
    return of.status.allocatedIPCount if of.status else None


async def exists(client: Client, ip: SpiderIP) -> bool:
    try:
        return (await client.get(SpiderIP, ip.name)).metadata.uid == ip.metadata.uid
    except NotFound:
        return False


def smc(name: str, spec: str, annotations: str = "{}") -> str:
    return f"""
apiVersion: {API_VERSION}
kind: SpiderMultusConfig
metadata: {{name: {name}, namespace: default, annotations: {annotations}}}
spec: {spec}
"""


IPVLAN = "{cniType: ipvlan, ipvlan: {master: [eth1], ippools: {ipv4: [pool-1]}}}"


async def plugins_of(client: Client, name: str) -> str | None:
    try:
        stored = await client.get(NetworkAttachmentDefinition, name, "default")
    except NotFound:
        return None
    return stored.spec.config if stored.spec else None


class TestAdmission:
    @pytest.mark.parametrize(
        ("manifest", "field", "remedy"),
        [
            ("SpiderIPPool; {subnet: 10.9.0.0/16, ips: [10.9.0.1, 10.9.0.9-10.9.0.1]}", "spec.ips[1]", "reversed"),
            ("SpiderIPPool; {subnet: 10.9.0.7/16}", "spec.subnet", "write 10.9.0.0/16"),
            ("SpiderIPPool; {subnet: 10.9.0.0/16, gateway: 10.8.0.1}", "spec.gateway", "10.9.0.0/16"),
            ("SpiderIPPool; {subnet: 10.9.0.0/16, ips: 7}", "spec.ips", "must be of type array"),
            ("SpiderCoordinator; {mode: auto}", "spec.podCIDRType", "write one of auto"),
            ("SpiderMultusConfig; {cniType: ipvlan, ipvlan: {master: []}}", "spec.ipvlan.master", "name the NIC"),
        ],
    )
    def test_a_wrong_manifest_is_refused_and_names_the_field(
        self, control_plane: ControlPlane, manifest: str, field: str, remedy: str
    ) -> None:
        kind, _, spec = manifest.partition("; ")
        document = f"apiVersion: {API_VERSION}\nkind: {kind}\nmetadata: {{name: wrong}}\nspec: {spec}\n"
        with pytest.raises(SpiderpoolError) as refused:
            control_plane.kubectl("create", "--validate=false", "-f", "-", input=document)
        assert field in refused.value.message
        assert remedy in refused.value.message

    async def test_a_pool_gets_its_defaults_and_keeps_what_is_not_ours(self, client: Client) -> None:
        wanted = pool("defaults", "10.1.0.0/16", "10.1.0.3", "10.1.0.1-10.1.0.2", nodeName=["node-1"])
        wanted.metadata.labels = {"team/x": "a"}
        made = await client.create(wanted)
        assert made.spec.ips == ["10.1.0.1-10.1.0.3"]
        assert made.spec.ipVersion == 4
        assert made.metadata.finalizers == [FINALIZER]
        assert made.metadata.labels == {"team/x": "a", POOL_CIDR_LABEL: "10-1-0-0-16", POOL_NODE_LABEL: "node-1"}

    async def test_overlapping_pools_made_in_one_breath_are_refused(self, client: Client) -> None:
        await client.create(pool("first", "10.2.0.0/16", "10.2.0.1-10.2.0.9"))
        with pytest.raises(Invalid, match=r"spec\.ips: .*pool first has 10\.2\.0\.9 as well"):
            await client.create(pool("second", "10.2.0.0/16", "10.2.0.9-10.2.0.20"))

    async def test_an_address_in_use_is_not_taken_away(self, client: Client) -> None:
        await make_pod(client, "user")
        user = await client.get(Pod, "user", "default")
        await client.create(pool("used", "10.3.0.0/16", "10.3.0.1-10.3.0.9"))
        await client.create(holder("10.3.0.5", "used", "user", user.metadata.uid or ""))
        with pytest.raises(Invalid, match=r"spec\.ips: .*10\.3\.0\.5 \(pod default/user\)"):
            await client.patch(SpiderIPPool, "used", {"spec": {"ips": ["10.3.0.1-10.3.0.4"]}})
        await client.patch(SpiderIPPool, "used", {"spec": {"ips": ["10.3.0.5-10.3.0.6"]}})


class TestPools:
    async def test_the_status_follows_the_records(self, client: Client) -> None:
        await client.create(pool("status", "10.4.0.0/16", "10.4.0.1-10.4.0.100", excludeIPs=["10.4.0.50"]))
        pod = await make_pod(client, "status")
        uid = pod.metadata.uid or ""
        made = [await client.create(holder(f"10.4.0.{n}", "status", "status", uid)) for n in range(1, 41)]

        async def status_is(status: IPPoolStatus) -> bool:
            found = (await client.get(SpiderIPPool, "status")).status
            return found is not None and replace(found, conditions=None) == status

        view = json.dumps(
            dict(sorted((f"10.4.0.{n}", {"pod": "default/status", "podUid": uid}) for n in range(1, 41))),
            separators=(",", ":"),
        )
        await eventually(lambda: status_is(IPPoolStatus(view, 99, 40, ["10.4.0.1-10.4.0.40"])))
        await asyncio.gather(*(client.delete(SpiderIP, each.name) for each in made))
        await eventually(lambda: status_is(IPPoolStatus(None, 99, 0, [])))

    async def test_a_burst_costs_few_writes(self, client: Client) -> None:
        await client.create(pool("burst", "10.7.0.0/16", "10.7.0.1-10.7.0.250"))
        pod = await make_pod(client, "burst")
        pools = Informer(client, SpiderIPPool)
        writes: list[int | None] = []
        pools.subscribe(lambda _, new: writes.append(_count(new)) if new and new.name == "burst" else None)
        watching = asyncio.create_task(pools.run())
        try:
            await pools.synced(5)
            holders = [holder(f"10.7.0.{n}", "burst", "burst", pod.metadata.uid or "") for n in range(1, 201)]
            await asyncio.gather(*map(client.create, holders))

            async def complete() -> bool:
                return writes[-1] == 200

            await eventually(complete)
            assert len(writes) < len(holders) / 2
        finally:
            watching.cancel()

    async def test_a_deleted_pool_goes_when_its_last_address_does(self, client: Client) -> None:
        await client.create(pool("leaving", "10.5.0.0/16", "10.5.0.1"))
        pod = await make_pod(client, "leaving")
        await client.create(holder("10.5.0.1", "leaving", "leaving", pod.metadata.uid or ""))
        await client.delete(SpiderIPPool, "leaving")

        async def one_in_use() -> bool:
            leaving = await client.get(SpiderIPPool, "leaving")
            return leaving.terminating and leaving.status is not None and leaving.status.allocatedIPCount == 1

        async def gone() -> bool:
            return "leaving" not in {each.name for each in await client.list(SpiderIPPool)}

        await eventually(one_in_use)
        await client.delete(SpiderIP, "10.5.0.1")
        await eventually(gone)


class TestNetworks:
    async def test_a_network_gets_its_attachment_which_is_repaired_and_renamed(
        self, client: Client, control_plane: ControlPlane
    ) -> None:
        control_plane.apply(smc("net", IPVLAN, f"{{{NAD_NAME_ANNOTATION}: other}}"))
        ipam = '{"type":"spiderpool","default_ipv4_ippool":["pool-1"]}'
        plugin = f'{{"type":"ipvlan","master":"eth1","mtu":0,"ipam":{ipam}}}'

        def config(name: str) -> str:
            return f'{{"cniVersion":"0.3.1","name":"{name}","plugins":[{plugin},{C}]}}'

        async def is_right(name: str) -> bool:
            return await plugins_of(client, name) == config(name)

        await eventually(lambda: is_right("other"))
        body = {"spec": {"config": "{}"}, "metadata": {"annotations": {"tool": "kept"}}}
        await client.patch(NetworkAttachmentDefinition, "other", body, "default")
        await eventually(lambda: is_right("other"))
        stored = await client.get(NetworkAttachmentDefinition, "other", "default")
        assert (stored.metadata.annotations or {})["tool"] == "kept"
        await client.delete(NetworkAttachmentDefinition, "other", "default")
        await eventually(lambda: is_right("other"))

        annotations = {"metadata": {"annotations": {NAD_NAME_ANNOTATION: None}}}
        await client.patch(SpiderMultusConfig, "net", annotations, "default")
        await eventually(lambda: is_right("net"))

        async def former_gone() -> bool:
            return await plugins_of(client, "other") is None

        await eventually(former_gone)

    async def test_an_attachment_without_owner_is_adopted(self, client: Client, control_plane: ControlPlane) -> None:
        await client.create(NetworkAttachmentDefinition(metadata=ObjectMeta(name="orphan", namespace="default")))
        control_plane.apply(smc("orphan", IPVLAN))

        async def adopted() -> bool:
            stored = await client.get(NetworkAttachmentDefinition, "orphan", "default")
            owners = stored.metadata.ownerReferences or []
            return [owner.name for owner in owners] == ["orphan"] and bool(stored.spec and stored.spec.config)

        await eventually(adopted)

    async def test_the_name_of_another_network_is_refused(self, client: Client, control_plane: ControlPlane) -> None:
        control_plane.apply(smc("taken", IPVLAN))

        async def made() -> bool:
            return await plugins_of(client, "taken") is not None

        await eventually(made)
        with pytest.raises(SpiderpoolError, match=r"belongs to SpiderMultusConfig taken"):
            control_plane.apply(smc("thief", IPVLAN, f"{{{NAD_NAME_ANNOTATION}: taken}}"))


class TestCoordinator:
    async def test_the_default_one_exists_and_knows_the_clusters_networks(self, client: Client) -> None:
        async def synced() -> bool:
            coordinator = await client.get(SpiderCoordinator, "default")
            return coordinator.status is not None and coordinator.status.phase == "Synced"

        await eventually(synced)
        status = (await client.get(SpiderCoordinator, "default")).status
        assert status is not None
        assert status.overlayPodCIDR == [POD_CIDR, POD_CIDR6]
        assert status.serviceCIDR == [SERVICE_CIDR, SERVICE_CIDR6]

    async def test_it_says_what_to_set_when_the_cluster_says_nothing(self, client: Client) -> None:
        config = await client.get(ConfigMap, "kubeadm-config", "kube-system")
        before = (config.data or {})["ClusterConfiguration"]

        async def phase_is(phase: str) -> bool:
            status = (await client.get(SpiderCoordinator, "default")).status
            reason = (status and status.reason) or ""
            return (
                status is not None
                and status.phase == phase
                and ("podCIDRType to none" in reason) == (phase != "Synced")
            )

        try:
            await client.patch(ConfigMap, config.name, {"data": {"ClusterConfiguration": "{}"}}, "kube-system")
            await eventually(lambda: phase_is("NotReady"))
        finally:
            await client.patch(ConfigMap, config.name, {"data": {"ClusterConfiguration": before}}, "kube-system")
        await eventually(lambda: phase_is("Synced"))

    async def test_a_deleted_one_comes_back(self, client: Client) -> None:
        before = await client.get(SpiderCoordinator, "default")
        await client.delete(SpiderCoordinator, "default")

        async def another() -> bool:
            found = [each.metadata.uid for each in await client.list(SpiderCoordinator)]
            return bool(found) and before.metadata.uid not in found

        await eventually(another)


class TestCollector:
    async def test_an_orphan_is_released_and_a_live_pods_address_never(self, client: Client) -> None:
        pod = await make_pod(client, "alive")
        kept = await client.create(holder("10.6.0.1", "any", "alive", pod.metadata.uid or ""))
        reporter = await make_pod(client, "reporter")
        await client.patch(Pod, reporter.name, {"status": {"podIPs": [{"ip": "10.6.0.2"}]}}, "default", sub="status")
        reported = await client.create(holder("10.6.0.2", "any", "another-name", "another-uid"))
        orphan = await client.create(holder("10.6.0.3", "any"))
        replaced = await client.create(holder("10.6.0.4", "any", "alive", "an-earlier-uid"))

        async def released() -> bool:
            return not await exists(client, orphan) and not await exists(client, replaced)

        await eventually(released)
        assert await exists(client, kept)
        assert await exists(client, reported)

        await client.delete(Pod, "reporter", "default")

        async def follows() -> bool:
            return not await exists(client, reported)

        await eventually(follows)

    async def test_a_release_that_means_an_earlier_record_does_nothing(self, client: Client) -> None:
        pod = await make_pod(client, "successor")
        earlier = await client.create(holder("10.6.0.9", "any", "successor", pod.metadata.uid or ""))
        await client.delete(SpiderIP, earlier.name)
        later = await client.create(holder("10.6.0.9", "any", "successor", pod.metadata.uid or ""))
        with pytest.raises(Conflict):
            await client.delete(SpiderIP, earlier.name, uid=earlier.metadata.uid)
        assert await exists(client, later)


def test_it_runs_without_being_forbidden_anything(controller: Running) -> None:
    assert "is forbidden: User" not in controller.log.read_text()  # events of a namespace that ends are refused, too

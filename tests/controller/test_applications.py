"""Pools that applications get from subnets, against a real API server and under our own roles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from spiderpool.api.applications import WORKLOADS, Deployment
from spiderpool.api.core_v1 import Event, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.controller.applications import ApplicationListers, ApplicationPoolReconciler
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.subnet_addresses import pool_addresses
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from tests.controller.subnet_objects import LABEL, PATIENCE, hold, make_subnet
from tests.support.eventually import eventually

pytestmark = [pytest.mark.control_plane, pytest.mark.usefixtures("controller")]

APP_NAMESPACE = f"{LABEL}owner-application-namespace"


def workload(kind: str, name: str, namespace: str, annotations: dict[str, str], **spec: Any) -> str:
    """The manifest of a workload whose pods no scheduler places."""
    group = "batch/v1" if kind == "Job" else "apps/v1"
    template = {
        "metadata": {"annotations": annotations, "labels": {"app": name}},
        "spec": {
            "schedulerName": "nobody",
            "restartPolicy": "Never" if kind == "Job" else "Always",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "i"}],
        },
    }
    selector = {} if kind == "Job" else {"selector": {"matchLabels": {"app": name}}}
    service = {"serviceName": name} if kind == "StatefulSet" else {}
    body = {
        "apiVersion": group,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": template, **selector, **service, **spec},
    }
    return yaml.safe_dump(body)


def cron_job(name: str, namespace: str, annotations: dict[str, str]) -> str:
    """The manifest of a CronJob that is never due."""
    body = yaml.safe_load(workload("Job", name, namespace, annotations))
    schedule = {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": body["spec"]}}
    return yaml.safe_dump(body | {"kind": "CronJob", "spec": schedule})


def asking(subnet: str, number: str | None = None, **more: str) -> dict[str, str]:
    wanted = {f"{LABEL}subnet": json.dumps({"ipv4": [subnet]})}
    return wanted | ({f"{LABEL}ippool-ip-number": number} if number else {}) | more


async def pools_of(client: Client, namespace: str) -> list[SpiderIPPool]:
    pools = await client.list(SpiderIPPool, labels=f"{APP_NAMESPACE}={namespace}")
    return sorted(pools, key=lambda pool: pool.name)


def ranges(pool: SpiderIPPool) -> list[str]:
    return pool_addresses(pool, pool.spec.ipVersion or 4).ranges()


async def events(client: Client, namespace: str, reason: str) -> list[str]:
    found = await client.list(Event, namespace, fields=f"reason={reason}")
    return [event.message for event in found]


class Watching:
    """Looks at an application's pools until they are as they should be."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._seen: object = None

    async def shows(self, *expected: list[str]) -> list[SpiderIPPool]:
        """Wait until the pools, by name, hold these ranges."""

        async def as_expected() -> bool:
            pools = await pools_of(self._client, self._namespace)
            self._seen = [ranges(pool) for pool in pools if not pool.terminating]
            return self._seen == list(expected)

        try:
            await eventually(as_expected, timeout=PATIENCE)
        except TimeoutError:
            pytest.fail(f"expected {expected}, last seen {self._seen}")
        return await pools_of(self._client, self._namespace)


class TestApplications:
    async def test_a_deployment_gets_a_pool_of_each_family_which_follow_its_size(
        self, client: Client, namespace: str, control_plane: ControlPlane
    ) -> None:
        await make_subnet(client, "s42", "10.42.0.0/16", "10.42.0.1-10.42.0.50", gateway="10.42.255.254")
        await make_subnet(client, "s42v6", "fd42::/64", "fd42::1-fd42::50")
        both = {f"{LABEL}subnet": '{"ipv4":["s42"],"ipv6":["s42v6"]}', f"{LABEL}ippool-ip-number": "+2"}
        control_plane.apply(workload("Deployment", "web", namespace, both, replicas=2))
        watching = Watching(client, namespace)
        four, six = await watching.shows(["10.42.0.1-10.42.0.4"], ["fd42::1-fd42::4"])
        deployment = await client.get(Deployment, "web", namespace)
        uid = deployment.metadata.uid or ""
        suffix = uid.rpartition("-")[2][:5]
        assert (four.name, six.name) == (f"auto4-web-eth0-{suffix}", f"auto6-web-eth0-{suffix}")
        assert four.metadata.labels == {
            f"{LABEL}owner-spider-subnet": "s42",
            f"{LABEL}owner-application-gv": "apps_v1",
            f"{LABEL}owner-application-kind": "Deployment",
            f"{LABEL}owner-application-namespace": namespace,
            f"{LABEL}owner-application-name": "web",
            f"{LABEL}owner-application-uid": uid,
            f"{LABEL}interface": "eth0",
            f"{LABEL}ip-version": "IPv4",
            f"{LABEL}ippool-reclaim": "true",
            f"{LABEL}ippool-cidr": "10-42-0-0-16",
        }
        assert four.metadata.annotations == {f"{LABEL}ippool-ip-number": "+2"}
        assert [owner.name for owner in four.metadata.ownerReferences or ()] == ["s42"]
        assert (four.spec.gateway, six.spec.gateway) == ("10.42.255.254", None)

        await self._scale(client, namespace, 5)
        four, _ = await watching.shows(["10.42.0.1-10.42.0.7"], ["fd42::1-fd42::7"])
        held = [await hold(client, four, f"10.42.0.{n}", namespace) for n in (1, 3, 4, 5, 6)]
        await self._scale(client, namespace, 1)
        await watching.shows(["10.42.0.1-10.42.0.7"], ["fd42::5-fd42::7"])
        for each in held[:2]:
            await client.delete(SpiderIP, each.name)
        await watching.shows(["10.42.0.4-10.42.0.6"], ["fd42::5-fd42::7"])

        async def counted() -> bool:
            status = (await client.get(SpiderSubnet, "s42")).status
            shares = json.loads((status and status.controlledIPPools) or "{}")
            application = f"apps_v1_Deployment_{namespace}_web"
            return bool(shares == {four.name: {"ips": ["10.42.0.4-10.42.0.6"], "application": application}})

        await eventually(counted, timeout=PATIENCE)
        await client.delete(Deployment, "web", namespace)

        async def waits_for_its_pods() -> bool:
            pools = await pools_of(client, namespace)
            return [(pool.name, pool.terminating) for pool in pools] == [(four.name, True)]

        await eventually(waits_for_its_pods, timeout=PATIENCE)
        for each in held[2:]:
            await client.delete(SpiderIP, each.name)

        async def gone() -> bool:
            return not await pools_of(client, namespace)

        await eventually(gone, timeout=PATIENCE)

    async def _scale(self, client: Client, namespace: str, replicas: int) -> None:
        await client.patch(Deployment, "web", {"spec": {"replicas": replicas}}, namespace)

    async def test_workloads_of_every_kind_get_pools_for_each_interface_that_end_with_them(
        self, client: Client, namespace: str, control_plane: ControlPlane
    ) -> None:
        await make_subnet(client, "s43", "10.43.0.0/16", "10.43.0.1-10.43.0.50")
        await make_subnet(client, "s43b", "10.143.0.0/16", "10.143.0.1-10.143.0.50")
        several = {f"{LABEL}subnets": '[{"interface":"eth0","ipv4":["s43"]},{"interface":"net1","ipv4":["s43b"]}]'}
        control_plane.apply(
            workload("StatefulSet", "sts", namespace, several | {f"{LABEL}ippool-ip-number": "3"}, replicas=1),
            workload("ReplicaSet", "rs", namespace, asking("s43"), replicas=2),
            workload("DaemonSet", "ds", namespace, asking("s43", "+2")),
            workload("Job", "job", namespace, asking("s43"), completions=4, parallelism=2),
            cron_job("cj", namespace, asking("s43")),
        )

        async def sizes() -> bool:
            found = {_place(pool): pool_addresses(pool, 4).size for pool in await pools_of(client, namespace)}
            wanted = {"sts/eth0": 3, "sts/net1": 3, "rs/eth0": 3, "ds/eth0": 2, "job/eth0": 5, "cj/eth0": 2}
            return found == wanted

        await eventually(sizes, timeout=PATIENCE)
        pools = await pools_of(client, namespace)
        assert _disjoint(pools)
        assert len({pool.name for pool in pools}) == 6
        workloads = ("statefulset/sts", "replicaset/rs", "daemonset/ds", "job/job", "cronjob/cj")
        control_plane.kubectl("delete", *workloads, "-n", namespace)
        await Watching(client, namespace).shows()

    async def test_many_at_once_share_nothing(
        self, client: Client, namespace: str, control_plane: ControlPlane
    ) -> None:
        await make_subnet(client, "s44", "10.44.0.0/16", "10.44.0.1-10.44.0.60")
        manifests = [workload("Deployment", f"d{n:02}", namespace, asking("s44", "2")) for n in range(30)]
        control_plane.apply("\n---\n".join(manifests))

        async def all_served() -> bool:
            pools = await pools_of(client, namespace)
            return [pool_addresses(pool, 4).size for pool in pools] == [2] * 30

        await eventually(all_served, timeout=30)
        assert _disjoint(await pools_of(client, namespace))

    async def test_too_few_addresses_are_told_and_made_up_for_later(
        self, client: Client, namespace: str, control_plane: ControlPlane
    ) -> None:
        await make_subnet(client, "s45", "10.45.0.0/16", "10.45.0.1-10.45.0.6", excludeIPs=["10.45.0.2"])
        await client.create(SpiderReservedIP(metadata=ObjectMeta(name="r45"), spec=ReservedIPSpec(4, ["10.45.0.4"])))
        control_plane.apply(workload("Deployment", "big", namespace, asking("s45", "5")))
        watching = Watching(client, namespace)
        (pool,) = await watching.shows(["10.45.0.1", "10.45.0.3", "10.45.0.5-10.45.0.6"])

        async def told() -> bool:
            return any("4 of 5" in message for message in await events(client, namespace, "SubnetExhausted"))

        await eventually(told, timeout=PATIENCE)
        ips = {"spec": {"ips": ["10.45.0.1-10.45.0.9"]}}
        await client.patch(SpiderSubnet, "s45", ips)
        await watching.shows(["10.45.0.1", "10.45.0.3", "10.45.0.5-10.45.0.7"])
        await hold(client, pool, "10.45.0.5", namespace)
        reserved = ReservedIPSpec(4, ["10.45.0.5-10.45.0.6"])
        await client.create(SpiderReservedIP(metadata=ObjectMeta(name="r45b"), spec=reserved))
        await watching.shows(["10.45.0.1", "10.45.0.3", "10.45.0.5", "10.45.0.7-10.45.0.8"])

    async def test_a_pool_that_is_not_reclaimed_serves_the_next_of_the_name(
        self, client: Client, namespace: str, control_plane: ControlPlane
    ) -> None:
        await make_subnet(client, "s46", "10.46.0.0/16", "10.46.0.1-10.46.0.9")
        keep = {f"{LABEL}ippool-reclaim": "false"}
        watching = Watching(client, namespace)
        control_plane.apply(workload("Deployment", "kept", namespace, asking("s46", "2", **keep)))
        (first,) = await watching.shows(["10.46.0.1-10.46.0.2"])
        control_plane.kubectl("delete", "deployment", "kept", "-n", namespace, "--wait")
        control_plane.apply(workload("Deployment", "kept", namespace, asking("s46", "3")))
        (second,) = await watching.shows(["10.46.0.1-10.46.0.3"])
        uid = (await client.get(Deployment, "kept", namespace)).metadata.uid
        assert second.metadata.uid == first.metadata.uid
        labels = second.metadata.labels or {}
        assert (labels[f"{LABEL}owner-application-uid"], labels[f"{LABEL}ippool-reclaim"]) == (uid, "true")

    async def test_another_subnet_gives_another_pool_and_the_first_serves_out_its_pods(
        self, client: Client, namespace: str, control_plane: ControlPlane
    ) -> None:
        for name, cidr in (("s47", "10.47.0.0/16"), ("s47b", "10.147.0.0/16")):
            await make_subnet(client, name, cidr, f"{cidr[:-5]}.1-{cidr[:-5]}.9")
        watching = Watching(client, namespace)
        control_plane.apply(workload("Deployment", "moving", namespace, asking("s47", "2")))
        (first,) = await watching.shows(["10.47.0.1-10.47.0.2"])
        held = await hold(client, first, "10.47.0.1", namespace)
        control_plane.apply(workload("Deployment", "moving", namespace, asking("s47b", "2")))
        pools = await watching.shows(["10.47.0.1-10.47.0.2"], ["10.147.0.1-10.147.0.2"])
        assert pools[0].name == first.name
        assert pools[1].name.startswith(first.name)
        await client.delete(SpiderIP, held.name)
        await watching.shows(["10.147.0.1-10.147.0.2"])

        body = {"spec": {"template": {"metadata": {"annotations": {f"{LABEL}subnet": None}}}}}
        await client.patch(Deployment, "moving", body, namespace)
        await watching.shows()

    async def test_what_cannot_be_served_is_told(
        self, client: Client, namespace: str, control_plane: ControlPlane
    ) -> None:
        control_plane.apply(
            workload("Deployment", "lost", namespace, asking("nowhere")),
            workload("Deployment", "wrong", namespace, {f"{LABEL}subnet": "blue"}),
        )

        async def told() -> bool:
            missing = await events(client, namespace, "NoSubnet")
            wrong = await events(client, namespace, "BadSubnetAnnotation")
            return any("nowhere does not exist" in text for text in missing) and bool(wrong)

        await eventually(told, timeout=PATIENCE)
        assert await pools_of(client, namespace) == []
        await make_subnet(client, "nowhere", "10.49.0.0/16", "10.49.0.1-10.49.0.9")
        await Watching(client, namespace).shows(["10.49.0.1-10.49.0.2"])


async def test_two_controllers_at_once_make_one_pool_for_each(
    client: Client, namespace: str, control_plane: ControlPlane
) -> None:
    """As for a moment when the lead changes hands, or by a crash of one of them."""
    await make_subnet(client, "s51", "10.51.0.0/16", "10.51.0.1-10.51.0.60")
    account = control_plane.service_account_kubeconfig("kube-system", "spiderpool-controller")
    async with Client.load(account) as other, working(other):
        manifests = [workload("Deployment", f"e{n:02}", namespace, asking("s51", "+1")) for n in range(10)]
        control_plane.apply("\n---\n".join(manifests))

        async def all_served() -> bool:
            pools = [pool for pool in await pools_of(client, namespace) if not pool.terminating]
            return [pool_addresses(pool, 4).size for pool in pools] == [2] * 10 and _disjoint(pools)

        await eventually(all_served, timeout=30)
        control_plane.kubectl("scale", "deployment", "--all", "-n", namespace, "--replicas=4")

        async def all_grown() -> bool:
            pools = [pool for pool in await pools_of(client, namespace) if not pool.terminating]
            return [pool_addresses(pool, 4).size for pool in pools] == [5] * 10 and _disjoint(pools)

        await eventually(all_grown, timeout=30)


@asynccontextmanager
async def working(client: Client) -> AsyncIterator[None]:
    """A second controller's work on applications."""
    workloads = {kind: Informer[Any](client, kind, optional=True) for kind in WORKLOADS}
    sight = ApplicationListers(
        Informer(client, SpiderSubnet),
        Informer(client, SpiderIPPool),
        Informer(client, SpiderIP),
        Informer(client, SpiderReservedIP),
        Informer(client, Pod),
        workloads,
    )
    informers: list[Informer[Any]] = [sight.subnets, sight.pools, sight.ips, sight.reserved, sight.pods]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(informer.run()) for informer in (*informers, *workloads.values())]
        for informer in (*informers, *workloads.values()):
            await informer.synced(10)
        recorder = Recorder(client, "test")
        work = ApplicationPoolReconciler(client, sight, recorder, families=frozenset({4, 6}), redundant=1)
        tasks.append(group.create_task(work.run()))
        yield
        for task in tasks:
            task.cancel()


WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: read-widgets}
rules: [{apiGroups: [example.org], resources: [widgets], verbs: [get]}]
"""
MAY_READ = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: read-widgets}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: read-widgets}
subjects: [{kind: ServiceAccount, name: spiderpool-controller, namespace: kube-system}]
"""


async def test_pods_of_a_third_party_get_a_pool_that_ends_with_their_controller(
    client: Client, namespace: str, control_plane: ControlPlane
) -> None:
    control_plane.apply(WIDGETS)
    control_plane.kubectl("wait", "--for=condition=Established", "crd/widgets.example.org", "--timeout=30s")
    await make_subnet(client, "s50", "10.50.0.0/16", "10.50.0.1-10.50.0.9")
    widget = {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": namespace}}
    control_plane.apply(json.dumps(widget))
    uid = control_plane.kubectl("get", "widget", "w", "-n", namespace, "-o", "jsonpath={.metadata.uid}").strip()
    owner = {"apiVersion": "example.org/v1", "kind": "Widget", "name": "w", "uid": uid, "controller": True}
    body: dict[str, Any] = {
        "metadata": {"name": "w-1", "namespace": namespace, "ownerReferences": [owner]},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]},
    }
    try:
        body["metadata"]["annotations"] = asking("s50")
        await client.apply(Pod, body, "w-1", namespace)

        async def told() -> bool:
            return any("ippool-ip-number" in text for text in await events(client, namespace, "BadSubnetAnnotation"))

        await eventually(told, timeout=PATIENCE)
        body["metadata"]["annotations"] = asking("s50", "+2")
        await client.apply(Pod, body, "w-1", namespace)
        (pool,) = await Watching(client, namespace).shows(["10.50.0.1-10.50.0.2"])
        assert pool.metadata.annotations == {f"{LABEL}ippool-ip-number": "2"}
        assert (pool.metadata.labels or {})[f"{LABEL}owner-application-gv"] == "example.org_v1"

        await client.delete(Pod, "w-1", namespace, grace=0)

        async def unknown() -> bool:
            return bool(await events(client, "default", "ApplicationUnknown"))

        await eventually(unknown, timeout=PATIENCE)
        control_plane.apply(MAY_READ)
        control_plane.kubectl("delete", "widget", "w", "-n", namespace)
        await client.patch(SpiderIPPool, pool.name, {"metadata": {"labels": {"look": "again"}}})
        await Watching(client, namespace).shows()
    finally:
        control_plane.kubectl("delete", "crd/widgets.example.org", "clusterrole/read-widgets")
        control_plane.kubectl("delete", "clusterrolebinding/read-widgets", "--ignore-not-found")


def _place(pool: SpiderIPPool) -> str:
    labels = pool.metadata.labels or {}
    return f"{labels[f'{LABEL}owner-application-name']}/{labels[f'{LABEL}interface']}"


def _disjoint(pools: list[SpiderIPPool]) -> bool:
    sets: dict[str, list[AddressSet]] = {}
    for pool in pools:
        sets.setdefault(pool.spec.subnet, []).append(pool_addresses(pool, 4))
    return all(
        sum(each.size for each in cut) == AddressSet.of(4, (i for each in cut for i in each.intervals)).size
        for cut in sets.values()
    )

"""Top controllers, automatic pools and sticky owners."""

from __future__ import annotations

import pytest

from spiderpool.api.applications import Job, Ordinals, ReplicaSet, StatefulSet, WorkloadSpec
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.core.ipam.owners import (
    Controller,
    application_affinity,
    application_labels,
    controller_of,
    is_automatic,
    is_migration_target,
    kind_to_read,
    owner_label,
    sticky_owner,
    sticky_owner_is_valid,
    top_controller,
)

pytestmark = pytest.mark.unit

NOW = "2026-01-01T00:00:00Z"
WEB = IPOwner("StatefulSet", "default", "web")
VM = IPOwner("VirtualMachineInstance", "default", "vm-a")


def owned(api_version: str, kind: str, name: str = "web", controller: bool = True) -> list[OwnerReference]:
    return [OwnerReference(api_version, kind, name, f"uid-{name}", controller=controller)]


def pod(name: str, *references: OwnerReference) -> Pod:
    return Pod(metadata=ObjectMeta(name=name, namespace="default", ownerReferences=list(references)))


def test_a_bare_pod_has_no_controller() -> None:
    assert controller_of(pod("p")) is None
    assert controller_of(pod("p", *owned("v1", "Node", controller=False))) is None


@pytest.mark.parametrize(
    ("api_version", "kind", "annotation", "target"),
    [
        ("kubevirt.io/v1", "VirtualMachineInstance", "kubevirt.io/migrationJobName", True),
        ("kubevirt.io/v1", "VirtualMachineInstance", "kubevirt.io/domain", False),
        ("apps/v1", "StatefulSet", "kubevirt.io/migrationJobName", False),
    ],
)
def test_a_machine_moves_to_a_pod_with_the_annotation_of_a_migration(
    api_version: str, kind: str, annotation: str, target: bool
) -> None:
    moved = pod("p", *owned(api_version, kind))
    moved.metadata.annotations = {annotation: "m"}
    assert is_migration_target(moved) is target
    assert not is_migration_target(pod("p"))


@pytest.mark.parametrize(
    ("api_version", "kind", "read"),
    [
        ("apps/v1", "ReplicaSet", ReplicaSet),
        ("batch/v1", "Job", Job),
        ("apps/v1", "StatefulSet", None),
        ("apps/v1", "DaemonSet", None),
        ("apps.kruise.io/v1alpha1", "StatefulSet", None),
        ("apps.kruise.io/v1alpha1", "ReplicaSet", None),
        ("v1", "ReplicationController", None),
    ],
)
def test_only_replicasets_and_jobs_may_have_a_controller(api_version: str, kind: str, read: type | None) -> None:
    controller = controller_of(pod("p", *owned(api_version, kind)))
    assert controller == Controller(api_version, kind, "default", "web", "uid-web")
    assert kind_to_read(controller) is read


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        (owned("apps/v1", "Deployment", "top"), "Deployment default/top"),
        (owned("argoproj.io/v1alpha1", "Rollout", "top"), "ReplicaSet default/web"),
        ([], "ReplicaSet default/web"),
    ],
)
def test_the_top_controller(above: list[OwnerReference], expected: str) -> None:
    controller = controller_of(pod("p", *owned("apps/v1", "ReplicaSet")))
    assert controller is not None
    assert (
        str(top_controller(controller, ReplicaSet(metadata=ObjectMeta(name="web", ownerReferences=above)))) == expected
    )


def test_the_affinity_and_labels_of_an_application() -> None:
    controller = Controller("apps/v1", "Deployment", "default", "n" * 70, "u1")
    assert application_affinity(controller) == {
        "ipam.spidernet.io/app-api-group": "apps",
        "ipam.spidernet.io/app-api-version": "v1",
        "ipam.spidernet.io/app-kind": "Deployment",
        "ipam.spidernet.io/app-namespace": "default",
        "ipam.spidernet.io/app-name": "n" * 70,
    }
    labels = application_labels(controller, "subnet", "eth0", 6)
    assert labels["ipam.spidernet.io/owner-application-gv"] == "apps_v1"
    assert labels["ipam.spidernet.io/owner-application-uid"] == "u1"
    assert labels["ipam.spidernet.io/ip-version"] == "IPv6"
    assert all(len(value) <= 63 for value in labels.values())
    foreign = Controller("apps.kruise.io/v1alpha1", "CloneSet", "default", "web", "u2")
    assert "ipam.spidernet.io/owner-application-uid" not in application_labels(foreign, "subnet", "eth0", 4)


def test_a_pool_is_automatic_by_the_label_of_its_application() -> None:
    application = Controller("apps/v1", "Deployment", "shop", "web", "u-1")
    made = ObjectMeta(name="auto4-web", labels=application_labels(application, "blue", "eth0", 4))
    assert is_automatic(SpiderIPPool(metadata=made, spec=IPPoolSpec("10.6.0.0/16")))
    by_hand = ObjectMeta(name="blue", labels={"ipam.spidernet.io/owner-spider-subnet": "blue"})
    assert not is_automatic(SpiderIPPool(metadata=by_hand, spec=IPPoolSpec("10.6.0.0/16")))


def test_a_bare_pod_has_no_sticky_owner() -> None:
    assert sticky_owner(pod("p"), statefulsets=True, machines=True) is None


@pytest.mark.parametrize(
    ("api_version", "kind", "statefulsets", "machines", "sticky"),
    [
        ("apps/v1", "StatefulSet", True, True, True),
        ("apps/v1", "StatefulSet", False, True, False),
        ("apps.kruise.io/v1alpha1", "StatefulSet", True, True, False),
        ("kubevirt.io/v1", "VirtualMachineInstance", True, True, True),
        ("kubevirt.io/v1", "VirtualMachineInstance", True, False, False),
        ("apps/v1", "ReplicaSet", True, True, False),
    ],
)
def test_statefulsets_and_machines_are_sticky_owners_when_enabled(
    api_version: str, kind: str, statefulsets: bool, machines: bool, sticky: bool
) -> None:
    found = sticky_owner(pod("web-0", *owned(api_version, kind)), statefulsets=statefulsets, machines=machines)
    assert found == (IPOwner(kind, "default", "web") if sticky else None)


def test_each_ordinal_has_its_own_label_and_all_pods_of_a_machine_share_one() -> None:
    assert owner_label(WEB, "web-0") != owner_label(WEB, "web-1")
    assert owner_label(VM, "launcher-a") == owner_label(VM, "launcher-b")
    assert len(owner_label(WEB, "web-0")) <= 63


def record(owner: IPOwner | None, name: str = "web-2") -> SpiderIP:
    return SpiderIP(spec=IPSpec("10.0.0.1/24", "p", "n1", "default", name, "u", "eth0", owner))


def statefulset(replicas: int | None, start: int | None = None, deleted: str | None = None) -> StatefulSet:
    ordinals = None if start is None else Ordinals(start)
    return StatefulSet(
        metadata=ObjectMeta(name="web", deletionTimestamp=deleted),
        spec=WorkloadSpec(replicas=replicas, ordinals=ordinals),
    )


@pytest.mark.parametrize(
    ("name", "found", "valid"),
    [
        ("web-2", statefulset(3), True),
        ("web-2", statefulset(2), False),
        ("web-0", statefulset(None), True),
        ("web-1", statefulset(None), False),
        ("web-2", statefulset(1, start=2), True),
        ("web-2", statefulset(9, start=3), False),
        ("web-2", statefulset(0), False),
        ("web-2", statefulset(3, deleted=NOW), False),
        ("other-2", statefulset(3), False),
        ("web-x", statefulset(3), False),
        ("web-2", None, False),
    ],
)
def test_a_statefulset_keeps_the_addresses_of_the_ordinals_that_it_covers(
    name: str, found: StatefulSet | None, valid: bool
) -> None:
    assert sticky_owner_is_valid(record(WEB, name), statefulset=found) is valid


LIVE, TERMINATING = ObjectMeta(name="vm-a"), ObjectMeta(name="vm-a", deletionTimestamp=NOW)


@pytest.mark.parametrize(
    ("instance", "machine", "valid"),
    [
        (LIVE, None, True),
        (TERMINATING, None, False),
        (TERMINATING, LIVE, True),
        (TERMINATING, TERMINATING, False),
        (None, LIVE, True),
        (None, None, False),
    ],
)
def test_a_machine_keeps_its_address_while_it_or_its_instance_exists(
    instance: ObjectMeta | None, machine: ObjectMeta | None, valid: bool
) -> None:
    found = VirtualMachineInstance(metadata=instance) if instance else None
    owner = VirtualMachine(metadata=machine) if machine else None
    assert sticky_owner_is_valid(record(VM), instance=found, machine=owner) is valid


def test_a_record_without_an_owner_is_not_sticky() -> None:
    assert not sticky_owner_is_valid(record(None), statefulset=statefulset(3))

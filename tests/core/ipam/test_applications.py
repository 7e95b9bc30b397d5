"""What an application claims from subnets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from spiderpool.api.applications import (
    CronJob,
    CronJobSpec,
    DaemonSet,
    Deployment,
    Job,
    JobTemplate,
    PodTemplate,
    ReplicaSet,
    StatefulSet,
    Workload,
    WorkloadSpec,
    WorkloadStatus,
)
from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.meta import LabelSelector, ObjectMeta, OwnerReference
from spiderpool.core.annotations import IPNumber
from spiderpool.core.ipam.applications import (
    PoolSlot,
    application_key,
    has_subnet_annotation,
    pool_application,
    read_application_key,
    third_party_claim,
    workload_claim,
)
from spiderpool.core.ipam.owners import Controller
from spiderpool.errors import BadConfig
from tests.core.ipam.objects import UID, WEB, pool

pytestmark = pytest.mark.unit

ANNOTATIONS = {"ipam.spidernet.io/subnet": '{"ipv4":["blue"]}'}


def template(annotations: dict[str, str], *, host: bool | None = None) -> PodTemplate:
    return PodTemplate(ObjectMeta(annotations=annotations), PodSpec(hostNetwork=host))


def workload(kind: type[Workload], annotations: dict[str, str] = ANNOTATIONS, **spec: Any) -> Workload:
    inner = WorkloadSpec(template(annotations), **spec)
    metadata = ObjectMeta(name="web", namespace="shop", uid=UID)
    if kind is CronJob:
        return CronJob(metadata=metadata, spec=CronJobSpec(jobTemplate=JobTemplate(inner)))
    return kind(metadata=metadata, spec=inner, status=WorkloadStatus(4))


class TestClaims:
    @pytest.mark.parametrize(
        ("claimant", "pods"),
        [
            (workload(Deployment, replicas=3), 3),
            (workload(ReplicaSet, replicas=2), 2),
            (workload(StatefulSet), 0),
            (workload(DaemonSet), 4),
            (workload(Job, completions=5, parallelism=2), 5),
            (workload(Job, parallelism=2), 2),
            (workload(Job, completions=0, parallelism=0), 1),
            (workload(CronJob, completions=3), 3),
            (workload(CronJob), 1),
        ],
    )
    def test_each_kind_of_workload_has_a_number_of_pods(self, claimant: Workload, pods: int) -> None:
        found = workload_claim(claimant, 1)
        assert found is not None
        assert (found.pods, found.size, found.number) == (pods, pods + 1, IPNumber(1, True))

    @pytest.mark.parametrize(("text", "size"), [("5", 5), ("0", 0), ("+0", 3), ("+2", 5)])
    def test_the_number_of_addresses_is_fixed_or_added_to_the_number_of_pods(self, text: str, size: int) -> None:
        annotations = ANNOTATIONS | {"ipam.spidernet.io/ippool-ip-number": text}
        found = workload_claim(workload(Deployment, annotations, replicas=3), 1)
        assert found is not None
        assert found.size == size

    def test_several_interfaces_and_families(self) -> None:
        items = [{"interface": "eth0", "ipv4": ["a", "ignored"], "ipv6": ["b"]}, {"interface": "net1", "ipv4": ["c"]}]
        annotations = {"ipam.spidernet.io/subnets": json.dumps(items), "ipam.spidernet.io/ippool-reclaim": "F"}
        found = workload_claim(workload(Deployment, annotations), 1)
        assert found is not None
        assert found.slots == (PoolSlot("eth0", 4, "a"), PoolSlot("eth0", 6, "b"), PoolSlot("net1", 4, "c"))
        assert not found.reclaim

    def test_pods_without_annotation_or_on_the_host_network_claim_nothing(self) -> None:
        assert workload_claim(workload(Deployment, {}), 1) is None
        host = workload(Deployment)
        host.spec.template.spec.hostNetwork = True
        assert workload_claim(host, 1) is None

    @pytest.mark.parametrize(
        ("kind", "owner", "claims"),
        [
            (ReplicaSet, ("apps/v1", "Deployment"), False),
            (ReplicaSet, ("argoproj.io/v1alpha1", "Rollout"), True),
            (Job, ("batch/v1", "CronJob"), False),
            (StatefulSet, ("example.org/v1", "Database"), True),
        ],
    )
    def test_only_the_top_controller_claims(self, kind: type[Workload], owner: tuple[str, str], claims: bool) -> None:
        claimant = workload(kind)
        claimant.metadata.ownerReferences = [OwnerReference(*owner, "above", "u", controller=True)]
        assert (workload_claim(claimant, 1) is not None) is claims

    @pytest.mark.parametrize(
        "annotations",
        [
            {"ipam.spidernet.io/subnets": "[]", **ANNOTATIONS},
            {"ipam.spidernet.io/subnet": "{}"},
            {"ipam.spidernet.io/subnet": '{"ipv4":[""]}'},
            {"ipam.spidernet.io/subnet": "blue"},
            ANNOTATIONS | {"ipam.spidernet.io/ippool-ip-number": "-1"},
            ANNOTATIONS | {"ipam.spidernet.io/ippool-ip-number": "abc+3"},
            ANNOTATIONS | {"ipam.spidernet.io/ippool-ip-number": "++3"},
            ANNOTATIONS | {"ipam.spidernet.io/ippool-reclaim": "yes"},
        ],
    )
    def test_a_wrong_annotation_is_refused(self, annotations: dict[str, str]) -> None:
        with pytest.raises(BadConfig, match=r"ipam\.spidernet\.io/"):
            workload_claim(workload(Deployment, annotations), 1)

    @pytest.mark.parametrize(
        ("annotations", "present"),
        [
            (None, False),
            ({"other": "x"}, False),
            ({"ipam.spidernet.io/subnet": "wrong"}, True),
            ({"ipam.spidernet.io/subnets": "[]"}, True),
        ],
    )
    def test_a_wrong_annotation_is_present_too(self, annotations: dict[str, str] | None, present: bool) -> None:
        assert has_subnet_annotation(annotations) is present

    def test_pods_of_a_third_partys_controller_need_the_annotation_for_the_number(self) -> None:
        owner = OwnerReference("apps.kruise.io/v1alpha1", "CloneSet", "web", UID, controller=True)
        pod = Pod(metadata=ObjectMeta(name="web-x", namespace="shop", annotations=ANNOTATIONS, ownerReferences=[owner]))
        with pytest.raises(BadConfig, match="ippool-ip-number"):
            third_party_claim(pod)
        pod.metadata.annotations = ANNOTATIONS | {"ipam.spidernet.io/ippool-ip-number": "+3"}
        found = third_party_claim(pod)
        assert found is not None
        assert found.number == IPNumber(3, False)
        assert found.application == Controller("apps.kruise.io/v1alpha1", "CloneSet", "shop", "web", UID)
        pod.metadata.ownerReferences = [OwnerReference("apps/v1", "ReplicaSet", "web", UID, controller=True)]
        assert third_party_claim(pod) is None


class TestPoolApplication:
    AFFINITY: ClassVar = {
        "ipam.spidernet.io/app-api-group": "apps",
        "ipam.spidernet.io/app-api-version": "v1",
        "ipam.spidernet.io/app-kind": "Deployment",
        "ipam.spidernet.io/app-namespace": "shop",
        "ipam.spidernet.io/app-name": "web",
    }
    LABELS: ClassVar = {
        "ipam.spidernet.io/owner-application-name": "web",
        "ipam.spidernet.io/owner-application-uid": UID,
    }

    @pytest.mark.parametrize(
        ("labels", "affinity", "application"),
        [
            (LABELS, AFFINITY, WEB),
            (LABELS, AFFINITY | {"ipam.spidernet.io/app-api-group": ""}, replace(WEB, api_version="v1")),
            (None, AFFINITY, None),
            (LABELS, {"app": "web"}, None),
            (LABELS, None, None),
        ],
    )
    def test_it_is_read_from_the_affinity_of_an_automatic_pool(
        self, labels: dict[str, str] | None, affinity: dict[str, str] | None, application: Controller | None
    ) -> None:
        stored = pool("auto4-web", podAffinity=LabelSelector(matchLabels=affinity) if affinity else None)
        stored.metadata.labels = labels
        assert pool_application(stored) == application

    def test_an_application_that_was_created_again_has_the_same_key(self) -> None:
        assert application_key(replace(WEB, uid="other")) == application_key(WEB)
        assert application_key(replace(WEB, name="other")) != application_key(WEB)

    @pytest.mark.parametrize(
        "application", [WEB, Controller("v1", "ReplicationController", "a", "b", UID), replace(WEB, name="a|b|c")]
    )
    def test_a_key_tells_all_but_the_uid(self, application: Controller) -> None:
        assert read_application_key(application_key(application)) == replace(application, uid="")

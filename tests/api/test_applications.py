"""Kubernetes' controllers of pods: where each kind has its pod template."""

from __future__ import annotations

import pytest

from spiderpool.api.applications import WORKLOADS, CronJob, DaemonSet, StatefulSet, Workload
from tests.api.documents import Document, read

pytestmark = pytest.mark.unit

TEMPLATE = {"metadata": {"annotations": {"ipam.spidernet.io/subnet": "{}"}}, "spec": {"hostNetwork": True}}


@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.KIND.name)
def test_the_pod_template(kind: type[Workload]) -> None:
    spec: Document = {"template": TEMPLATE}
    document = {"metadata": {"name": "web"}, "spec": {"jobTemplate": {"spec": spec}} if kind is CronJob else spec}
    template = read(document, kind).workload_spec.template
    assert template.metadata.annotations == {"ipam.spidernet.io/subnet": "{}"}
    assert template.spec.hostNetwork is True


def test_fields_that_determine_the_number_of_pods() -> None:
    stateful = read({"spec": {"replicas": 3, "ordinals": {"start": 5}}, "metadata": {"name": "db"}}, StatefulSet)
    assert stateful.spec.ordinals is not None
    assert (stateful.spec.replicas, stateful.spec.ordinals.start) == (3, 5)
    daemons = read({"metadata": {"name": "d"}, "status": {"desiredNumberScheduled": 4}}, DaemonSet)
    assert daemons.status.desiredNumberScheduled == 4
    cron = read({"metadata": {"name": "c"}, "spec": {"jobTemplate": {"spec": {"parallelism": 2}}}}, CronJob)
    assert (cron.workload_spec.parallelism, cron.spec.parallelism) == (2, None)

"""What of a pod decides about its nodes."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.applications import WORKLOADS
from spiderpool.api.scheduling import (
    SCHEDULED_WORKLOADS,
    NodeSelector,
    ScheduledCronJob,
    ScheduledDeployment,
    ScheduledPod,
    SchedulingSpec,
    template_of,
)

pytestmark = pytest.mark.unit

SPEC = {
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
}


def test_a_pod_with_its_node_selector_tolerations_and_affinity() -> None:
    found = msgspec.convert({"metadata": {"name": "web"}, "spec": SPEC}, ScheduledPod).spec
    assert (found.nodeSelector, found.required_nodes) == ({"disk": "ssd"}, NodeSelector([]))
    assert [each.operator for each in found.tolerations or ()] == ["Exists"]
    assert SchedulingSpec().required_nodes is None


def test_the_templates_of_all_workloads_have_them() -> None:
    assert tuple(each.KIND for each in SCHEDULED_WORKLOADS) == tuple(each.KIND for each in WORKLOADS)
    template = {"template": {"spec": SPEC}}
    assert template_of(msgspec.convert({"spec": template}, ScheduledDeployment)).spec.nodeSelector == {"disk": "ssd"}
    job = {"spec": {"jobTemplate": {"spec": template}}}
    assert template_of(msgspec.convert(job, ScheduledCronJob)).spec.nodeSelector == {"disk": "ssd"}

"""What is said of manifests that are wrong: all of it at once."""

from __future__ import annotations

import pytest

from spiderpool.api.core_v1 import Node, Pod, Service
from spiderpool.api.scheduling import ScheduledDeployment
from spiderpool.cli.explain.case import pod_of_manifest
from spiderpool.cli.manifests import check, documents, read
from spiderpool.errors import BadConfig

pytestmark = pytest.mark.unit

FAULTY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {a: 1, b: x}}
spec:
  replicas: many
  template:
    metadata: {annotations: [x]}
    spec:
      tolerations: [{key: a}, {key: 2}]
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms: [{matchExpressions: [{operator: In}, {key: k, operator: In, values: x}]}]
"""
FAULTS = [
    "Expected `str`, got `int` - at `$.metadata.labels[...]`",
    "Expected `int | null`, got `str` - at `$.spec.replicas`",
    "Expected `object | null`, got `array` - at `$.spec.template.metadata.annotations`",
    "Expected `str | null`, got `int` - at `$.spec.template.spec.tolerations[1].key`",
]
TERM = (
    "$.spec.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
    ".matchExpressions"
)


def test_all_faults_of_an_object_are_told_with_their_paths() -> None:
    (document,) = documents(FAULTY)
    with pytest.raises(BadConfig) as caught:
        read(document, ScheduledDeployment)
    before, _, told = caught.value.message.partition(": ")
    assert before == "Deployment web"
    assert sorted(told.split("; ")) == sorted(
        [
            *FAULTS,
            f"Object missing required field `key` - at `{TERM}[0]`",
            f"Expected `array | null`, got `str` - at `{TERM}[1].values`",
        ]
    )


def test_all_faults_of_all_objects_are_told() -> None:
    found = [
        *documents(
            "kind: Service\nmetadata: {name: 1}\n---\nkind: Node\nmetadata: {name: n}\nspec: x\n---\nkind: Any\n"
        )
    ]
    with pytest.raises(BadConfig) as caught:
        check(found, (Service, Node))
    assert caught.value.message.startswith(
        "Service 1: Expected `str`, got `int` - at `$.metadata.name`; Node n: Expected"
    )
    check(found, (Pod,))


def test_the_pod_to_explain_tells_all_of_its_faults() -> None:
    with pytest.raises(BadConfig, match=r"metadata\.name`; .*`\$\.spec\.hostNetwork`"):
        pod_of_manifest("kind: Pod\nmetadata: {name: 1}\nspec: {hostNetwork: maybe}\n", "default")

"""The objects that a connectivity test makes, all of them in one Namespace of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar

import msgspec

from spiderpool.api import core_v1
from spiderpool.api.meta import Kind, Object, ObjectMeta
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION
from spiderpool.cli.connectivity.matrix import Question

LIFETIME = "connectivity.spidernet.io/lifetime-seconds"
"""Label of the Namespace: the seconds after its creation, by the API server's clock, after which others remove it."""
QUESTIONS = "connectivity.spidernet.io/questions"
"""Annotation of a pod with its questions, which the kubelet writes into a file of the pod as soon as it changes."""
PREFIX = "spiderpool-connectivity-"
NAME = re.compile(rf"{PREFIX}[a-z0-9]+")
"""Names of these Namespaces: a label alone, which anybody may set, removes none."""
DEFAULT_NETWORK = "default"
"""Stands for the network of pods that name none."""
PROGRAM, SERVICE, APP = "prober", "probe", "probe"
PLACES = {"program": "/probe", "questions": "/questions"}
USER = 65532
"""The user without rights, as the product's images number it."""


class ProbePodObject(Object, kw_only=True):
    """core/v1 Pod as it is made."""

    KIND: ClassVar[Kind] = core_v1.Pod.KIND

    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    status: core_v1.PodStatus | None = None


class ProbeService(Object, kw_only=True):
    """core/v1 Service as it is made, and as it is stored."""

    KIND: ClassVar[Kind] = core_v1.Service.KIND

    spec: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProbeSite:
    """A pod of the test before it has its addresses."""

    name: str
    node: str
    network: str
    """``default``, ``namespace/name``, or two of these with ``+`` between; empty: the host network."""


@dataclass(frozen=True, slots=True)
class ProbeFrame:
    """What all objects of one test have in common."""

    namespace: str
    image: str
    port: int
    token: str
    """Random: the pods of the test answer nobody who does not say it."""
    seconds: int
    """After which its pods end by themselves, and the Namespace may be removed by others."""
    is_measured: bool = False
    """Whether the pods send each other data for seconds."""
    has_nodes: bool = True
    """Whether pods on the host network stand for nodes."""


def network_annotations(network: str) -> dict[str, str]:
    """The annotations by which a pod chooses its networks."""
    first, _, further = network.partition("+")
    found = {} if first in ("", DEFAULT_NETWORK) else {DEFAULT_NETWORK_ANNOTATION: first}
    return found | ({NETWORKS_ANNOTATION: further} if further else {})


def namespace_object(frame: ProbeFrame, *, is_privileged: bool) -> core_v1.Namespace:
    """The Namespace. ``is_privileged``: it may have pods on the host network, which a policy for all may forbid."""
    labels = {"app.kubernetes.io/managed-by": "spiderpoolctl", LIFETIME: str(frame.seconds)}
    if is_privileged:
        labels["pod-security.kubernetes.io/enforce"] = "privileged"
    return core_v1.Namespace(metadata=ObjectMeta(name=frame.namespace, labels=labels))


def program(frame: ProbeFrame) -> core_v1.ConfigMap:
    """The program of all pods."""
    text = resources.files(__package__).joinpath("prober.py").read_text()
    return core_v1.ConfigMap(metadata=ObjectMeta(name=PROGRAM, namespace=frame.namespace), data={"prober.py": text})


def service(frame: ProbeFrame) -> ProbeService:
    """The Service of the pods: a ClusterIP and a port of all nodes, in both families where there are two."""
    ports = [{"name": each.lower(), "protocol": each, "port": frame.port} for each in ("TCP", "UDP")]
    spec = {"type": "NodePort", "selector": {"app": APP}, "ipFamilyPolicy": "PreferDualStack", "ports": ports}
    return ProbeService(metadata=ObjectMeta(name=SERVICE, namespace=frame.namespace), spec=spec)


def pod(frame: ProbeFrame, site: ProbeSite, addresses: Iterable[str] = ()) -> ProbePodObject:
    """A pod, bound to its node. ``addresses``: those on which one on the host network listens."""
    is_host = not site.network
    metadata = ObjectMeta(
        name=site.name,
        namespace=frame.namespace,
        labels={} if is_host else {"app": APP},
        annotations=network_annotations(site.network),
    )
    spec = {
        "nodeName": site.node,
        "tolerations": [{"operator": "Exists"}],
        "hostNetwork": is_host,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": frame.seconds,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(frame, site, addresses)],
        "volumes": [_program_volume(), _questions_volume()],
    }
    return ProbePodObject(metadata=metadata, spec=spec)


def _container(frame: ProbeFrame, site: ProbeSite, addresses: Iterable[str]) -> Mapping[str, Any]:
    file = f"{PLACES['questions']}/questions"
    return {
        "name": PROGRAM,
        "image": frame.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-I", f"{PLACES['program']}/prober.py"],
        "args": [site.name, str(frame.port), file, frame.token, "yes" if frame.is_measured else "no", *addresses],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, "mountPath": path, "readOnly": True} for name, path in PLACES.items()],
    }


def _program_volume() -> Mapping[str, Any]:
    return {"name": "program", "configMap": {"name": PROGRAM}}


def _questions_volume() -> Mapping[str, Any]:
    item = {"path": "questions", "fieldRef": {"fieldPath": f"metadata.annotations['{QUESTIONS}']"}}
    return {"name": "questions", "downwardAPI": {"items": [item]}}


def questions_annotation(number: int, asked: Sequence[tuple[int, Question]], fields: dict[str, Any]) -> str:
    """One round of questions of a pod, as the prober reads it; ``fields`` are those that all of them have."""
    listed = [
        {
            "id": identity,
            "kind": question.kind,
            "port": question.port,
            **({"name": question.address, "family": question.family} if question.kind == "dns" else {}),
            **({} if question.kind == "dns" else {"address": question.address}),
            **({"bind": question.bind} if question.bind else {}),
        }
        for identity, question in asked
    ]
    return json.dumps({"round": number, "common": fields, "questions": listed}, separators=(",", ":"))

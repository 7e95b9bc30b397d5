"""A pod of one Namespace reaches for the networks of another, where Namespaces are isolated."""

from __future__ import annotations

import json

import pytest

from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION, NADSpec, NetworkAttachmentDefinition
from spiderpool.core.network.attachment import AttachmentPolicy, plan_pod
from spiderpool.errors import Refused

pytestmark = pytest.mark.unit

POLICY = AttachmentPolicy("shared", "kube-system", isolated=True, shared_namespaces=("public",))


def attached(**annotations: str) -> list[str]:
    """The networks to which a pod of Namespace ``mine`` is attached."""
    keys = {"first": DEFAULT_NETWORK_ANNOTATION, "further": NETWORKS_ANNOTATION}
    metadata = ObjectMeta(
        name="p", namespace="mine", annotations={keys[key]: text for key, text in annotations.items()}
    )
    return [plan.request.network for plan in plan_pod(Pod(metadata=metadata), "eth0", POLICY, _definition).interfaces]


def _definition(network: str) -> NetworkAttachmentDefinition:
    plugins = [{"type": "macvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}]
    config = json.dumps({"cniVersion": "1.0.0", "name": "n", "plugins": plugins})
    return NetworkAttachmentDefinition(metadata=ObjectMeta(name=network), spec=NADSpec(config))


FOREIGN = ["theirs/secret", '[{"name": "secret", "namespace": "theirs"}]', '{"name": "secret", "namespace": "theirs"}']


@pytest.mark.parametrize("annotation", ["first", "further"])
@pytest.mark.parametrize("text", FOREIGN)
def test_a_pod_is_attached_to_no_network_of_another_namespace(annotation: str, text: str) -> None:
    with pytest.raises(Refused, match="network theirs/secret belongs to another namespace"):
        attached(**{annotation: text})


@pytest.mark.parametrize("text", ["secret", "kube-system/secret"])
def test_nor_to_another_one_of_the_agents_own(text: str) -> None:
    with pytest.raises(Refused, match="network kube-system/secret belongs to another namespace"):
        attached(first=text)


def test_what_a_pod_may_use() -> None:
    assert attached() == ["kube-system/shared"]
    assert attached(first="kube-system/shared", further="own,public/any") == [
        "kube-system/shared",
        "mine/own",
        "public/any",
    ]
    assert attached(first="mine/own") == ["mine/own"]
    assert attached(first="public/any") == ["public/any"]

"""What decides about the addresses of a pod, gathered from the objects around it."""

from __future__ import annotations

import pytest

from spiderpool.api.cni import IPAMConfig
from spiderpool.api.core_v1 import Namespace, Node, Pod
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.core.ipam.pod_context import (
    AddressPolicy,
    InterfaceNetworks,
    InterfaceRequest,
    PodSurroundings,
    pod_context,
)

pytestmark = pytest.mark.unit

NETWORKS = InterfaceNetworks((("eth0", "kube-system/a"), ("net1", None)))


def annotated(**annotations: str) -> dict[str, str]:
    return {f"ipam.spidernet.io/{key}": text for key, text in annotations.items()}


def test_networks_by_interface_and_their_order() -> None:
    assert [NETWORKS.network(interface) for interface in ("eth0", "net1", "net2")] == ["kube-system/a", None, None]
    assert [NETWORKS.position(interface) for interface in ("eth0", "net1", "net2")] == [0, 1, None]


def test_pools_of_the_network_by_family() -> None:
    config = IPAMConfig(default_ipv4_ippool=["a", "b"], default_ipv6_ippool=[])
    assert InterfaceRequest("eth0", config).pools == {4: ("a", "b")}


class TestContext:
    POD = Pod(
        metadata=ObjectMeta(
            name="web-0",
            namespace="shop",
            uid="u",
            labels={"a": "b"},
            annotations=annotated(subnet='{"ipv4": ["s"]}'),
            ownerReferences=[OwnerReference("apps/v1", "StatefulSet", "web", "s", controller=True)],
        )
    )
    AROUND = PodSurroundings(
        "n1",
        Node(metadata=ObjectMeta(name="n1", labels={"zone": "i"})),
        Namespace(metadata=ObjectMeta(name="shop", labels={"c": "d"}, annotations={"e": "f"})),
        ("eth0",),
        "of the manifest",
    )

    def test_it_gathers_labels_annotations_and_the_sticky_owner(self) -> None:
        found = pod_context(self.POD, NETWORKS, self.AROUND, AddressPolicy())
        assert (found.namespace, found.name, found.uid, found.node) == ("shop", "web-0", "of the manifest", "n1")
        assert (found.labels, found.node_labels, found.namespace_labels) == ({"a": "b"}, {"zone": "i"}, {"c": "d"})
        assert (found.namespace_annotations, found.holding) == ({"e": "f"}, ("eth0",))
        assert found.owner is not None
        assert found.needs_controller

    def test_settings_switch_sticky_owners_and_subnets_off(self) -> None:
        policy = AddressPolicy(subnets=False, statefulsets=False)
        found = pod_context(self.POD, NETWORKS, PodSurroundings("n1", None, None, (), "u"), policy)
        assert (found.owner, found.needs_controller, found.namespace_labels) == (None, False, {})

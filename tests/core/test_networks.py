"""Which network each interface of a pod is on."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.coordinator import CoordinatorSpec, CoordinatorStatus, SpiderCoordinator
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.networks import (
    Interfaces,
    RequestedNetwork,
    default_network,
    default_route_interface,
    first_network,
    further_networks,
    synced_status,
)
from spiderpool.errors import BadConfig, NotReady, Refused

pytestmark = pytest.mark.unit

FIRST = "v1.multus-cni.io/default-network"
FURTHER = "k8s.v1.cni.cncf.io/networks"


@pytest.mark.parametrize(
    ("annotation", "cluster", "network"),
    [
        ("", "ipvlan", "kube-system/ipvlan"),
        ("", "other/ipvlan", "other/ipvlan"),
        ("", None, None),
        ("mine", "other/ipvlan", "kube-system/mine"),
        ("ns/mine@eth0", None, "ns/mine"),
        ('[{"name": "mine", "namespace": "ns"}]', None, "ns/mine"),
    ],
)
def test_the_network_of_the_first_interface(annotation: str, cluster: str | None, network: str | None) -> None:
    assert first_network({FIRST: annotation} if annotation else {}, cluster, "kube-system") == network


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("", []),
        ("a", [("default/a", "net1")]),
        ("a, ns/b@eth5 ,c", [("default/a", "net1"), ("ns/b", "eth5"), ("default/c", "net3")]),
        ('{"name": "a"}', [("default/a", "net1")]),
        (
            '[{"name": "a", "ips": ["10.0.0.1"]}, {"name": "b", "namespace": "ns", "interfaceRequest": "eth5"}]',
            [("default/a", "net1"), ("ns/b", "eth5")],
        ),
    ],
)
def test_the_networks_of_further_interfaces(text: str, networks: list[tuple[str, str]]) -> None:
    assert further_networks({FURTHER: text}, "default") == tuple(RequestedNetwork(*each) for each in networks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,,b", "holds ''; write"),
        ("/a", "holds '/a'"),
        ("x/y/z", "holds 'x/y/z'"),
        ("a@eth1,b@eth1", "asks for interface eth1 twice"),
        ("a@a-name-that-is-too-long", "Linux allows 15 characters"),
        ('[{"namespace": "a"}]', "missing required field `name`"),
        ("[", "is wrong"),
    ],
)
def test_wrong_annotations_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message) as raised:
        further_networks({FURTHER: text}, "default")
    assert FURTHER in str(raised.value)


def test_only_one_default_network() -> None:
    with pytest.raises(BadConfig, match="must name one network, not 2"):
        first_network({FIRST: "a,b"}, None, "kube-system")


def test_interfaces_by_name() -> None:
    known = Interfaces("kube-system/a", further_networks({FURTHER: "b,c@eth7"}, "default"))
    assert [known.network(each) for each in ("eth0", "net1", "eth7", "net2")] == [
        "kube-system/a",
        "default/b",
        "default/c",
        None,
    ]
    assert [known.position(each) for each in ("eth0", "net1", "eth7", "net2")] == [0, 1, 2, None]


def test_a_pod_of_one_network_says_which() -> None:
    assert default_network({}, "a", "kube-system") == "kube-system/a"
    with pytest.raises(Refused, match="names no network and the cluster has no default"):
        default_network({}, None, "kube-system")


def coordinator(**status: Any) -> SpiderCoordinator:
    return SpiderCoordinator(
        metadata=ObjectMeta(name="default"),
        spec=CoordinatorSpec(podDefaultRouteNIC="net1"),
        status=CoordinatorStatus(**status) if status else None,
    )


def test_the_pod_chooses_its_default_route_before_the_cluster() -> None:
    assert default_route_interface({}, coordinator()) == "net1"
    assert default_route_interface({"ipam.spidernet.io/default-route-nic": "net2"}, coordinator()) == "net2"


def test_a_coordinator_that_is_not_ready_is_told() -> None:
    assert synced_status(coordinator(phase="Synced")).phase == "Synced"
    for cluster, message in (
        (None, "no SpiderCoordinator yet"),
        (coordinator(), "has no status yet"),
        (coordinator(phase="NotReady", reason="no CIDRs"), "not ready: no CIDRs"),
    ):
        with pytest.raises(NotReady, match=message):
            synced_status(cluster)

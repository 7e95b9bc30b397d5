"""The coordinator's settings: the network's block, then the SpiderCoordinator, then the built-in default."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest
from msgspec.structs import replace as replace_status

from spiderpool.api.cni import CoordinatorConfig, PolicyRoute
from spiderpool.api.coordinator import ClusterCoordinatorSpec, CoordinatorStatus, SpiderCoordinator
from spiderpool.api.ippool import Route
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.addresses import Network
from spiderpool.core.network.coordinator import (
    OwnCIDRs,
    cluster_ranges,
    coordination,
    default_route_interface,
    in_force,
    requested_default_route,
    rule_table,
    service_addresses,
    synced_status,
)
from spiderpool.core.network.plumbing.values import ClusterRanges, Coordination
from spiderpool.errors import BadConfig, NotReady

pytestmark = pytest.mark.unit

SYNCED = CoordinatorStatus(phase="Synced", overlayPodCIDR=["10.1.0.0/16"], serviceCIDR=["10.2.0.0/16", "fd02::/112"])
FOUND_OUT = Coordination(
    mode="auto",
    service_cidrs=(ip_network("10.2.0.0/16"), ip_network("fd02::/112")),
    overlay_cidrs=(ip_network("10.1.0.0/16"),),
)


def cluster(status: CoordinatorStatus | None = SYNCED, **spec: Any) -> SpiderCoordinator:
    return SpiderCoordinator(metadata=ObjectMeta(name="default"), spec=ClusterCoordinatorSpec(**spec), status=status)


def test_the_first_by_name_counts() -> None:
    b, a = (SpiderCoordinator(metadata=ObjectMeta(name=name)) for name in "ba")
    assert in_force([b, a]) is a
    assert in_force([]) is None


def test_ranges_that_the_cluster_uses() -> None:
    known = cluster(replace_status(SYNCED, serviceAddresses=["198.51.100.65"]))
    found = cluster_ranges(OwnCIDRs(), known, of_cluster=False)
    assert found.service_cidrs == FOUND_OUT.service_cidrs
    assert found.service_addresses == (ip_address("198.51.100.65"),)
    assert found.pod_cidrs == FOUND_OUT.overlay_cidrs
    assert cluster_ranges(OwnCIDRs(), known, of_cluster=True).pod_cidrs == ()
    assert cluster_ranges(OwnCIDRs(), None, of_cluster=False) == ClusterRanges()
    assert cluster_ranges(OwnCIDRs(), cluster(None), of_cluster=True) == ClusterRanges()
    with pytest.raises(BadConfig, match=r"serviceCIDR holds 'x'"):
        cluster_ranges(OwnCIDRs(), cluster(replace_status(SYNCED, serviceCIDR=["x"])), of_cluster=True)


@pytest.mark.parametrize(
    ("block", "services", "pods"),
    [
        ({}, FOUND_OUT.service_cidrs, FOUND_OUT.overlay_cidrs),
        ({"serviceCIDR": ["10.8.0.0/16"]}, (ip_network("10.8.0.0/16"),), FOUND_OUT.overlay_cidrs),
        ({"overlayPodCIDR": ["10.9.0.0/16"]}, FOUND_OUT.service_cidrs, (ip_network("10.9.0.0/16"),)),
        ({"serviceCIDR": []}, FOUND_OUT.service_cidrs, FOUND_OUT.overlay_cidrs),
        ({"serviceCIDR": [], "overlayPodCIDR": []}, (), ()),
    ],
)
def test_the_networks_own_cidrs_count_alike_at_the_start_and_later(
    block: dict[str, Any], services: tuple[Network, ...], pods: tuple[Network, ...]
) -> None:
    config = CoordinatorConfig(**block)
    found = cluster_ranges(OwnCIDRs.of(config), cluster(), of_cluster=False)
    settings = coordination(config, cluster())
    assert settings is not None
    assert (found.service_cidrs, found.pod_cidrs) == (services, pods)
    assert (settings.service_cidrs, settings.overlay_cidrs) == (services, pods)


def test_defaults() -> None:
    assert coordination(CoordinatorConfig(), cluster()) == FOUND_OUT
    assert coordination(None, cluster()) is None


@pytest.mark.parametrize(
    ("block", "spec", "field", "value"),
    [
        ({"mode": "overlay"}, {"mode": "underlay"}, "mode", "overlay"),
        ({}, {"mode": "underlay"}, "mode", "underlay"),
        ({"hijackCIDR": ["10.9.0.1/16"]}, {"hijackCIDR": ["1.0.0.0/8"]}, "hijack_cidrs", (ip_network("10.9.0.0/16"),)),
        ({"hijackCIDR": []}, {"hijackCIDR": ["1.0.0.0/8"]}, "hijack_cidrs", (ip_network("1.0.0.0/8"),)),
        ({"ipamCIDR": ["10.9.0.1/16"]}, {"ipamCIDR": ["1.0.0.0/8"]}, "ipam_cidrs", (ip_network("10.9.0.0/16"),)),
        ({}, {"ipamCIDR": ["fd01::/64"]}, "ipam_cidrs", (ip_network("fd01::/64"),)),
        ({"hostRuleTable": 501}, {"hostRuleTable": 502}, "host_rule_table", 501),
        ({}, {"hostRuleTable": 502}, "host_rule_table", 502),
        ({"podRPFilter": -1}, {"podRPFilter": 2}, "pod_rp_filter", None),
        ({}, {"podRPFilter": 2}, "pod_rp_filter", 2),
        ({"txQueueLen": 5}, {"txQueueLen": 6}, "tx_queue_len", 5),
        ({}, {"vethMTU": 1400}, "veth_mtu", 1400),
        ({"vethLinkAddress": "169.254.1.1"}, {}, "veth_link_address", IPv4Address("169.254.1.1")),
        ({"tunePodRoutes": False}, {"tunePodRoutes": True}, "tune_pod_routes", False),
        ({}, {"tunePodRoutes": False}, "tune_pod_routes", False),
        ({"podDefaultRouteNic": "net1"}, {"podDefaultRouteNIC": "net2"}, "default_route_nic", "net1"),
        ({"podDefaultRouteNIC": "net1"}, {}, "default_route_nic", "net1"),
        ({}, {"podDefaultRouteNIC": "net2"}, "default_route_nic", "net2"),
        ({"podMACPrefix": "0a:1b"}, {"podMACPrefix": "0a:1c"}, "pod_mac_prefix", "0a:1b"),
        ({}, {"podMACPrefix": "0a:1c"}, "pod_mac_prefix", "0a:1c"),
        ({"podDefaultCniNic": "ens1"}, {}, "first_nic", "ens1"),
        (
            {"policyRoutes": [PolicyRoute("10.7.0.9/16", "10.0.0.1")]},
            {"policyRoutes": [Route(dst="10.8.0.0/16", gw="10.0.0.1")]},
            "policy_routes",
            ((ip_network("10.7.0.0/16"), ip_address("10.0.0.1")),),
        ),
        (
            {},
            {"policyRoutes": [Route(dst="fd08::/64", gw="fd00::1")]},
            "policy_routes",
            ((ip_network("fd08::/64"), ip_address("fd00::1")),),
        ),
    ],
)
def test_the_block_goes_before_the_cluster(block: dict[str, Any], spec: dict[str, Any], field: str, value: Any) -> None:
    assert coordination(CoordinatorConfig(**block), cluster(**spec)) == replace(FOUND_OUT, **{field: value})


@pytest.mark.parametrize("mode", ["disable", "disabled"])
def test_nothing_to_coordinate(mode: str) -> None:
    assert coordination(CoordinatorConfig(mode=mode), None) is None
    assert coordination(CoordinatorConfig(), cluster(status=None, mode=mode)) is None


def test_a_block_that_tells_all_needs_no_cluster() -> None:
    block = CoordinatorConfig(overlayPodCIDR=[], serviceCIDR=["10.2.0.0/16"])
    found = coordination(block, None, first_nic="net0", default_route_nic="net1")
    assert found == Coordination(
        mode="auto", service_cidrs=(ip_network("10.2.0.0/16"),), first_nic="net0", default_route_nic="net1"
    )
    told = coordination(CoordinatorConfig(serviceCIDR=["10.3.0.0/16"]), cluster())
    assert told == replace(FOUND_OUT, service_cidrs=(ip_network("10.3.0.0/16"),))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"hijackCIDR": ["ten"]}, "hijackCIDR holds 'ten'"),
        ({"ipamCIDR": ["ten"]}, "ipamCIDR holds 'ten'"),
        ({"vethLinkAddress": "169.254.1"}, "vethLinkAddress '169.254.1' of the coordinator is no IPv4 address"),
        ({"vethLinkAddress": "fd00::1"}, "no IPv4 address"),
        ({"hostRuleTable": 0}, "hostRuleTable 0 of the coordinator is no routing table; write a number from 1 to"),
        ({"hostRuleTable": 2**32}, "hostRuleTable 4294967296 of the coordinator is no routing table"),
        ({"txQueueLen": -1}, "txQueueLen -1 of the coordinator is out of range; write a number from 0 to"),
        ({"policyRoutes": [PolicyRoute("10.0.0.0/8", "gw")]}, "policyRoutes hold 'gw'"),
        ({"policyRoutes": [PolicyRoute("10.0.0.0/8", "fd00::1")]}, "send 10.0.0.0/8 to fd00::1, which is of another"),
    ],
)
def test_what_cannot_be_right(block: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        coordination(CoordinatorConfig(**block), cluster())


def test_the_pod_chooses_its_default_route_before_the_cluster() -> None:
    annotations = {"ipam.spidernet.io/default-route-nic": " net2 "}
    assert requested_default_route(annotations) == "net2"
    assert default_route_interface({}, cluster(podDefaultRouteNIC="net1")) == "net1"
    assert default_route_interface(annotations, cluster(podDefaultRouteNIC="net1")) == "net2"
    assert default_route_interface({}, SpiderCoordinator(metadata=ObjectMeta(name="default"))) == ""


def test_a_coordinator_that_is_not_ready_is_told() -> None:
    assert synced_status(cluster()).phase == "Synced"
    for each, message in (
        (None, "no SpiderCoordinator yet"),
        (cluster(status=None), "has no status yet"),
        (cluster(CoordinatorStatus(phase="NotReady", reason="no CIDRs")), "not ready: no CIDRs"),
    ):
        with pytest.raises(NotReady, match=message):
            synced_status(each)


def test_the_nodes_table_for_pods() -> None:
    assert (rule_table(None), rule_table(cluster()), rule_table(cluster(hostRuleTable=600))) == (500, 500, 600)
    assert [rule_table(cluster(hostRuleTable=number)) for number in (0, -1, 2**32)] == [500] * 3, "no pod has one there"


def test_addresses_of_services() -> None:
    known = CoordinatorStatus("Synced", None, [], [], ["198.51.100.65", "2001:db8::1"])
    expected = (ip_address("198.51.100.65"), ip_address("2001:db8::1"))
    assert service_addresses(cluster(known)) == expected
    found = coordination(CoordinatorConfig(), cluster(known))
    assert found is not None
    assert found.service_addresses == expected
    assert service_addresses(None) is service_addresses(cluster(None)) is service_addresses(cluster()) is None
    with pytest.raises(BadConfig, match="serviceAddresses of the SpiderCoordinator holds 'x'"):
        service_addresses(cluster(CoordinatorStatus("Synced", None, [], [], ["x"])))

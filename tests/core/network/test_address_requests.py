"""What a pod needs of its node, as resources: by its networks, and by the pools that annotations name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from spiderpool.api.core_v1 import Namespace, Pod, PodSpec
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta, OwnerReference
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION, NADSpec, NetworkAttachmentDefinition
from spiderpool.api.subnet import SUBNET_ANNOTATION
from spiderpool.core.annotations import POOL, POOLS
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.ipam.selection import DefaultPools, NamedPools
from spiderpool.core.network.address_requests import (
    AddressRequirement,
    RequirementRules,
    address_requests,
    requests_of,
    requirements,
)
from spiderpool.core.network.attachment import AttachmentPolicy

pytestmark = pytest.mark.unit

NETWORKS: dict[str, Any] = {
    "kube-system/a": {"type": "spiderpool"},
    "kube-system/b": {"type": "spiderpool", "default_ipv4_ippool": ["p", "q"], "default_ipv6_ippool": ["r"]},
    "kube-system/bare": None,
    "kube-system/other": {"type": "host-local"},
}
A, B = "addresses.spidernet.io/kube-system.a", "addresses.spidernet.io/kube-system.b"


def definition(key: str) -> NetworkAttachmentDefinition | None:
    if key not in NETWORKS:
        return None
    ipam = {"ipam": NETWORKS[key]} if NETWORKS[key] else {}
    kind = "bridge" if key.endswith("other") else "ipvlan"
    config = {"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": kind, "master": "eth0", **ipam}]}
    namespace, _, name = key.partition("/")
    return NetworkAttachmentDefinition(
        metadata=ObjectMeta(name=name, namespace=namespace), spec=NADSpec(config=json.dumps(config))
    )


RULES = RequirementRules(AttachmentPolicy("a", "kube-system"), AddressPolicy(families=(4, 6)), definition)


def pod(annotations: dict[str, str] | None = None, *, owner: str = "", **spec: Any) -> Pod:
    version = "kubevirt.io/v1" if owner == "VirtualMachineInstance" else "apps/v1"
    owners = [OwnerReference(apiVersion=version, kind=owner, name="o", uid="o", controller=True)] if owner else None
    metadata = ObjectMeta(name="p", namespace="default", uid="u", annotations=annotations, ownerReferences=owners)
    return Pod(metadata=metadata, spec=PodSpec(**spec))


def requested(annotations: dict[str, str] | None = None, **fields: Any) -> dict[str, int]:
    return dict(address_requests(pod(annotations, **fields), None, RULES))


def pools(**names: list[str]) -> str:
    return json.dumps(names)


def digest(network: str | None, *named: tuple[int, tuple[str, ...]]) -> str:
    return AddressRequirement(network, named).resource


class TestRequests:
    def test_a_pod_that_names_nothing_needs_one_of_the_default_network(self) -> None:
        assert requested() == {A: 1}

    def test_each_interface_needs_one(self) -> None:
        assert requested({NETWORKS_ANNOTATION: "kube-system/b, kube-system/a, kube-system/b"}) == {A: 2, B: 2}

    def test_interfaces_without_addresses_of_ours_need_none(self) -> None:
        assert requested({NETWORKS_ANNOTATION: "kube-system/bare, kube-system/other"}) == {A: 1}

    def test_pools_of_an_annotation_have_a_resource_of_their_own(self) -> None:
        one, other = requested({POOL: pools(ipv4=["x"])}), requested({POOL: pools(ipv4=["x"], ipv6=["y"])})
        assert one == {digest("kube-system/a", (4, ("x",))): 1}
        assert other == {digest("kube-system/a", (4, ("x",)), (6, ("y",))): 1}
        assert re.fullmatch(r"addresses\.spidernet\.io/pools-[0-9a-f]{32}", next(iter(one)))

    def test_the_network_counts_since_pools_may_be_for_one(self) -> None:
        assert digest("kube-system/a", (4, ("x",))) != digest("kube-system/b", (4, ("x",)))

    def test_naming_the_pools_of_the_network_changes_nothing(self) -> None:
        named = {DEFAULT_NETWORK_ANNOTATION: "b", POOL: pools(ipv4=["p", "q"], ipv6=["r"])}
        assert requested(named) == {B: 1}
        only_v4 = replace(RULES, addresses=AddressPolicy(families=(4,)))
        assert address_requests(pod(named), None, only_v4) == {B: 1}

    def test_pools_of_several_interfaces(self) -> None:
        listed = json.dumps([{"interface": "eth0", "ipv4": ["x"]}, {"interface": "net1", "ipv4": ["y"]}])
        found = requested({POOLS: listed, NETWORKS_ANNOTATION: "kube-system/b"})
        assert found == {digest("kube-system/a", (4, ("x",))): 1, digest("kube-system/b", (4, ("y",))): 1}

    def test_pools_of_the_namespace(self) -> None:
        annotations = {"ipam.spidernet.io/default-ipv4-ippool": '["x"]'}
        namespace = Namespace(metadata=ObjectMeta(name="default", annotations=annotations))
        assert address_requests(pod(), namespace, RULES) == {digest("kube-system/a", (4, ("x",))): 1}

    @pytest.mark.parametrize(
        "one",
        [
            pod(hostNetwork=True),
            pod(nodeName="n"),
            pod(owner="StatefulSet"),
            pod(owner="VirtualMachineInstance"),
            pod({DEFAULT_NETWORK_ANNOTATION: "missing"}),
            pod({DEFAULT_NETWORK_ANNOTATION: "other"}),
            pod({POOL: "{"}),
            pod({NETWORKS_ANNOTATION: "a@"}),
            pod({SUBNET_ANNOTATION: '{"ipv4": ["s"]}'}),
            pod(
                {NETWORKS_ANNOTATION: json.dumps([{"name": "b", "namespace": "kube-system", "ips": ["10.0.0.5"]}])},
                hostNetwork=True,
            ),
        ],
    )
    def test_these_pods_request_nothing(self, one: Pod) -> None:
        assert address_requests(one, None, RULES) == {}

    def test_a_stateful_pod_requests_where_its_address_goes_with_it(self) -> None:
        free = replace(RULES, addresses=AddressPolicy(families=(4,), statefulsets=False))
        assert address_requests(pod(owner="StatefulSet"), None, free) == {A: 1}
        assert requested(owner="ReplicaSet") == {A: 1}

    def test_one_very_address_is_on_no_node_or_one(self) -> None:
        text = json.dumps([{"name": "b", "namespace": "kube-system", "ips": ["10.0.0.5"]}])
        assert requested({NETWORKS_ANNOTATION: text}) == {A: 1}

    def test_pools_of_a_disabled_family_alone_are_refused_by_the_agent(self) -> None:
        only_v4 = replace(RULES, addresses=AddressPolicy(families=(4,)))
        assert address_requests(pod({POOL: pools(ipv6=["x"])}), None, only_v4) == {}

    def test_no_network_is_known_where_there_is_no_default(self) -> None:
        assert address_requests(pod(), None, replace(RULES, networks=AttachmentPolicy(None, "kube-system"))) == {}

    def test_a_pod_that_keeps_addresses_needs_them_all_the_same(self) -> None:
        assert requirements(pod(owner="StatefulSet", nodeName="n"), None, RULES) == {
            "eth0": AddressRequirement("kube-system/a")
        }


class TestNames:
    def test_a_long_name_is_replaced_by_a_digest(self) -> None:
        name = AddressRequirement(f"{'n' * 63}/{'x' * 63}").resource.partition("/")[2]
        assert re.fullmatch("[0-9a-f]{63}", name)

    def test_no_network_can_have_the_name_of_a_list_of_pools(self) -> None:
        assert "." in AddressRequirement("pools-0/x").resource.partition("/")[2]
        assert "." not in digest(None, (4, ("x",))).partition("/")[2]


def pool(subnet: str, **spec: Any) -> SpiderIPPool:
    return SpiderIPPool(metadata=ObjectMeta(name=subnet), spec=IPPoolSpec(subnet=subnet, **spec))


class TestRequestsOfARequirement:
    def test_the_default_pools_tell_the_families(self) -> None:
        both = [pool("10.0.0.0/24", default=True), pool("fd00::/64", default=True), pool("10.1.0.0/24")]
        requirement = AddressRequirement("kube-system/a")
        found = requests_of(requirement, RULES, both)
        assert [(each.version, each.candidates, each.network) for each in found] == [
            (4, DefaultPools(), "kube-system/a"),
            (6, DefaultPools(), "kube-system/a"),
        ]
        assert [each.version for each in requests_of(requirement, RULES, both[:1])] == [4]
        assert requests_of(requirement, RULES, []) == ()

    def test_the_network_names_pools(self) -> None:
        found = requests_of(AddressRequirement("kube-system/b"), RULES, [])
        assert [(each.version, each.candidates) for each in found] == [
            (4, NamedPools(("p", "q"))),
            (6, NamedPools(("r",))),
        ]

    def test_an_annotation_names_pools(self) -> None:
        (found,) = requests_of(AddressRequirement("kube-system/a", ((6, ("x*",)),)), RULES, [])
        assert (found.version, found.candidates, found.our_namespace) == (6, NamedPools(("x*",)), "kube-system")

    @pytest.mark.parametrize("network", ["kube-system/missing", "kube-system/bare", "kube-system/other", None])
    def test_networks_that_give_nothing(self, network: str | None) -> None:
        assert requests_of(AddressRequirement(network), RULES, [pool("10.0.0.0/24", default=True)]) == ()

    def test_a_malformed_network_gives_nothing(self) -> None:
        def broken(key: str) -> NetworkAttachmentDefinition | None:
            found = definition(key)
            return structs.replace(found, spec=NADSpec(config="{")) if found else None

        rules = replace(RULES, definition=broken)
        assert requests_of(AddressRequirement("kube-system/a"), rules, [pool("10.0.0.0/24", default=True)]) == ()

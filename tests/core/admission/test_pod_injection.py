"""Networks and resources that are injected into a new pod."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import NAD_NAME_ANNOTATION, NETWORK_INJECT, RDMA_INJECT, SpiderMultusConfig
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION
from spiderpool.api.pod_readiness import PodReadinessGate
from spiderpool.core.admission.pod_injection import (
    CannotInject,
    ContainerResources,
    InjectionRequest,
    NewPod,
    NewPodSpec,
    PodContainer,
    as_stored,
    injection_request,
    network_selector,
    with_address_requests,
    with_networks,
    with_nic_resources,
    with_readiness_gates,
)

pytestmark = pytest.mark.unit

RDMA = InjectionRequest(RDMA_INJECT, "ai")
PLAIN = InjectionRequest(NETWORK_INJECT, "ai")
POOLS = {"ipv4": ["p"]}


def config(name: str, cni_type: str, block: dict[str, Any] | None, **annotations: str) -> SpiderMultusConfig:
    field = {"ib-sriov": "ibsriov"}.get(cni_type, cni_type)
    spec = {"cniType": cni_type} | ({field: block} if block is not None else {})
    metadata = {"name": name, "namespace": "net", "annotations": annotations}
    return msgspec.convert({"metadata": metadata, "spec": spec}, SpiderMultusConfig)


def nic(name: str, master: str | list[str], resource: str | None = None, **more: Any) -> SpiderMultusConfig:
    masters = [master] if isinstance(master, str) else master
    return config(name, "macvlan", {"master": masters, "rdmaResourceName": resource, "ippools": POOLS, **more})


def pod(*containers: dict[str, Any], **annotations: str) -> NewPod:
    document = {"metadata": {"annotations": annotations or None}, "spec": {"containers": list(containers) or [{}]}}
    return msgspec.convert(document, NewPod)


def networks(made: NewPod) -> str:
    return (made.metadata.annotations or {})[NETWORKS_ANNOTATION]


def containers(made: NewPod) -> Any:
    return msgspec.to_builtins(made.spec.containers)


class TestInjectionRequest:
    @pytest.mark.parametrize(
        ("annotations", "expected"),
        [
            ({}, None),
            ({"other": "x"}, None),
            ({NETWORK_INJECT: "ai"}, PLAIN),
            ({NETWORK_INJECT: "a", RDMA_INJECT: "ai"}, RDMA),
            ({RDMA_INJECT: ""}, InjectionRequest(RDMA_INJECT, "")),
        ],
    )
    def test_the_annotation_for_rdma_wins(self, annotations: dict[str, str], expected: InjectionRequest | None) -> None:
        assert injection_request(annotations) == expected

    def test_the_value_must_be_a_label_value(self) -> None:
        assert network_selector(RDMA) == f"{RDMA_INJECT}=ai"
        with pytest.raises(CannotInject, match="write a value that a label may have"):
            network_selector(InjectionRequest(RDMA_INJECT, "a b"))


class TestNetworks:
    def test_they_have_the_order_of_the_nics(self) -> None:
        configs = [
            nic("z", "eth1", "r"),
            nic("a", "eth2", "r"),
            nic("bonded", ["eth8", "eth9"], "r", bond={"name": "bond0", "mode": 1}),
            config("vf", "sriov", {"resourceName": "a-resource", "ippools": POOLS}),
            config("ib", "ib-sriov", {"resourceName": "r2", "ippools": POOLS}),
        ]
        made = with_networks(pod(), "default", RDMA, configs)
        assert networks(made) == "net/ib,net/vf,net/bonded,net/z,net/a"
        assert containers(made) == [{"resources": {"limits": {"r2": "1", "a-resource": "1", "r": "1"}}}]

    def test_networks_without_a_nic_come_first(self) -> None:
        configs = [nic("a", "eth1", "r"), config("z", "ipoib", {"master": "ib0", "ippools": POOLS})]
        assert networks(with_networks(pod(), "default", RDMA, configs)) == "net/z,net/a"

    def test_a_network_is_named_by_its_network_attachment_definition(self) -> None:
        named = nic("a", "eth1", "r")
        named.metadata.annotations = {NAD_NAME_ANNOTATION: "other"}
        assert networks(with_networks(pod(), "default", RDMA, [named])) == "net/other"

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("", "net/a"),
            ("mine@net1", "mine@net1,net/a"),
            ("net/a@net3", "net/a@net3"),
            (
                '[{"name":"mine","ips":["10.6.0.9"]}]',
                [{"name": "mine", "ips": ["10.6.0.9"]}, {"namespace": "net", "name": "a"}],
            ),
            ('[{"name":"a","namespace":"net"}]', [{"name": "a", "namespace": "net"}]),
        ],
    )
    def test_networks_that_the_pod_names_itself_stay_first(self, before: str, after: Any) -> None:
        text = networks(with_networks(pod(**{NETWORKS_ANNOTATION: before}), "default", RDMA, [nic("a", "eth1", "r")]))
        assert (json.loads(text) if text.startswith("[") else text) == after

    def test_a_second_injection_changes_nothing(self) -> None:
        once = with_networks(pod(), "default", RDMA, [nic("a", "eth1", "r")])
        assert with_networks(once, "default", RDMA, [nic("a", "eth1", "r")]) == once

    def test_a_resource_that_a_container_has_already_is_not_added(self) -> None:
        used = ({"resources": {"limits": {"cpu": "1"}}}, {"resources": {"limits": {"r": "2"}}})
        configs = [nic("a", "eth1", "r"), nic("b", "eth2", "r2"), nic("c", "eth3", "r2")]
        made = with_networks(pod(*used), "default", RDMA, configs)
        assert containers(made) == [{"resources": {"limits": {"cpu": "1", "r2": "1"}}}, used[1]]

    def test_ipoib_has_no_resource_and_no_resource_is_needed_without_rdma(self) -> None:
        ipoib = config("ib", "ipoib", {"master": "ib0", "ippools": POOLS})
        assert containers(with_networks(pod(), "default", RDMA, [ipoib])) == [{}]
        assert containers(with_networks(pod(), "default", PLAIN, [nic("a", "eth1")])) == [{}]

    @pytest.mark.parametrize(
        ("configs", "reason"),
        [
            ([], "matches no SpiderMultusConfig"),
            ([nic("a", "eth1")], "net/a, which cannot be used: spec.macvlan"),
            ([nic("a", "eth1", "r", ippools={})], "needs at least one pool"),
            ([config("a", "ovs", {"bridge": "br"})], "spec.cniType"),
            ([config("a", "custom", None)], "spec.cniType"),
        ],
    )
    def test_a_network_that_cannot_be_injected_is_refused_with_the_reason(
        self, configs: list[SpiderMultusConfig], reason: str
    ) -> None:
        with pytest.raises(CannotInject) as refused:
            with_networks(pod(), "default", RDMA, configs)
        assert reason in refused.value.message
        assert RDMA_INJECT in refused.value.message

    def test_a_terminating_network_is_not_injected(self) -> None:
        leaving = nic("a", "eth1", "r")
        leaving.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
        with pytest.raises(CannotInject):
            with_networks(pod(), "default", RDMA, [leaving])

    def test_an_annotation_that_cannot_be_read_is_refused(self) -> None:
        with pytest.raises(CannotInject, match="no JSON list"):
            with_networks(pod(**{NETWORKS_ANNOTATION: "[1"}), "default", RDMA, [nic("a", "eth1", "r")])
        for many in (",".join("a" * 33), "[" + ",".join(['{"name": "a"}'] * 33) + "]"):
            with pytest.raises(CannotInject, match="names 33 networks; at most 32"):
                with_networks(pod(**{NETWORKS_ANNOTATION: many}), "default", RDMA, [nic("a", "eth1", "r")])


class TestNICs:
    CONFIGS = (nic("first", "eth1"), config("ib", "ipoib", {"master": "ib0"}), nic("bonded", ["eth2", "eth3"]))

    def test_each_nic_under_a_named_network_is_requested_once(self) -> None:
        annotated = pod(
            **{DEFAULT_NETWORK_ANNOTATION: "first", NETWORKS_ANNOTATION: "net/ib, net/bonded@net2, net/missing, first"}
        )
        made = with_nic_resources(annotated, "default", "net", self.CONFIGS)
        quantities = {f"spidernet.io/{name}-nic": "1" for name in ("eth1", "ib0", "eth2", "eth3")}
        assert containers(made) == [{"resources": {"limits": quantities, "requests": quantities}}]

    def test_a_nic_that_is_requested_already_is_not_added(self) -> None:
        user = {"resources": {"requests": {"spidernet.io/eth1-nic": "1"}}}
        annotated = pod({}, user, **{NETWORKS_ANNOTATION: "net/first"})
        assert with_nic_resources(annotated, "default", "net", self.CONFIGS) == annotated

    def test_a_network_without_a_nic_requests_none(self) -> None:
        annotated = pod(**{NETWORKS_ANNOTATION: "net/bridge"})
        bridge = config("bridge", "ovs", {"bridge": "br"})
        assert with_nic_resources(annotated, "default", "net", [bridge]) == annotated

    def test_a_pod_without_networks_is_unchanged(self) -> None:
        assert with_nic_resources(pod(), "default", "net", self.CONFIGS) == pod()


class TestAddressRequests:
    A, B = "addresses.spidernet.io/kube-system.a", "addresses.spidernet.io/kube-system.b"

    def test_the_first_container_requests_them(self) -> None:
        made = with_address_requests(pod({"resources": {"requests": {"cpu": "1"}}}, {}), {self.A: 1, self.B: 2})
        first, second = containers(made)
        assert first["resources"] == {
            "limits": {self.A: "1", self.B: "2"},
            "requests": {"cpu": "1", self.A: "1", self.B: "2"},
        }
        assert second == {}

    @pytest.mark.parametrize("field", ["limits", "requests"])
    def test_a_resource_that_the_pod_names_itself_stays_as_it_is(self, field: str) -> None:
        before = pod({}, {"resources": {field: {self.A: "1"}}})
        assert with_address_requests(before, {self.A: 2}) == before

    @pytest.mark.parametrize("much", ["100k", "1e5", 100_000])
    def test_a_pod_names_no_more_than_it_needs(self, much: str | int) -> None:
        """Otherwise it would take all that a node advertises."""
        document = {
            "spec": {
                "containers": [
                    {"resources": {"limits": {"cpu": "1"}}},
                    {"resources": {"limits": {self.A: much}, "requests": {self.A: much}}},
                    {"resources": {"limits": {self.A: much, self.B: much}}},
                ],
                "initContainers": [{}, {"resources": {"requests": {self.A: much}}}],
            }
        }
        made = with_address_requests(msgspec.convert(document, NewPod), {self.A: 2})
        assert [each.resources and msgspec.to_builtins(each.resources) for each in made.spec.containers] == [
            {"limits": {"cpu": "1"}},
            {"limits": {self.A: "2"}, "requests": {self.A: "2"}},
            {"limits": {self.A: "0", self.B: much}},
        ]
        assert [each.resources and each.resources.requests for each in made.spec.initContainers or ()] == [
            None,
            {self.A: "0"},
        ]

    def test_an_init_container_that_names_more_than_the_pod_needs(self) -> None:
        document = {"spec": {"containers": [{}], "initContainers": [{"resources": {"limits": {self.A: "100k"}}}]}}
        made = with_address_requests(msgspec.convert(document, NewPod), {self.A: 1})
        assert containers(made)[0]["resources"]["requests"] == {self.A: "1"}
        assert made.spec.initContainers == [PodContainer(resources=ContainerResources(limits={self.A: "0"}))]

    def test_a_pod_that_needs_none_is_unchanged(self) -> None:
        assert with_address_requests(pod(), {}) == pod()

    def test_the_pod_is_read_as_it_will_be_stored(self) -> None:
        document = {"metadata": {"generateName": "web-", "annotations": {"a": "b"}}, "spec": {"nodeName": "n"}}
        stored = as_stored(msgspec.convert(document, NewPod), "team")
        assert (stored.metadata.namespace, stored.metadata.annotations, stored.spec.nodeName) == (
            "team",
            {"a": "b"},
            "n",
        )
        assert as_stored(msgspec.convert({"spec": {"hostNetwork": True}}, NewPod), "team").spec.hostNetwork


def test_readiness_gates_are_added_to_those_of_the_pod() -> None:
    pod = NewPod(metadata=ObjectMeta(), spec=NewPodSpec(readinessGates=[PodReadinessGate("a")]))
    added = with_readiness_gates(pod, ["a", "b"])
    assert added.spec.readinessGates == [PodReadinessGate("a"), PodReadinessGate("b")]
    assert with_readiness_gates(added, ["b"]) is added

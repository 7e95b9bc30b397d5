"""The two kinds of load balancers side by side, and which one a Service asks for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.core_v1 import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus
from spiderpool.core.cloud.alibaba.annotations import BOTH, BY_KIND, CLASS, LEGACY_PREFIX
from spiderpool.core.cloud.alibaba.kinds import kind_of
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL
from spiderpool.core.cloud.loadbalancer.values import parameter_of
from tests.core.pretend_balancers import CONFIGURATION, KINDS, options, service

pytestmark = pytest.mark.unit

FULL: dict[str, dict[str, str]] = {
    "clb": {
        "address-type": "internet",
        "vswitch-id": "vsw-1",
        "ip": "192.168.0.9",
        "master-zoneid": "h",
        "slave-zoneid": "i",
        "resource-group-id": "rg-1",
        "instance-charge-type": "PayBySpec",
        "charge-type": "paybybandwidth",
    },
    "nlb": {
        "zone-maps": "h:vsw-h:10.0.0.9:eip-1,i:vsw-i",
        "resource-group-id": "rg-1",
        "security-group-ids": "sg-1",
        "bandwidth-package-id": "cbwp-1",
        "address-type": "internet",
        "ipv6-address-type": "internet",
    },
}


@pytest.mark.parametrize("kind", BOTH)
def test_what_can_be_changed_is_changed_by_one_call_each(kind: str) -> None:
    found = KINDS[kind]
    changeable = [parameter for parameters in found.aspects.values() for parameter in parameters]
    assert sorted(changeable) == sorted(map(parameter_of, found.settings(options(kind, FULL[kind]), "web")))


@pytest.mark.parametrize("kind", BOTH)
def test_what_cannot_be_changed_is_explained_by_an_annotation(kind: str) -> None:
    found, private = KINDS[kind], {**FULL[kind], "address-type": "intranet"}
    assert sorted(map(parameter_of, found.fixed(options(kind, private)))) == sorted(found.annotation_of)
    assert set(found.annotation_of.values()) <= BY_KIND[kind].keys()


@pytest.mark.parametrize("kind", BOTH)
def test_no_parameter_is_both(kind: str) -> None:
    found, requested = KINDS[kind], options(kind, FULL[kind])
    parameters = [*found.creation(requested, CONFIGURATION), *found.fixed(requested), *found.settings(requested, "web")]
    assert len(parameters) == len(set(parameters))


def test_a_health_check_belongs_to_the_listener_or_to_the_group() -> None:
    requested = {kind: options(kind, {"healthy-threshold": "4"}) for kind in BOTH}
    assert KINDS["clb"].listener("tcp", requested["clb"])["HealthyThreshold"] == "4"
    assert KINDS["nlb"].group("tcp", requested["nlb"])["HealthCheckConfig.HealthyThreshold"] == "4"


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({}, "clb"),
        ({"loadBalancerClass": ""}, "clb"),
        ({"type": "ClusterIP"}, None),
        ({"type": "NodePort", "loadBalancerClass": "alibabacloud.com/nlb"}, None),
        ({"loadBalancerClass": "alibabacloud.com/nlb"}, "nlb"),
        ({"loadBalancerClass": "example.com/other"}, None),
        ({"annotations": {CLASS: "mine"}}, None),
        ({"annotations": {CLASS: ""}}, "clb"),
        ({"annotations": {CLASS: "mine"}, "loadBalancerClass": "alibabacloud.com/nlb"}, "nlb"),
        ({"annotations": {"type": "NLB"}}, "nlb"),
        ({"annotations": {"type": "clb"}}, "clb"),
        ({"annotations": {"type": " Nlb "}}, "nlb"),
        ({"annotations": {"type": " "}}, "clb"),
        ({"annotations": {"id": " nlb-1 "}}, "nlb"),
        ({"annotations": {"id": " "}}, "clb"),
        ({"loadBalancerClass": "example.com/other", "annotations": {"type": "nlb"}}, None),
        ({"annotations": {"type": "nlb", CLASS: "mine"}}, None),
        ({"annotations": {"type": "nlb", CLASS: ""}}, "nlb"),
        ({"annotations": {f"{LEGACY_PREFIX}type": "NLB"}}, "nlb"),
        ({"annotations": {f"{LEGACY_PREFIX}type": "nlb", "type": "clb"}}, "clb"),
    ],
)
def test_a_service_asks_for_one_kind(spec: dict[str, Any], kind: str | None) -> None:
    assert kind_of(service({"port": 80}, **spec)) is (KINDS[kind] if kind else None)


NLB_NAME = "nlb-1.cn-hangzhou.nlb.aliyuncs.com"
CLB_FINALIZER, NLB_FINALIZER = (KINDS[kind].naming.finalizer for kind in BOTH)


def having(*finalizers: str, label: str = "", ingress: dict[str, str] | None = None, **spec: Any) -> Service:
    """A Service with finalizers, the identity of a balancer in its label, and a published address."""
    found = service({"port": 80}, **spec)
    found.metadata.finalizers = [*finalizers]
    found.metadata.labels = {IDENTITY_LABEL: label} if label else {}
    given = [msgspec.convert(ingress, LoadBalancerIngress)] if ingress else None
    return msgspec.structs.replace(found, status=ServiceStatus(LoadBalancerStatus(given)))


@pytest.mark.parametrize("default", BOTH)
@pytest.mark.parametrize(
    ("requested", "kind"),
    [
        (having(CLB_FINALIZER), "clb"),
        (having(NLB_FINALIZER), "nlb"),
        (having(CLB_FINALIZER, NLB_FINALIZER, label="lb-1"), "clb"),
        (having(CLB_FINALIZER, NLB_FINALIZER, label="nlb-1"), "nlb"),
        (having(CLB_FINALIZER, NLB_FINALIZER, label="lb-1", ingress={"hostname": NLB_NAME}), "nlb"),
        (having(CLB_FINALIZER, NLB_FINALIZER, label="nlb-1", ingress={"ip": "198.51.100.7"}), "clb"),
        (having(CLB_FINALIZER, NLB_FINALIZER, label="nlb-1", ingress={"hostname": "shop.example.com"}), "nlb"),
        (having(label="lb-1"), "clb"),
        (having(label="nlb-1"), "nlb"),
        (having(ingress={"ip": "198.51.100.7"}), "clb"),
        (having(ingress={"hostname": "shop.example.com"}), "clb"),
        (having(ingress={"hostname": NLB_NAME}), "nlb"),
        (having(annotations={"id": "lb-1"}), "clb"),
        (having(annotations={"id": "nlb-1"}), "nlb"),
        (having(CLB_FINALIZER, annotations={"id": "nlb-1"}), "clb"),
        (having(annotations={"type": "clb"}), "clb"),
        (having(NLB_FINALIZER, annotations={"type": "clb"}), "clb"),
        (having(CLB_FINALIZER, annotations={"type": "nlb"}), "nlb"),
        (having(annotations={f"{LEGACY_PREFIX}type": "clb"}), "clb"),
        (having(NLB_FINALIZER, annotations={"type": "nlb", CLASS: "mine"}), None),
        (having(CLB_FINALIZER, annotations={"type": "nonsense"}), "clb"),
        (having(CLB_FINALIZER, annotations={CLASS: "mine"}), None),
        (having(CLB_FINALIZER, loadBalancerClass="alibabacloud.com/nlb"), "nlb"),
        (having(CLB_FINALIZER, type="ClusterIP"), None),
    ],
)
def test_what_a_service_has_or_names_does_not_depend_on_the_default(
    requested: Service, kind: str | None, default: str
) -> None:
    assert kind_of(requested, default=default) is (KINDS[kind] if kind else None)


@pytest.mark.parametrize("default", BOTH)
def test_a_service_without_a_balancer_that_names_no_kind_gets_the_default(default: str) -> None:
    assert kind_of(having(), default=default) is KINDS[default]
    assert kind_of(having(annotations={CLASS: ""}), default=default) is KINDS[default]
    assert kind_of(having(annotations={"type": "nonsense"}), default=default) is KINDS[default]

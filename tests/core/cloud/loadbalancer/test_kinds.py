"""What a Service's annotations ask of a kind of balancer."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE, PREFIX
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.kinds import (
    BalancerKind,
    BalancerOptions,
    affinity_seconds,
    options_of,
    read_options,
)
from tests.core.pretend_balancers import HTTP, service

pytestmark = pytest.mark.unit


def read(annotations: dict[str, str], kind: BalancerKind = CLB) -> BalancerOptions:
    return read_options({PREFIX + key: value for key, value in annotations.items()}, kind)


def test_a_value_or_the_default() -> None:
    options = read({"bandwidth": " 07 "})
    assert (options["bandwidth"], options["scheduler"]) == ("7", "wrr")
    assert options.given == {"bandwidth": "7"}


def test_annotations_that_only_one_kind_has() -> None:
    assert read({"hostname": "web.example.com"}).get("hostname") == "web.example.com"
    assert read({}, NLB).get("hostname") == ""
    assert read({}, NLB).list("forward-port") == ()
    with pytest.raises(KeyError):
        read({}, NLB)["hostname"]


def test_switches_and_lists() -> None:
    options = read({"acl-status": "on", "acl-id": "acl-1, acl-2"})
    assert (options.on("acl-status"), options.on("sticky-session")) == (True, False)
    assert (options.list("acl-id"), options.list("backend-label")) == (("acl-1", "acl-2"), ())
    assert options.annotation("acl-id") == f"{PREFIX}acl-id"


def test_a_value_that_is_not_valid_is_a_fault_and_not_given() -> None:
    options = read({"bandwidth": "many"})
    assert options.faults == (f"annotation {PREFIX}bandwidth must be a whole number, 1–5120 Mbit/s, not 'many'",)
    assert (options.given, options.backends_valid, [*options.unread]) == ({}, True, ["bandwidth"])
    assert not read({"default-weight": "many"}).backends_valid


@pytest.mark.parametrize(("text", "pods"), [(None, None), ("eni", True), ("ecs", False)])
def test_pods_or_nodes(text: str | None, pods: bool | None) -> None:
    assert read_options({} if text is None else {BACKEND_TYPE: text}, CLB).pods is pods


def test_a_backend_type_that_there_is_not() -> None:
    options = read_options({BACKEND_TYPE: "pod"}, CLB)
    assert options.faults == (f"annotation {BACKEND_TYPE} must be eni (pods) or ecs (nodes), not 'pod'",)
    assert not options.backends_valid


@pytest.mark.parametrize(
    ("kind", "spec", "annotations", "given"),
    [
        (CLB, {}, {}, {}),
        (CLB, {"sessionAffinity": "None"}, {}, {}),
        (CLB, {"sessionAffinity": "ClientIP"}, {}, {"persistence-timeout": "3600"}),
        (NLB, {"sessionAffinity": "ClientIP"}, {}, {"scheduler": "sch"}),
        (CLB, {"sessionAffinity": "ClientIP"}, {"persistence-timeout": "9"}, {"persistence-timeout": "9"}),
        (
            CLB,
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}},
            {"bandwidth": "7"},
            {"persistence-timeout": "60", "bandwidth": "7"},
        ),
    ],
)
def test_fields_of_a_service_stand_for_annotations(
    kind: BalancerKind, spec: dict[str, Any], annotations: dict[str, str], given: dict[str, str]
) -> None:
    assert options_of(service(HTTP, annotations=annotations, **spec), kind).given == given


def test_a_client_is_kept_for_as_long_as_kubernetes_does_where_nobody_says_it() -> None:
    assert affinity_seconds(service(HTTP, sessionAffinity="ClientIP")) == 10800
    assert affinity_seconds(service(HTTP, sessionAffinityConfig={"clientIP": {}})) == 10800


def test_a_kind_is_printed_by_its_name_and_equal_to_itself_alone() -> None:
    assert (str(CLB), repr(NLB)) == ("clb", "nlb")
    assert {CLB: 1, NLB: 2}[NLB] == 2


def test_source_ranges_are_annotations_that_name_a_list_of_the_service() -> None:
    ranges = ["10.0.0.0/8", "2001:db8::/32"]
    found = options_of(service(HTTP, loadBalancerSourceRanges=ranges), CLB)
    assert found.sources == {"10.0.0.0/8"}
    assert found.given["acl-id"] == "k8s-clb-a0a1b2c3d4e5f60718293a4b5c6d7e8f"
    both = service(HTTP, loadBalancerSourceRanges=ranges, annotations={"ip-version": "dualstack"})
    assert options_of(both, NLB).sources == {*ranges}
    assert options_of(both, NLB).list("security-group-ids") == ("k8s-nlb-a0a1b2c3d4e5f60718293a4b5c6d7e8f",)


def test_annotations_that_say_who_is_admitted_stay_beside_source_ranges() -> None:
    given = service(HTTP, loadBalancerSourceRanges=["10.0.0.0/8"], annotations={"acl-status": "off"})
    assert (options_of(given, CLB).sources, options_of(given, CLB).given) == (frozenset(), {"acl-status": "off"})
    assert options_of(service(HTTP, loadBalancerSourceRanges=["0.0.0.0/0"]), CLB).given == {}

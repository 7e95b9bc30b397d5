from __future__ import annotations

import re

import pytest

from spiderpool_lab import conformance_tests
from spiderpool_lab.conformance_tests import plan

pytestmark = pytest.mark.unit

LISTED = """\
The following spec names can be used with 'ginkgo run --focus/skip':
    k8s.io/kubernetes@v1.37.2/test/e2e/network/dns.go:55: [sig-network] DNS should provide DNS for the cluster [Conformance]
    k8s.io/kubernetes@v1.37.2/test/e2e/network/dns.go:81: [sig-network] DNS should provide DNS for the cluster [Provider:gce]
    k8s.io/kubernetes@v1.37.2/test/e2e/network/ingressclass.go:51: [sig-network] DefaultIngressClass should set default value [Serial]
    k8s.io/kubernetes@v1.37.2/test/e2e/network/netpol/network_policy.go:1: [sig-network] Netpol NetworkPolicy should deny ingress
    k8s.io/kubernetes@v1.37.2/test/e2e/common/node/pods.go:208: [sig-node] Pods should get a host IP [NodeConformance]
    k8s.io/kubernetes@v1.37.2/test/e2e/apps/cronjob.go:1: [sig-apps] CronJob should be able to schedule

"""  # noqa: E501  # as the program prints it
DNS = "[sig-network] DNS should provide DNS for the cluster [Conformance]"


def test_names_are_read_without_their_place() -> None:
    names = conformance_tests.listed(LISTED)
    assert names[0] == DNS
    assert len(names) == 6


def test_what_calls_itself_slow_has_more_time() -> None:
    assert conformance_tests.limit_of(DNS, 600.0) == 600.0
    assert (
        conformance_tests.limit_of("[sig-node] Pods should cap back-off at MaxContainerBackOff [Slow]", 600.0) == 2400.0
    )


def test_tests_of_other_subjects_are_no_part_of_the_plan_and_order_is_by_weight() -> None:
    chosen = plan(conformance_tests.listed(LISTED)[::-1])
    assert chosen.run == (
        DNS,
        "[sig-node] Pods should get a host IP [NodeConformance]",
        "[sig-network] DefaultIngressClass should set default value [Serial]",
    )
    assert chosen.left_out == {
        "[sig-network] DNS should provide DNS for the cluster [Provider:gce]": "is for Google's cloud",
        "[sig-network] Netpol NetworkPolicy should deny ingress": "NetworkPolicy is not supported",
    }


def test_a_focus_limits_the_plan() -> None:
    assert plan(conformance_tests.listed(LISTED), r"host IP").run == (
        "[sig-node] Pods should get a host IP [NodeConformance]",
    )


def test_no_conformance_test_is_left_out() -> None:
    assert conformance_tests.reason_to_leave_out(DNS) is None
    assert not any("Conformance" in part for part in conformance_tests.LEFT_OUT)


def test_the_focus_of_a_name_matches_it_and_no_longer_one() -> None:
    name = '[sig-node] Probing *not* a "cat /tmp" probe (x|y) 1.5? {a} ^ $ + \\'
    assert re.search(conformance_tests.focus_of(name), f"Kubernetes e2e suite {name}")
    assert re.search(conformance_tests.focus_of(name), f"{name} "), "some end with a blank, which lists do not show"
    assert not re.search(conformance_tests.focus_of(name), f"{name} again")
    assert "\\ " not in conformance_tests.focus_of(name), "Go refuses to escape a space"


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        (DNS, "[sig-network] … [Conformance]"),
        ("[sig-network] [Feature:IPv6DualStack] should create pod", "[sig-network] [Feature:IPv6DualStack]"),
        ("[sig-network] LoadBalancers ExternalTrafficPolicy: Local", "[sig-network] LoadBalancers"),
    ],
)
def test_tests_are_counted_under_their_subject(name: str, subject: str) -> None:
    assert conformance_tests.subject(name) == subject


def test_a_cause_outside_the_network_is_one_of_the_lab_or_of_design() -> None:
    assert (conformance_tests.cause_outside("Services should be rejected for evicted pods") or "").startswith("lab: ")
    design = conformance_tests.cause_outside("LoadBalancers should handle load balancer cleanup finalizer for service")
    assert (design or "").startswith("by design: ")
    assert conformance_tests.cause_outside(DNS) is None

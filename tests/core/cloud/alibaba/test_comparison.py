"""The comparison with the cloud's own controller names every annotation and field, and the page is made from it."""

from __future__ import annotations

import msgspec
import pytest
from scripts import generate_annotations

from spiderpool.api.core_v1 import ServiceSpec
from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.alibaba.annotations import ANNOTATIONS, BOTH, BY_KIND, CLB, NLB, UNSUPPORTED
from spiderpool.core.cloud.alibaba.comparison import DIFFERENCES, FIELDS, LEFT_ALONE, LEFT_ALONE_HERE, differences
from spiderpool.core.cloud.loadbalancer.kinds import read_options

pytestmark = pytest.mark.unit

THERE = """
address-type id force-override-listeners name resource-group-id additional-resource-tags delete-protection
modification-protection preserve-lb-on-delete vswitch-id master-zoneid slave-zoneid ip hostname ip-version spec
instance-charge-type charge-type bandwidth external-ip-type network-type slb-network-type type zone-maps
security-group-ids bandwidth-package-id ipv6-address-type cross-zone-enabled protocol-port forward-port cert-id
tls-cipher-policy additional-cert-ids domain-extensions cacert cacert-id alpn alpn-policy cps proxy-protocol
listener-port-range http2-enabled idle-timeout request-timeout xforwardedfor-proto xforwardedfor-slbport
xforwardedfor-clientsrcport scheduler persistence-timeout established-timeout sticky-session sticky-session-type
cookie cookie-timeout acl-status acl-id acl-type connection-drain connection-drain-timeout health-check-flag
health-check-switch health-check-type health-check-uri health-check-connect-port health-check-domain
health-check-method health-check-httpcode health-check-interval health-check-timeout health-check-connect-timeout
healthy-threshold unhealthy-threshold backend-label default-weight ignore-weight-update remove-unscheduled-backend
vgroup-port weight server-group-type preserve-client-ip backend-ip-version
"""
"""The annotations with the prefix that the cloud's own controller reads, without those that are named by a prefix."""
NOT_THE_BALANCERS = {"clusterIP", "clusterIPs", "externalName", "internalTrafficPolicy"}
"""Fields of a Service that are kube-proxy's and the API server's."""


def test_every_annotation_of_the_other_controller_is_known_or_refused_by_name() -> None:
    ours = {each.suffix for each in ANNOTATIONS} | UNSUPPORTED.keys()
    assert {*THERE.split()} - ours == set()
    assert not UNSUPPORTED.keys() & {each.suffix for each in ANNOTATIONS}


@pytest.mark.parametrize("each", DIFFERENCES, ids=lambda each: each.suffix)
def test_a_difference_is_about_an_annotation_of_its_kinds(each: object) -> None:
    (difference,) = [found for found in DIFFERENCES if found is each]
    assert all(difference.suffix in BY_KIND[kind] for kind in difference.kinds)


def test_a_difference_of_one_kind_says_so_where_the_row_is_for_both() -> None:
    row = {each.suffix: each for each in ANNOTATIONS if len(each.kinds) > 1}
    assert list(differences(row["delete-protection"])) == [
        f"C: {LEFT_ALONE}",
        "N: there always on, whatever the annotation says",
    ]
    assert list(differences(row["backend-label"])) == []
    assert list(differences(row["health-check-uri"])) == [LEFT_ALONE]


@pytest.mark.parametrize("name", BOTH)
def test_a_default_that_is_enforced_here_is_a_difference(name: str) -> None:
    kind = {CLB: kinds.CLB, NLB: kinds.NLB}[(name,)]
    sources = kind.set_by
    changeable = {*sources.balancer.values(), *sources.listener.values(), *sources.group.values()}
    alone = {suffix for of_kind, suffix in LEFT_ALONE_HERE if of_kind == name}
    enforced = [
        each for each in ANNOTATIONS if name in each.kinds and each.suffix in changeable - alone and each.default
    ]
    assert enforced
    absent = read_options({}, kind)
    sent = {*kind.settings(absent, "name")}.union(*(kind.listener(each, absent) for each in ("tcp", "udp")))
    sources_of = {**sources.balancer, **sources.listener, **sources.group}
    assert alone.isdisjoint(sources_of[each] for each in sent if each in sources_of)
    assert [each.suffix for each in enforced if not any(differences(each))] == []


def test_every_field_of_a_service_is_compared() -> None:
    named = {each.name.removeprefix("spec.") for each in FIELDS if each.name.startswith("spec.")}
    assert {field.name for field in msgspec.structs.fields(ServiceSpec)} - named == NOT_THE_BALANCERS


def test_what_is_different_or_refused_says_how_and_nothing_else_does() -> None:
    assert [each.name for each in FIELDS if (each.verdict == "same") == bool(each.text)] == []


def test_only_what_is_in_manifests_is_quoted() -> None:
    rows = generate_annotations.page().split("\n")
    (tags,) = [row for row in rows if row.startswith("| tags ")]
    assert tags.startswith("| tags `kubernetes.do.not.delete`, `ack.aliyun.com`, `kubernetes.reused.by.user` |")


def test_the_page_is_made_from_the_tables() -> None:
    page = generate_annotations.page()
    assert generate_annotations.PAGE.read_text() == page, "run: python -m scripts.generate_annotations"

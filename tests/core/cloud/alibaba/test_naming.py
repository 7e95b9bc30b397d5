"""Names, tags and descriptions by which a balancer and its parts are known to be ours."""

from __future__ import annotations

import hashlib

import pytest

from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.alibaba.naming import (
    Naming,
    balancer_name,
    is_made_for_another,
    own_tags,
)
from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, MadeBalancer, ObservedLoadBalancer
from tests.core.pretend_balancers import UID

pytestmark = pytest.mark.unit

CLB = Naming("clb-finalizer", separator="/", names_protocol=False)
NLB = Naming("nlb-finalizer", separator=".", names_protocol=True)
NAMINGS = {"clb": CLB, "nlb": NLB}

WEB = BalancerOwner("default", "web", UID, "c1")
LONG = BalancerOwner("n" * 63, "s" * 63, UID, "c1")


def test_a_balancer_is_called_after_its_service() -> None:
    assert balancer_name(WEB) == "a0a1b2c3d4e5f60718293a4b5c6d7e8f"
    assert len(balancer_name(WEB)) == 32
    assert own_tags(WEB) == {
        "kubernetes.do.not.delete": "a0a1b2c3d4e5f60718293a4b5c6d7e8f",
        "ack.aliyun.com": "c1",
    }


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({**own_tags(WEB), **CLB.origin_tags(WEB)}, MadeBalancer("lb-1", "clb", balancer_name(WEB), "default")),
        (own_tags(WEB), MadeBalancer("lb-1", "clb", balancer_name(WEB), "")),
        (CLB.preserved_tags(WEB), MadeBalancer("lb-1", "clb", "", "default")),
        ({**own_tags(WEB), **CLB.preserved_tags(WEB)}, MadeBalancer("lb-1", "clb", balancer_name(WEB), "default")),
        ({"ack.aliyun.com": "c1"}, MadeBalancer("lb-1", "clb", "", "")),
        (CLB.origin_tags(WEB), None),
        ({**own_tags(WEB), "ack.aliyun.com": "c2"}, None),
        ({"spiderpool.made-for": "c2/default/preserved"}, None),
        ({"kubernetes.reused.by.user": "true", "team": "x"}, None),
        ({}, None),
    ],
)
def test_which_balancers_were_made_for_a_cluster(tags: dict[str, str], found: MadeBalancer | None) -> None:
    assert CLB.made("clb", "lb-1", tags, "c1") == found


def test_the_tags_of_a_service_are_known_by_a_record() -> None:
    tags = CLB.recorded({"team": "x", "cost": "", "ack.aliyun.com": "c2", "spiderpool.tags.x": "y"}, WEB)
    (record,) = tags.keys() - {"team", "cost"}
    assert len(tags[record].split(".")[0]) == 20, "nobody finds another key with the same digest"
    assert CLB.recorded_keys({**tags, "stage": "prod"}, WEB) == {"team", "cost", record}
    assert CLB.recorded_keys({**tags, **own_tags(WEB)}, LONG) == frozenset()
    assert CLB.recorded({}, WEB) == {}
    assert CLB.recorded({"ack.aliyun.com": "c2"}, WEB) == {}


def test_a_record_fits_into_a_tag() -> None:
    tags = CLB.recorded({f"{number}{'k' * 63}": "" for number in range(8)}, LONG)
    assert max(len(key) for key in tags) <= 64
    assert max(len(value) for value in tags.values()) <= 128
    records = [key for key in tags if key.startswith("spiderpool.tags.")]
    assert len(records) == 2
    assert CLB.recorded_keys({**tags, "theirs": ""}, LONG) == tags.keys()
    assert CLB.recorded_keys(tags, WEB) == frozenset()


def test_nobody_has_our_tags_removed_by_a_record() -> None:
    record, value = next(iter(CLB.recorded({"x": ""}, WEB).items() - {("x", "")}))
    forged = hashlib.sha256(b"ack.aliyun.com").hexdigest()[: len(value)]
    assert CLB.recorded_keys({**own_tags(WEB), record: forged}, WEB) == {record}


@pytest.mark.parametrize(
    ("tags", "another"),
    [
        ({}, False),
        ({"team": "x"}, False),
        ({**own_tags(WEB), **CLB.origin_tags(WEB)}, False),
        (CLB.origin_tags(WEB), False),
        (CLB.preserved_tags(WEB), True),
        ({"spiderpool.made-for": "c1/other"}, True),
        ({"kubernetes.do.not.delete": "another"}, True),
    ],
)
def test_a_name_alone_does_not_make_a_balancer_ones_own(tags: dict[str, str], another: bool) -> None:
    assert is_made_for_another(tags, WEB) is another


def test_marks_on_a_service() -> None:
    assert [kinds.CLB.naming.finalizer, kinds.NLB.naming.finalizer] == [
        "service.k8s.alibaba/resources",
        "service.k8s.alibaba/nlb",
    ]
    assert CLB.identity_label == "service.k8s.alibaba/loadbalancer-id"
    assert (CLB.balancer_name(WEB), CLB.own_tags(WEB)) == (balancer_name(WEB), own_tags(WEB))


NAMED = {"kubernetes.do.not.delete": balancer_name(WEB)}


@pytest.mark.parametrize(
    ("tags", "own", "made"),
    [
        ({**NAMED, "ack.aliyun.com": "c1", "team": "x"}, True, True),
        (NAMED, False, True),
        ({**NAMED, "ack.aliyun.com": "c2"}, False, True),
        ({"kubernetes.do.not.delete": "another", "ack.aliyun.com": "c1"}, False, True),
        ({"team": "x", "kubernetes.reused.by.user": "true"}, False, False),
    ],
)
def test_whose_a_balancer_is(tags: dict[str, str], own: bool, made: bool) -> None:
    observed = ObservedLoadBalancer("lb-1", balancer_name(WEB), "198.51.100.1", tags=tags)
    assert (CLB.is_own(observed, WEB), CLB.is_made_by_controller(observed)) == (own, made)


@pytest.mark.parametrize(
    ("name", "tags", "named", "other"),
    [
        (balancer_name(WEB), {}, True, ""),
        ("shop", {}, False, ""),
        ("shop", NAMED, True, ""),
        ("shop", {**NAMED, "ack.aliyun.com": "c1"}, True, ""),
        ("shop", {**NAMED, "ack.aliyun.com": "c0"}, True, "c0"),
        (balancer_name(WEB), {"ack.aliyun.com": "c0"}, True, "c0"),
        ("shop", {"ack.aliyun.com": "c0"}, False, ""),
    ],
)
def test_for_which_cluster_a_balancer_was_made(name: str, tags: dict[str, str], named: bool, other: str) -> None:
    observed = ObservedLoadBalancer("lb-1", name, "198.51.100.1", tags=tags)
    assert (CLB.is_named_after(observed, WEB), CLB.other_cluster(observed, WEB)) == (named, other)


@pytest.mark.parametrize(
    ("method", "kind", "port", "name"),
    [
        ("part_name", "clb", 80, "k8s/80/web/default/c1"),
        ("part_name", "nlb", 80, "k8s.80.TCP.web.default.c1"),
        ("group_name", "clb", 30698, "k8s/30698/web/default/c1"),
        ("group_name", "nlb", 30698, "k8s.30698.tcp.web.default.c1"),  # as its kind spells the protocol
        ("group_name", "clb", "http", "k8s/http/web/default/c1"),
    ],
)
def test_names_of_listeners_and_groups(method: str, kind: str, port: int | str, name: str) -> None:
    naming = NAMINGS[kind]
    make = naming.part_name if method == "part_name" else naming.group_name
    assert make(port, "tcp", WEB) == name
    assert naming.is_part_of(name, WEB)


@pytest.mark.parametrize(
    ("kind", "name", "any_of_ours"),
    [
        ("clb", "k8s/80/web2/default/c1", True),
        ("clb", "k8s/80/my-web/default/c1", True),
        ("clb", "k8s/80/web/other/c1", True),
        ("clb", "k8s/80/x/web/default/c1", True),
        ("clb", "k8s/80/web/default/c2", False),
        ("clb", "web/default/c1", False),
        ("clb", "mine", False),
        ("clb", "", False),
        ("clb", "k8s.80.tcp.web.default.c1", False),
        ("nlb", "k8s.80.tcp.web2.default.c1", True),
        ("nlb", "k8s.80.tcp.x.web.default.c1", True),
        ("nlb", "k8s.80.web.default.c1", True),
        ("nlb", "k8s.80.tcp.web.default.c2", False),
        ("nlb", "k8s/80/web/default/c1", False),
    ],
)
def test_parts_of_others(kind: str, name: str, any_of_ours: bool) -> None:
    assert not NAMINGS[kind].is_part_of(name, WEB)
    assert NAMINGS[kind].is_part_of_any(name, "c1") is any_of_ours


@pytest.mark.parametrize("naming", [CLB, NLB])
def test_names_that_are_too_long_carry_a_digest(naming: Naming) -> None:
    name = naming.group_name(80, "tcp", LONG)
    assert len(naming.part_name(80, "tcp", LONG)) > 128 >= len(name)
    assert naming.is_part_of(name, LONG)
    assert not naming.is_part_of(name, BalancerOwner("n" * 63, "t" * 63, UID, "c1"))
    assert naming.group_name(80, "tcp", LONG) != naming.group_name(81, "tcp", LONG)


def test_a_cluster_may_be_called_with_separators() -> None:
    odd = BalancerOwner("default", "web", UID, "c.1/x")
    for naming in NAMINGS.values():
        assert naming.is_part_of(naming.part_name(80, "tcp", odd), odd)

"""Names, tags and descriptions by which a balancer and its parts are known to be ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spiderpool.core.cloud.alibaba.naming import (
    FINALIZERS,
    IDENTITY_LABEL,
    balancer_name,
    group_name,
    is_made_by_controller,
    is_own,
    is_part_of,
    is_part_of_any,
    own_tags,
    part_name,
)
from spiderpool.core.cloud.loadbalancer.annotations import BOTH
from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, Kind, ObservedLoadBalancer
from tests.core.pretend_balancers import UID

pytestmark = pytest.mark.unit

WEB = BalancerOwner("default", "web", UID, "c1")
LONG = BalancerOwner("n" * 63, "s" * 63, UID, "c1")


def test_a_balancer_is_called_after_its_service() -> None:
    assert balancer_name(WEB) == "a0a1b2c3d4e5f60718293a4b5c6d7e8f"
    assert len(balancer_name(WEB)) == 32
    assert own_tags(WEB) == {
        "kubernetes.do.not.delete": "a0a1b2c3d4e5f60718293a4b5c6d7e8f",
        "ack.aliyun.com": "c1",
    }


def test_marks_on_a_service() -> None:
    assert FINALIZERS == {"clb": "service.k8s.alibaba/resources", "nlb": "service.k8s.alibaba/nlb"}
    assert IDENTITY_LABEL == "service.k8s.alibaba/loadbalancer-id"


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
    seen = ObservedLoadBalancer("lb-1", balancer_name(WEB), "198.51.100.1", tags=tags)
    assert (is_own(seen, WEB), is_made_by_controller(seen)) == (own, made)


@pytest.mark.parametrize(
    ("make", "kind", "port", "name"),
    [
        (part_name, "clb", 80, "k8s/80/web/default/c1"),
        (part_name, "nlb", 80, "k8s.80.tcp.web.default.c1"),
        (group_name, "clb", 30698, "k8s/30698/web/default/c1"),
        (group_name, "nlb", 30698, "k8s.30698.tcp.web.default.c1"),
        (group_name, "clb", "http", "k8s/http/web/default/c1"),
    ],
)
def test_names_of_listeners_and_groups(
    make: Callable[[Kind, int | str, str, BalancerOwner], str], kind: Kind, port: int | str, name: str
) -> None:
    assert make(kind, port, "tcp", WEB) == name
    assert is_part_of(kind, name, WEB)


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
def test_parts_of_others(kind: Kind, name: str, any_of_ours: bool) -> None:
    assert not is_part_of(kind, name, WEB)
    assert is_part_of_any(kind, name, "c1") is any_of_ours


@pytest.mark.parametrize("kind", BOTH)
def test_names_that_are_too_long_carry_a_digest(kind: Kind) -> None:
    name = group_name(kind, 80, "tcp", LONG)
    assert len(part_name(kind, 80, "tcp", LONG)) > 128 >= len(name)
    assert is_part_of(kind, name, LONG)
    assert not is_part_of(kind, name, BalancerOwner("n" * 63, "t" * 63, UID, "c1"))
    assert group_name(kind, 80, "tcp", LONG) != group_name(kind, 81, "tcp", LONG)


def test_a_cluster_may_be_called_with_separators() -> None:
    odd = BalancerOwner("default", "web", UID, "c.1/x")
    for kind in BOTH:
        assert is_part_of(kind, part_name(kind, 80, "tcp", odd), odd)

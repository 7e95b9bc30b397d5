"""How many balancers a Namespace and the cluster have, by the cloud and the Services together."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.loadbalancer.counting import BalancerClaim, BalancerCount, BalancerService, count, excess
from spiderpool.core.cloud.loadbalancer.values import MadeBalancer

pytestmark = pytest.mark.unit

USED = MadeBalancer("lb-1", "clb", "a1", "shop")
PRESERVED = MadeBalancer("lb-2", "clb", "", "shop")
ORPHANED = MadeBalancer("lb-3", "clb", "a3", "shop")
UNTAGGED = MadeBalancer("lb-4", "nlb", "a4", "")
SERVICES = {("clb", "a1"): "shop", ("nlb", "a1"): "shop", ("nlb", "a4"): "web", ("clb", "a5"): "web"}


def service_of(kind: str, name: str) -> BalancerService | None:
    """The Services, one of which has the label of a balancer."""
    namespace = SERVICES.get((kind, name))
    return BalancerService(namespace, frozenset({"lb-5"})) if namespace else None


def test_what_the_cloud_shows_counts_once() -> None:
    claims = [BalancerClaim("clb", "a1", "shop"), BalancerClaim("nlb", "a4", "web")]
    found = count([USED, PRESERVED, ORPHANED, UNTAGGED], claims, service_of)
    assert found == BalancerCount(2, 1, (ORPHANED.identity,), {"shop": 3, "web": 1})
    assert found.total == 4


def test_what_the_cloud_does_not_show_counts_by_its_service() -> None:
    claims = [BalancerClaim("clb", "a5", "web"), BalancerClaim("nlb", "a1", "shop"), BalancerClaim("clb", "a5", "web")]
    assert count([USED], claims, service_of) == BalancerCount(3, 0, (), {"shop": 2, "web": 1})


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_of_one_service_the_one_that_its_label_names_is_used(*, turned: bool) -> None:
    both = [USED, MadeBalancer("lb-5", "clb", "a1", "shop")]
    found = count(both[::-1] if turned else both, [], service_of)
    assert found == BalancerCount(1, 0, ("lb-1",), {"shop": 2})


def test_one_of_a_kind_that_its_service_no_longer_has_is_an_orphan() -> None:
    found = count([MadeBalancer("nlb-1", "nlb", "a5", "web")], [], service_of)
    assert found == BalancerCount(0, 0, ("nlb-1",), {"web": 1})


def test_nothing() -> None:
    assert count([], [], service_of) == BalancerCount()


def test_one_more_is_too_many() -> None:
    counted = BalancerCount(3, 1, ("lb-3",), {"shop": 3, "web": 2})
    assert excess(counted, "shop", 4, 6) is None
    assert "Namespace shop has 3 load balancers" in (excess(counted, "shop", 3, 6) or "")
    assert "the cluster has 5 load balancers, of which 1 are preserved" in (excess(counted, "new", 3, 5) or "")
    assert excess(counted, "new", 1, 6) is None

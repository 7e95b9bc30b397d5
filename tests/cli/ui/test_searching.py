"""What a search finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.cli.ui.searching import MOST_HITS, SearchInput, search
from tests.cli.ui.objects import BASE, account, node, pool, record

pytestmark = pytest.mark.unit

BLUE = pool(ips=["10.0.0.1-10.0.0.200"])
HOLDER = record(BASE + 3, BLUE)
POD = f"shop/{HOLDER.spec.pod}"
OWN_ENI = ENI("eni-1", "02:00:00:AA:00:01", True, "10.9.0.5", ("10.9.0.6",), (), "vsw-1", "10.9.0.0/24")
SERVER = SpiderServer(metadata=ObjectMeta(name="n1"), spec=Instance("alibaba", "r", "z", "i-1", "t", (OWN_ENI,)))
SIX = pool("six", subnet="fd00::/64", ips=["fd00::1-fd00::9"])
BY_NAME = {HOLDER.name: HOLDER}
CLUSTER = SearchInput([HOLDER], BY_NAME.get, [BLUE, SIX], [node("n1")], [account([(BASE + 3, "uid-a")])], [SERVER])


def found(query: str) -> list[tuple[str, str]]:
    return [(each.kind, each.name) for each in search(CLUSTER, query).hits]


def test_an_address_leads_to_its_holder_and_its_pool() -> None:
    assert found("10.0.0.3") == [("address", "10.0.0.3"), ("pod", POD), ("address", "10.0.0.3"), ("pool", "blue")]
    assert found(" 10.0.0.3/24 ") == found("10.0.0.3")


def test_an_address_of_nobody_leads_to_the_pool_that_has_it() -> None:
    assert found("10.0.0.4") == [("address", "10.0.0.4"), ("pool", "blue")]
    assert found("fd00:0::5") == [("address", "fd00::5"), ("pool", "six")]
    assert found("10.0.0.250") == []


@pytest.mark.parametrize("address", ["10.9.0.5", "10.9.0.6"])
def test_an_address_of_an_eni_leads_to_its_node(address: str) -> None:
    assert found(address) == [("node", "n1")]


@pytest.mark.parametrize("mac", ["02:00:00:00:00:03", "02-00-00-00-00-03", "02:00:00:00"])
def test_a_mac_address_or_its_beginning_leads_to_a_pod(mac: str) -> None:
    assert found(mac) == [("pod", "shop/a")]


def test_a_mac_address_of_an_eni_leads_to_its_node() -> None:
    assert found("02:00:00:aa:00:01") == [("node", "n1")]


def test_a_part_of_a_name_leads_to_nodes_pools_and_pods() -> None:
    assert found("N1") == [("node", "n1")]
    assert found("lue") == [("pool", "blue")]
    assert found("shop/web") == [("pod", POD)]
    assert found("") == found("   ") == []


def test_of_many_hits_some_are_shown() -> None:
    many = SearchInput([record(BASE + each, BLUE) for each in range(1, 190)], BY_NAME.get, [], [], [], [])
    result = search(many, "web")
    assert (len(result.hits), result.more) == (MOST_HITS, True)
    assert not search(CLUSTER, "web").more


@given(st.text(max_size=60))
def test_any_text_may_be_searched(text: str) -> None:
    assert len(search(CLUSTER, text).hits) <= MOST_HITS

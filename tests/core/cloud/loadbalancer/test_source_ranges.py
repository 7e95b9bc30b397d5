"""Which ranges a Service lists, and which of them keep clients away from a balancer."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.core.cloud.loadbalancer.source_ranges import (
    ANNOTATION,
    FIELD,
    admitted,
    by_clients,
    by_use,
    source_ranges,
)
from tests.core.pretend_balancers import HTTP, service

pytestmark = pytest.mark.unit

OLDER = {"annotations": {ANNOTATION: "10.0.0.0/8, 192.0.2.1/32,"}}


@pytest.mark.parametrize(
    ("spec", "key", "ranges", "invalid"),
    [
        ({}, ANNOTATION, set(), ()),
        ({"loadBalancerSourceRanges": ["10.1.2.3/8", " 10.0.0.0/8 "]}, FIELD, {"10.0.0.0/8"}, ()),
        ({"loadBalancerSourceRanges": ["2001:DB8:0::/32"]}, FIELD, {"2001:db8::/32"}, ()),
        (
            {"loadBalancerSourceRanges": ["all", "10.0.0.0/33", "192.0.2.1"]},
            FIELD,
            {"192.0.2.1/32"},
            ("all", "10.0.0.0/33"),
        ),
        (OLDER, ANNOTATION, {"10.0.0.0/8", "192.0.2.1/32"}, ()),
        ({**OLDER, "loadBalancerSourceRanges": ["198.51.100.0/24"]}, FIELD, {"198.51.100.0/24"}, ()),
        ({**OLDER, "loadBalancerSourceRanges": []}, ANNOTATION, {"10.0.0.0/8", "192.0.2.1/32"}, ()),
    ],
)
def test_the_field_counts_and_without_it_the_annotation(
    spec: dict[str, Any], key: str, ranges: set[str], invalid: tuple[str, ...]
) -> None:
    found = source_ranges(service(HTTP, **spec))
    assert (found.key, {*found.ranges}, found.invalid) == (key, ranges, invalid)


@pytest.mark.parametrize(
    ("ranges", "versions", "kept"),
    [
        ([], (4,), set()),
        (["10.0.0.0/8"], (4,), {"10.0.0.0/8"}),
        (["0.0.0.0/0", "10.0.0.0/8"], (4,), set()),
        (["10.0.0.0/8", "2001:db8::/32"], (4,), {"10.0.0.0/8"}),
        (["10.0.0.0/8", "2001:db8::/32"], (6,), {"2001:db8::/32"}),
        (["0.0.0.0/0"], (4, 6), {"0.0.0.0/0"}),
        (["0.0.0.0/0", "::/0", "10.0.0.0/8"], (4, 6), set()),
        (["2001:db8::/32"], (4,), set()),
    ],
)
def test_a_list_is_needed_where_somebody_is_kept_out(
    ranges: list[str], versions: tuple[int, ...], kept: set[str]
) -> None:
    assert admitted(ranges, versions) == kept


def test_entries_are_in_the_order_of_their_addresses_and_what_drops_comes_last() -> None:
    entries = ["drop 0.0.0.0/0", "accept 10.0.0.0/8", "accept 9.0.0.0/8", "accept 2001:db8::/32", "accept 10.0.0.0/16"]
    first = ["accept 9.0.0.0/8", "accept 10.0.0.0/16", "accept 10.0.0.0/8", "accept 2001:db8::/32", "drop 0.0.0.0/0"]
    assert by_clients(entries) == first
    assert by_clients(["10.0.0.0/8", "odd", "9.0.0.0/8"]) == ["odd", "9.0.0.0/8", "10.0.0.0/8"]


def test_entries_that_no_client_needs_any_more_come_before_those_whose_clients_stay() -> None:
    entries = ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8", "2001:db8::/32", "odd"]
    assert by_use(entries, ["10.1.0.0/16", "12.0.0.0/7"]) == [
        *("odd", "11.0.0.0/8", "2001:db8::/32"),
        *("10.0.0.0/8", "12.0.0.0/8"),
    ]
    rules = ["drop 0.0.0.0/0", "accept 10.0.0.0/8", "accept 12.0.0.0/8 Priority 5"]
    assert by_use(rules, ["accept 10.1.0.0/16"]) == [
        *("accept 12.0.0.0/8 Priority 5", "accept 10.0.0.0/8"),
        "drop 0.0.0.0/0",
    ]

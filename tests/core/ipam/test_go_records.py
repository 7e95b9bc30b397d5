"""The records of the agent in Go, read and written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolStatus
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.go_records import (
    UnreadableRecords,
    count,
    endpoint_addresses,
    entries,
    number,
    pod_name,
    written,
)
from tests.support.go_cluster import GoCluster, pod

pytestmark = pytest.mark.unit

TEXT = '{"10.6.0.7":{"pod":"shop/web-1","podUid":"u-1"},"10.6.0.8":{"pod":"shop/web-2","podUid":"u-2"}}'


def read(text: str | None) -> tuple[list[tuple[str, str, str]], list[str]]:
    made = GoCluster().pool("four", "10.6.0.0/16")
    made.status = IPPoolStatus(allocatedIPs=text)
    found, faults = entries(made)
    return [(each.address, each.pod, each.uid) for each in found], faults


def record(address: str, pod: str = "web-1", uid: str = "u-1", **spec: str | IPOwner) -> SpiderIP:
    return SpiderIP(
        metadata=ObjectMeta(name="any"),
        spec=IPSpec(f"{address}/16", "four", "n1", "shop", pod, uid, "eth0", **spec),  # type: ignore[arg-type]
    )


def test_records_are_read() -> None:
    assert read(TEXT) == ([("10.6.0.7", "shop/web-1", "u-1"), ("10.6.0.8", "shop/web-2", "u-2")], [])
    assert read(None) == ([], [])


def test_a_record_is_named_in_sentences() -> None:
    made = GoCluster().pool("four", "10.6.0.0/16")
    made.status = IPPoolStatus(allocatedIPs=TEXT)
    assert str(entries(made)[0][0]) == "pool four for pod shop/web-1"


def test_a_pool_without_status_has_none() -> None:
    made = GoCluster().pool("four", "10.6.0.0/16")
    made.status = None
    assert entries(made) == ([], [])


def test_a_key_that_occurs_twice_is_two_records() -> None:
    twice = '{"10.6.0.7":{"pod":"shop/a","podUid":"1"},"10.6.0.7":{"pod":"shop/b","podUid":"2"}}'
    assert [pod for _, pod, _ in read(twice)[0]] == ["shop/a", "shop/b"]


@pytest.mark.parametrize("text", ["{", "[]", "7", '"x"', "null", "[" * 100_000, '{"10.6.0.7":'])
def test_a_text_that_is_no_object_cannot_be_read(text: str) -> None:
    with pytest.raises(UnreadableRecords, match=r"status\.allocatedIPs is no JSON"):
        read(text)


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        ('"10.6.0.300":{"pod":"a/b","podUid":"1"}', "not an IPv4 address"),
        ('"10.6.0.7/16":{"pod":"a/b","podUid":"1"}', "not an IPv4 address"),
        ('"10.6.0.7":null', "does not say which pod has it"),
        ('"10.6.0.7":{"pod":"a/b"}', "does not say which pod has it"),
        ('"10.6.0.7":{"pod":"b","podUid":"1"}', "does not say which pod has it"),
        ('"10.6.0.7":{"pod":"/b","podUid":"1"}', "does not say which pod has it"),
        ('"10.6.0.7":{"pod":["a/b"],"podUid":"1"}', "does not say which pod has it"),
    ],
)
def test_a_record_that_cannot_be_read_is_reported(member: str, fault: str) -> None:
    found, faults = read(f'{{{member},"10.6.0.8":{{"pod":"shop/web-2","podUid":"u-2"}}}}')
    assert found == [("10.6.0.8", "shop/web-2", "u-2")]
    assert len(faults) == 1
    assert fault in faults[0]


def test_endpoints_name_addresses() -> None:
    cluster = GoCluster()
    cluster.pool("four", "10.6.0.0/16")
    cluster.pool("six", "fd00::/64")
    made = cluster.endpoint(pod("web-1", {}), {"eth0": {"four": "10.6.0.7", "six": "fd00::7"}})
    found, faults = endpoint_addresses([made, SpiderEndpoint()])
    assert faults == []
    assert [(each.interface, each.pool, each.address, each.cidr, each.uid, each.node) for each in found] == [
        ("eth0", "four", "10.6.0.7", "10.6.0.7/16", "uid-of-web-1", "n1"),
        ("eth0", "six", "fd00::7", "fd00::7/64", "uid-of-web-1", "n1"),
    ]
    assert str(found[0]) == "SpiderEndpoint shop/web-1"


def test_an_endpoint_with_what_is_no_address_is_reported() -> None:
    cluster = GoCluster()
    cluster.pool("four", "10.6.0.0/16")
    made = cluster.endpoint(pod("web-1", {}), {"eth0": {"four": "ten"}})
    assert endpoint_addresses([made]) == ([], ["SpiderEndpoint shop/web-1 names 'ten/16': not an IPv4 address"])


def test_numbers_of_both_families() -> None:
    assert (number("0.0.1.0"), number("::1")) == (256, 1)


def test_a_machine_is_named_by_its_instance() -> None:
    machine = IPOwner("VirtualMachineInstance", "shop", "vm")
    assert pod_name(record("10.6.0.7", owner=machine)) == "shop/vm"
    assert pod_name(record("10.6.0.7", owner=IPOwner("StatefulSet", "shop", "web"))) == "shop/web-1"


def test_a_text_that_has_all_stays_byte_for_byte() -> None:
    spaced = TEXT.replace(",", ", ")
    assert written(spaced, [record("10.6.0.7")]) == spaced
    assert written(None, []) is None


def test_new_records_are_written_as_go_does() -> None:
    more = written(TEXT, [record("10.6.0.10", "web-3", "u-3"), record("10.6.0.8", "web-4", "u-4")])
    assert more == (
        '{"10.6.0.10":{"pod":"shop/web-3","podUid":"u-3"},"10.6.0.7":{"pod":"shop/web-1","podUid":"u-1"},'
        '"10.6.0.8":{"pod":"shop/web-4","podUid":"u-4"}}'
    )


@pytest.mark.parametrize("value", ["5", "null", '"x"', "[1]", '{"pod":"a/b","podUid":"u","more":{"x":[{"y":1}]}}'])
def test_what_is_written_beside_stays_as_it_is(value: str) -> None:
    text = f'{{"10.6.0.1":{value}}}'
    assert written(text, []) == text
    after = json.loads(written(text, [record("10.6.0.2")]) or "")
    assert after["10.6.0.1"] == json.loads(value)


def test_a_released_record_is_not_written() -> None:
    assert written(None, [record("10.6.0.7", releasedAt="2026-01-01T00:00:00Z")]) is None


def test_records_are_counted() -> None:
    assert (count(TEXT), count(None)) == (2, 0)


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    try:
        read(text)
    except UnreadableRecords as error:
        assert "is no JSON" in str(error)

"""An address in two places, a lost one and one without a record are each found."""

from __future__ import annotations

import json

import msgspec
import pytest

from spiderpool_lab.cni_calls import CniRecord
from spiderpool_lab.stories.audit import (
    KernelAddress,
    first_add,
    in_progress,
    last_del,
    overlaps,
    parse_links,
    possessions,
    twice_in_kernels,
    unlike_records,
)

pytestmark = pytest.mark.unit

ADD = CniRecord(
    plugin="p",
    command="ADD",
    container="a",
    pod="default/a",
    uid="u",
    arguments=(),
    variables=(),
    keys=(),
    version="1.0.0",
    has_netns=True,
    has_result=False,
    status=0,
    addresses=("10.0.0.2",),
    started=1.0,
    ended=2.0,
)


def call(command: str, container: str, started: float, status: int = 0) -> CniRecord:
    given = ADD.addresses if command == "ADD" and not status else ()
    return msgspec.structs.replace(
        ADD,
        command=command,
        container=container,
        pod=f"default/{container}",
        status=status,
        addresses=given,
        started=started,
        ended=started + 1,
    )


def test_an_address_that_is_given_before_its_del_is_found() -> None:
    good = [call("ADD", "a", 1), call("DEL", "a", 5), call("ADD", "b", 6), call("DEL", "b", 9), call("DEL", "a", 9)]
    assert overlaps(possessions(good)) == []
    early = [call("ADD", "a", 1), call("ADD", "b", 3), call("DEL", "a", 5)]
    assert overlaps(possessions(early)) == ["10.0.0.2 was given to default/b 1.0 s before default/a had its DEL"]


def test_two_plugins_of_a_chain_may_report_the_same_address() -> None:
    assert overlaps(possessions([call("ADD", "a", 1), call("ADD", "a", 3), call("DEL", "a", 5)])) == []


def test_a_failed_del_and_a_failed_add_change_nothing() -> None:
    calls = [call("ADD", "a", 1), call("DEL", "a", 2, status=1), call("ADD", "b", 4), call("DEL", "a", 6)]
    assert len(overlaps(possessions(calls))) == 1
    assert possessions([call("ADD", "a", 1, status=1)]) == []


def test_a_power_cut_ends_what_pods_had() -> None:
    calls = [call("ADD", "a", 1), call("ADD", "b", 6)]
    assert overlaps(possessions(calls)) != []
    assert overlaps(possessions(calls, cuts=[5.0])) == []


def test_an_address_in_two_namespaces_is_found() -> None:
    found = [KernelAddress("10.0.0.2", "master", "/run/netns/a"), KernelAddress("10.0.0.2", "worker", "/run/netns/b")]
    assert twice_in_kernels(found[:1]) == []
    assert twice_in_kernels(found) == ["10.0.0.2 is in master /run/netns/a and worker /run/netns/b"]


def test_kernels_and_records_are_compared_both_ways() -> None:
    found = [KernelAddress("10.0.0.2", "master", "/run/netns/a")]
    assert unlike_records({"10.0.0.2"}, found) == []
    assert unlike_records({"10.0.0.3"}, found) == [
        "10.0.0.2 is in master /run/netns/a without a record",
        "10.0.0.3 has a record but is in no namespace",
    ]


def test_only_addresses_of_the_pod_s_own_links_count() -> None:
    links = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "scope": "host"}]},
        {
            "ifname": "eth0",
            "addr_info": [{"local": "10.0.0.2", "scope": "global"}, {"local": "fe80::1", "scope": "link"}],
        },
        {"ifname": "veth0", "addr_info": [{"local": "169.254.1.1", "scope": "global"}]},
        {},
    ]
    assert parse_links(json.dumps(links)) == ["10.0.0.2"]


def test_calls_that_span_a_moment_are_in_progress() -> None:
    calls = [call("ADD", "a", 1), call("ADD", "b", 1.5), call("ADD", "c", 3)]
    assert [found.container for found in in_progress(calls, 1.7)] == ["a", "b"]
    assert in_progress(calls, 2.8) == []


def test_when_others_have_taken_over_from_former_pods() -> None:
    calls = [call("ADD", "a", 1), call("ADD", "b", 1), call("DEL", "a", 5), call("DEL", "b", 9), call("DEL", "a", 20)]
    calls += [call("ADD", "c", 6, status=1), call("ADD", "c", 7), call("ADD", "d", 10)]
    assert first_add(calls, {"a", "b"}) == 8
    assert last_del(calls, {"a", "b"}) == 9
    with pytest.raises(ValueError, match="empty"):
        first_add(calls, {"a", "b", "c", "d"})

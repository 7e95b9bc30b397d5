"""Faults that are reported, and those that the agent is about to mend."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from spiderpool.core.network.plumbing.lasting_faults import FaultHistory
from spiderpool.core.network.plumbing.nics import NIC

pytestmark = pytest.mark.unit

ONE = (NIC("eth0", (ip_address("172.31.207.253"),)),)
BOTH = (*ONE, NIC("eth1", (ip_address("172.31.223.253"),)))


def test_a_fault_lasts_from_the_first_look_that_has_found_it() -> None:
    history = FaultHistory().next(["a"], 0.0).next(["a", "b"], 20.0)
    assert history.lasting(30.0, 29.0) == []
    assert history.next(["a", "b"], 31.0).lasting(30.0, 31.0) == ["a"]
    assert history.next(["b"], 31.0).next(["a", "b"], 51.0).lasting(30.0, 51.0) == ["b"], "a was gone meanwhile"


def test_the_time_begins_anew_with_each_gateway_that_a_pool_brings() -> None:
    """On a fresh node the pools of the NICs come late and one after the other: what lacks the second waits for it."""
    history = FaultHistory().next(["eth0", "eth1"], 0.0)
    history = history.tuned(ONE, 40.0).next(["eth1"], 40.0)
    assert history.lasting(30.0, 40.0) == []
    history = history.tuned(BOTH, 41.0).next([], 41.0)
    assert history.lasting(30.0, 41.0) == []


def test_a_fault_that_no_pool_mends_is_reported_in_the_end() -> None:
    history = FaultHistory().tuned(ONE, 40.0).next(["eth1"], 40.0).tuned((*ONE,), 70.0).next(["eth1"], 70.0)
    assert history.lasting(30.0, 70.0) == ["eth1"]


def test_a_gateway_that_comes_and_goes_with_every_look_hides_no_fault_for_ever() -> None:
    history, told = FaultHistory(), []
    for look in range(12):
        now = 60.0 * look
        history = history.tuned(BOTH if look % 2 else ONE, now).next(["filter"], now)
        told.append(history.lasting(30.0, now))
    assert told == [[]] * 5 + [["filter"]] * 7


def test_without_patience_all_last() -> None:
    assert FaultHistory().next(["a"], 5.0).lasting(0.0, 5.0) == ["a"]

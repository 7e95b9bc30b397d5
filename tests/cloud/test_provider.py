"""Errors of a cloud, and values of its answers."""

from __future__ import annotations

import pytest

from spiderpool.cloud.provider import (
    CloudConflict,
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    NotPermitted,
    Quota,
    QuotaExceeded,
    Rejected,
    StepsRefused,
    StillProcessing,
    Throttled,
    VSwitchFull,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("error", "retriable"),
    [
        (Throttled("busy", retry_after=9.0, cloud_code="Throttling"), True),
        (QuotaExceeded("full"), False),
        (VSwitchFull("full"), False),
        (NotPermitted("forbidden", action="AssignPrivateIpAddresses"), False),
        (CloudNotFound("gone"), False),
        (CloudConflict("busy"), True),
        (StillProcessing("busy"), True),
        (Rejected("no"), False),
        (StepsRefused([Rejected("no")]), True),
        (CloudUnavailable("lost"), True),
    ],
)
def test_which_errors_may_pass_by_themselves(error: CloudError, retriable: bool) -> None:
    assert error.retriable is retriable


def test_errors_carry_what_their_handlers_need() -> None:
    assert Throttled("busy", retry_after=9.0).retry_after == 9.0
    assert NotPermitted("forbidden", action="AssignIpv6Addresses").action == "AssignIpv6Addresses"
    error = Rejected("no", cloud_code="InvalidParameter", details="port")
    assert (error.cloud_code, error.details) == ("InvalidParameter", "port")


def test_the_limit_of_a_family() -> None:
    assert (Quota(9, 10).of(4), Quota(9, 10).of(6)) == (9, 10)


def test_refusals_of_several_steps_are_one_error() -> None:
    error = StepsRefused([Rejected("no", cloud_code="No"), QuotaExceeded("full"), Rejected("never")])
    assert (error.message, error.cloud_code, error.details) == ("no", "No", "full; never")
    assert error.full == frozenset()
    assert StepsRefused([QuotaExceeded("full")], full=["rsp-1"]).full == {"rsp-1"}

"""Error codes of the OpenAPI, and the errors that they become."""

from __future__ import annotations

import pytest

from spiderpool.cloud.alibaba.error_codes import keys_are_wrong, refusal
from spiderpool.cloud.provider import (
    CloudConflict,
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    NotPermitted,
    QuotaExceeded,
    Rejected,
    StillProcessing,
    Throttled,
    VSwitchFull,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InvalidVSwitchId.IpNotEnough", 403, VSwitchFull),
        ("QuotaExceeded.PrivateIpAddress", 403, VSwitchFull),
        ("InvalidOperation.Ipv4CountExceeded", 403, QuotaExceeded),
        ("InvalidOperation.Ipv6CountExceeded", 403, QuotaExceeded),
        ("EniPerInstanceLimitExceeded", 403, QuotaExceeded),
        ("SecurityGroupInstanceLimitExceed", 403, QuotaExceeded),
        ("InvalidIp.IpUnassigned", 404, CloudNotFound),
        ("InvalidEniId.NotFound", 404, CloudNotFound),
        ("InvalidEcsId.NotFound", 404, CloudNotFound),
        ("InvalidOperation.InvalidEniState", 403, CloudConflict),
        ("Operation.Conflict", 409, CloudConflict),
        ("IdempotentFailed", 400, CloudConflict),
        ("RspoolVipExist", 400, CloudConflict),
        ("Throttling", 400, Throttled),
        ("Throttling.User", 400, Throttled),
        ("Throttling.Api", 400, Throttled),
        ("Forbidden.RAM", 403, NotPermitted),
        ("InvalidAccessKeyId.NotFound", 404, NotPermitted),
        ("SignatureDoesNotMatch", 400, NotPermitted),
        ("InternalError", 500, CloudUnavailable),
        ("ServiceUnavailable", 503, CloudUnavailable),
        ("Whatever", 502, CloudUnavailable),
        ("SystemBusy", 400, CloudUnavailable),
        ("MissingParameter.RegionId", 400, Rejected),
        ("ObtainIpFail", 400, Rejected),
        ("IdempotenceProcessing", 403, StillProcessing),
        ("LastTokenProcessing", 403, StillProcessing),
        ("OperationFailed.LastTokenProcessing", 400, StillProcessing),
        ("OperationFailed.TokenIsProcessing", 400, StillProcessing),
        ("ProcessingSameRequest", 400, StillProcessing),
        ("QuotaInsufficient.SecurityGroup", 400, QuotaExceeded),
        ("QuotaExceeded.BackendServers", 400, QuotaExceeded),
        ("ResourceQuotaExceeded.LoadBalancer", 400, QuotaExceeded),
        ("InstanceBackendServerNumberOverLimit", 400, QuotaExceeded),
        ("BackendServerNumberOverLimit", 400, QuotaExceeded),
        ("VSwitchAvailableIpNotExist", 400, VSwitchFull),
        ("InvalidVSwitch.VSwitchAvailableIpNotExist", 400, VSwitchFull),
        ("ServiceIsConfiguring", 400, CloudConflict),
        ("OperationDenied.ServiceIsConfiguring", 400, CloudConflict),
        ("BackendServer.configuring", 400, CloudConflict),
        ("IncorrectStatus.loadbalancer", 409, CloudConflict),
        ("Conflict.Lock", 409, CloudConflict),
        ("ResourceInConfiguring.listener", 409, CloudConflict),
        ("ServiceIsStopping", 400, CloudConflict),
        ("OperationBusy", 400, CloudConflict),
        ("VServerGroupProcessing", 400, CloudConflict),
        ("ResourceInUse.serverGroup", 409, CloudConflict),
        ("ResourceInUse.ServerGroup", 409, CloudConflict),
        ("ResourceInOperating", 409, CloudConflict),
        ("OperationFailed.ListenerStatusNotSupport", 400, CloudConflict),
        ("OperationFailed.LastTaskNotFinished", 400, CloudConflict),
        ("AclInUsed", 400, CloudConflict),
        ("DependencyViolation", 403, CloudConflict),
        ("AclNotExist", 404, CloudNotFound),
        ("AuthorizationLimitExceed", 403, QuotaExceeded),
        ("InvalidServerId.NotExist", 400, CloudNotFound),
    ],
)
def test_every_code_has_its_error(code: str, status: int, kind: type[CloudError]) -> None:
    assert type(refusal("DoIt", code, "why", status, 7.0)) is kind


def test_a_missing_permission_names_the_action() -> None:
    error = refusal("AssignPrivateIpAddresses", "Forbidden.RAM", "no", 403, 0.0)
    assert isinstance(error, NotPermitted)
    assert error.action == "AssignPrivateIpAddresses"
    assert "policy print" in error.message


@pytest.mark.parametrize("code", ["InvalidAccessKeyId.NotFound", "InvalidSecurityToken.Expired", "IncompleteSignature"])
def test_wrong_keys_are_not_a_missing_permission(code: str) -> None:
    assert keys_are_wrong(code)
    assert "correct the credentials" in refusal("DoIt", code, "why", 403, 0.0).message
    assert not keys_are_wrong("Forbidden.RAM")


def test_a_throttled_call_says_when_to_come_again() -> None:
    error = refusal("DoIt", "Throttling.User", "why", 400, 7.0)
    assert isinstance(error, Throttled)
    assert (error.retry_after, error.cloud_code) == (7.0, "Throttling.User")

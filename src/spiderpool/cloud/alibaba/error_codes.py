"""Error codes of the OpenAPI as our errors (ECS 2014-05-26, VPC 2016-04-28, SLB 2014-05-15, NLB 2022-04-30)."""

from __future__ import annotations

from fnmatch import fnmatchcase

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

MEANINGS: tuple[tuple[type[CloudError], tuple[str, ...]], ...] = (
    (
        StillProcessing,
        ("IdempotenceProcessing*", "*LastTokenProcessing", "*TokenIsProcessing", "ProcessingSameRequest*"),
    ),
    (
        VSwitchFull,
        ("InvalidVSwitchId.IpNotEnough", "QuotaExceeded.PrivateIpAddress", "*VSwitchAvailableIpNotExist*"),
    ),
    (
        QuotaExceeded,
        (
            "InvalidOperation.Ipv4CountExceeded",
            "InvalidOperation.Ipv6CountExceeded",
            "*QuotaExceeded*",
            "QuotaInsufficient*",
            "*LimitExceed*",
            "*OverLimit*",
        ),
    ),
    (
        CloudNotFound,
        (
            # Also the answer to unassigning a primary address; callers must never ask for that: it would be a success.
            "InvalidIp.IpUnassigned",
            "*NotFound*",
            "*NotExist*",
        ),
    ),
    (
        CloudConflict,
        (
            "InvalidOperation.InvalidEniState",
            "IdempotentFailed",
            "*Conflict*",
            "*IncorrectStatus*",
            "*IncorrectEniStatus*",
            "*Configuring*",
            "*configuring*",
            "*ServiceIsStopping",
            "*OperationBusy",
            "*VServerGroupProcessing",
            "ResourceInUse.serverGroup",
            "ResourceInUse.ServerGroup",
            "RspoolVipExist",
            "*ResourceInOperating*",
            "*ListenerStatusNotSupport",
            "*LastTaskNotFinished",
            "AclInUsed*",
            "DependencyViolation*",
        ),
    ),
    (CloudUnavailable, ("InternalError*", "ServiceUnavailable*", "SystemBusy*")),
    (Rejected, ("ObtainIpFail*",)),
)
"""Errors and the patterns of their codes; the first that fits counts.

``ObtainIpFail`` is about one server of a batch, which has no address any more: like every other refusal, it has the
batch sent again server by server.
"""
KEY_WORDS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurityToken", "IncompleteSignature")
"""Prefixes of codes that mean that the keys are wrong or expired."""
PERMISSION_WORDS = ("Forbidden", "NoPermission", "Unauthorized", *KEY_WORDS)

TOKEN_SPENT = "IdempotentFailed"  # noqa: S105 - a code, no secret
"""The client token was used before with other arguments."""


def refusal(action: str, code: str, message: str, status: int, retry_after: float) -> CloudError:
    """Returns the error for an answer of HTTP status 400 or more; ``retry_after``: seconds, for throttled calls."""
    text = f"{action} was refused with {code}: {message}"
    if code.startswith("Throttling"):
        return Throttled(text, retry_after=retry_after, cloud_code=code)
    if keys_are_wrong(code):
        return NotPermitted(f"{text}; correct the credentials of spiderpool-cloud", action=action, cloud_code=code)
    if code.startswith(PERMISSION_WORDS):
        remedy = f"allow the action {action}; `spiderpoolctl policy print` prints the whole policy"
        return NotPermitted(f"{text}; {remedy}", action=action, cloud_code=code)
    return _kind(code, status)(text, cloud_code=code)


def keys_are_wrong(code: str) -> bool:
    """Whether the cloud rejected the keys themselves."""
    return code.startswith(KEY_WORDS)


def _kind(code: str, status: int) -> type[CloudError]:
    for kind, patterns in MEANINGS:
        if any(fnmatchcase(code, pattern) for pattern in patterns):
            return kind
    return CloudUnavailable if status >= 500 else Rejected

"""Error codes of the OpenAPI as our errors (ECS 2014-05-26, VPC 2016-04-28, SLB 2014-05-15, NLB 2022-04-30)."""

from __future__ import annotations

from spiderpool.cloud.provider import (
    CloudConflict,
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    NotPermitted,
    QuotaExceeded,
    Rejected,
    Throttled,
    VSwitchFull,
)

VSWITCH_FULL = {"InvalidVSwitchId.IpNotEnough", "QuotaExceeded.PrivateIpAddress"}
LIMITS = {
    "InvalidOperation.Ipv4CountExceeded",
    "InvalidOperation.Ipv6CountExceeded",
    "EniPerInstanceLimitExceeded",
    "SecurityGroupInstanceLimitExceed",
}
GONE = {"InvalidIp.IpUnassigned"}
"""Also the answer to unassigning a primary address; callers must never request that, as it would count as success."""
BUSY = {"InvalidOperation.InvalidEniState", "Operation.Conflict", "IdempotentFailed"}
BUSY_WORDS = ("Conflict", "IncorrectStatus", "Configuring", "configuring", "IncorrectEniStatus")
KEY_WORDS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurityToken", "IncompleteSignature")
"""Prefixes of codes that mean that the keys are wrong or expired."""
PERMISSION_WORDS = ("Forbidden", "NoPermission", "Unauthorized", *KEY_WORDS)
OUTAGES = {"InternalError", "ServiceUnavailable", "SystemBusy"}

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
    if code in VSWITCH_FULL:
        return VSwitchFull
    if code in LIMITS or "QuotaExceeded" in code or "LimitExceed" in code:
        return QuotaExceeded
    if code in GONE or "NotFound" in code or "NotExist" in code:
        return CloudNotFound
    if code in BUSY or any(word in code for word in BUSY_WORDS):
        return CloudConflict
    if code.split(".")[0] in OUTAGES or status >= 500:
        return CloudUnavailable
    return Rejected

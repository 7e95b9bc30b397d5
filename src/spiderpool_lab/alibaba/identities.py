"""Access keys of RAM users, temporary access keys of RAM roles, and the actions that each may call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from spiderpool_lab.alibaba.refusals import Refusal


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """An access key. ``allowed`` are patterns as in a RAM policy: ``ecs:Describe*``, ``slb:*``, ``*``.

    A temporary key of a role has a security ``token`` and is valid until ``expires`` (Unix time in seconds).
    """

    name: str
    key: str
    secret: str
    allowed: tuple[str, ...] = ("*",)
    token: str = ""
    expires: float | None = None

    def is_allowed(self, action: str) -> bool:
        """Whether the policy allows ``product:Action``."""
        return any(fnmatchcase(action, pattern) for pattern in self.allowed)


def find_identity(identities: Mapping[str, CallerIdentity], key: str, token: str, now: float) -> CallerIdentity:
    """The identity with this access key and security token. Raises Refusal if unknown or expired at ``now``."""
    identity = identities.get(key)
    if identity is None:
        raise Refusal("InvalidAccessKeyId.NotFound", "Specified access key is not found.", 404)
    if identity.token and not token:
        raise Refusal("MissingSecurityToken", "SecurityToken is mandatory for this action.")
    if identity.token != token:
        raise Refusal("InvalidSecurityToken.MismatchWithAccessKey", "Specified SecurityToken mismatch with the key.")
    if identity.expires is not None and identity.expires <= now:
        raise Refusal("InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
    return identity


def authorize(identity: CallerIdentity, action: str) -> None:
    """Check the policy of an identity. Raises Refusal ``Forbidden.RAM`` if it does not allow the action."""
    if not identity.is_allowed(action):
        raise Refusal(
            "Forbidden.RAM",
            "User not authorized to operate on the specified resource, or this API doesn't support RAM. "
            f"Action: {action}",
            403,
        )

"""The first contact with a real account: what is checked, and what the cloud answered, to be kept and replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

CheckResult: TypeAlias = Literal["ok", "wrong", "untried"]


@dataclass(frozen=True, slots=True)
class CloudCheck:
    """Something that spiderpool-cloud needs of the cloud, and what the cloud says to it."""

    subject: str
    """What is checked: an endpoint, a permission, a quota, …"""
    name: str
    result: CheckResult
    detail: str
    """What was found; where it is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class VerificationScope:
    """What is to be verified."""

    region: str
    cluster: str
    """The ID of the cluster, by which its balancers are counted."""
    features: tuple[str, ...]
    """Features of spiderpool-cloud, whose actions are tried."""
    servers: tuple[str, ...] = ()
    """Identities of the servers of the cluster's Nodes."""
    vswitch: str = ""
    max_balancers: int = 0
    without_dry_run: bool = False
    """Whether to try also changes for which the API has no dry run, on identities that do not exist."""


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """A call that was made, and the answer; keys and signatures are no part of either."""

    action: str
    """With its product: ``product:Action``."""
    parameters: Mapping[str, Any]
    answer: Mapping[str, Any] | None = None
    """None: the call was refused, or had no answer."""
    error: str = ""
    """Name of our error for the refusal."""
    code: str = ""
    """The cloud's own code of it."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What an account was found to be like, and all that it answered."""

    scope: VerificationScope
    checks: tuple[CloudCheck, ...]
    answers: tuple[RecordedAnswer, ...]

"""Clients for the first contact with an account: one changes nothing and keeps the answers, one replays them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from spiderpool.cloud.alibaba.client import OpenAPIClient, Product
from spiderpool.cloud.alibaba.credentials import Credentials
from spiderpool.cloud.alibaba.endpoints import APIAccess
from spiderpool.cloud.alibaba.policy import is_reading
from spiderpool.cloud.alibaba.trial_calls import ABSENT, NEVER, has_dry_run
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
from spiderpool.cloud.verification import RecordedAnswer

KINDS: Mapping[str, type[CloudError]] = {
    kind.__name__: kind
    for kind in (CloudConflict, CloudNotFound, CloudUnavailable, QuotaExceeded, Rejected, StillProcessing, VSwitchFull)
}
"""Name of an error that is made from message and code alone → its type."""


class RecordingClient(OpenAPIClient):
    """Sends only what cannot change anything, and keeps every answer."""

    def __init__(self, credentials: Credentials, access: APIAccess, *, without_dry_run: bool = False) -> None:
        super().__init__(credentials, access)
        self._without_dry_run = without_dry_run
        self.answers: list[RecordedAnswer] = []

    async def call(
        self,
        product: Product,
        action: str,
        parameters: Mapping[str, Any],
        *,
        region: str | None = None,
        token: bool = False,
    ) -> dict[str, Any]:
        """Calls an action; see `OpenAPIClient`. Raises NotPermitted for one that could change something."""
        name = f"{product.name}:{action}"
        if not self._is_harmless(name, parameters):
            raise NotPermitted(f"{name} was not sent: it could change something", action=name)
        try:
            answer = await super().call(product, action, parameters, region=region, token=token)
        except CloudError as error:
            kind = type(error).__name__
            self.answers.append(RecordedAnswer(name, parameters, None, kind, error.cloud_code, error.message))
            raise
        self.answers.append(RecordedAnswer(name, parameters, answer))
        return answer

    def _is_harmless(self, name: str, parameters: Mapping[str, Any]) -> bool:
        if is_reading(name) or (parameters.get("DryRun") is True and has_dry_run(name)):
            return True
        return self._without_dry_run and name not in NEVER and ABSENT in json.dumps(parameters)


class ReplayingClient(OpenAPIClient):
    """Answers as an account once did; sends nothing."""

    def __init__(self, answers: Iterable[RecordedAnswer]) -> None:
        self.answers = list(answers)
        self._known = {_key(each.action, each.parameters): each for each in self.answers}

    async def call(
        self,
        product: Product,
        action: str,
        parameters: Mapping[str, Any],
        *,
        region: str | None = None,
        token: bool = False,
    ) -> dict[str, Any]:
        """Returns what was answered. Raises the recorded CloudError; CloudUnavailable for a call that was not made."""
        name = f"{product.name}:{action}"
        found = self._known.get(_key(name, parameters))
        if found is None:
            raise CloudUnavailable(f"{name} with these parameters is not among the recorded answers")
        if found.answer is not None:
            return dict(found.answer)
        raise _error(found)


def _error(found: RecordedAnswer) -> CloudError:
    match found.error:
        case "Throttled":
            return Throttled(found.message, retry_after=0.0, cloud_code=found.code)
        case "NotPermitted":
            return NotPermitted(found.message, action=found.action, cloud_code=found.code)
        case name:
            return KINDS.get(name, CloudError)(found.message, cloud_code=found.code)


def _key(name: str, parameters: Mapping[str, Any]) -> str:
    return f"{name} {json.dumps(parameters, sort_keys=True)}"

"""Keeps a replica from being called by an API server that does not trust its certificate yet.

A replica that begins serves by the newest certificate at once, since it has no former one. Where others provide it, and
its authority has just changed, the webhook configurations may name the former authority alone: the leader, who writes
``caBundle``, sees the change up to two minutes later. Until then the replica is not ready, and the Service sends the
API server to others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from spiderpool.controller.certificates import WebhookCertificates
from spiderpool.controller.provided_certificates import is_accepted
from spiderpool.controller.registration import NAME, REGISTRATIONS, registered_authorities
from spiderpool.errors import is_bug
from spiderpool.kube.client import Client
from spiderpool.telemetry import logger

UNTRUSTED = (
    f"the webhook configurations {NAME} do not trust its certificate yet: the leader registers the authority when it "
    "sees it"
)

log = logger("certificates")


@dataclass(frozen=True, slots=True)
class TrustTimes:
    """Seconds."""

    look: float = 1.0
    """Between two looks at the webhook configurations."""
    longest: float = 150.0
    """For which a replica is not ready at most: longer than a leader takes to see another certificate, and register its
    authority. After that waiting helps nobody: a rolling update would never replace a leader of another certificate."""


DEFAULT_TIMES = TrustTimes()


class WebhookTrust:
    """Finds out, once, that the API server accepts the certificate that this replica begins with."""

    def __init__(
        self, client: Client, certificates: WebhookCertificates, host: str, times: TrustTimes = DEFAULT_TIMES
    ) -> None:
        self._client = client
        self._certificates = certificates
        self._host = host
        self._times = times
        self._reason: str | None = "it is not known yet whether the API server trusts its certificate"

    @property
    def not_ready_reason(self) -> str | None:
        """Why the API server must not call this replica yet; None for good once it may."""
        return self._reason

    async def run(self) -> None:
        """Look until the certificate is accepted, or has not been for the longest time."""
        await self._until_loaded()
        try:
            async with asyncio.timeout(self._times.longest):
                await self._until_accepted()
        except TimeoutError:
            log.warning(
                "ready all the same, though calls of the API server may fail here: see the log of the leader",
                reason=self._reason,
                waited=self._times.longest,
            )
        self._reason = None

    async def _until_loaded(self) -> None:
        while True:
            if self._certificates.trusted is not None:
                return
            await asyncio.sleep(self._times.look)

    async def _until_accepted(self) -> None:
        while True:
            reason = await self._why_not()
            if reason is None:
                return
            if reason != self._reason:
                log.warning("not ready", reason=reason, at_most=self._times.longest)
            self._reason = reason
            await asyncio.sleep(self._times.look)

    async def _why_not(self) -> str | None:
        """Why webhooks that are registered do not accept what we serve; None when all do, also where none is."""
        try:
            bundles = await self._registered()
        except Exception as error:  # the next look may succeed
            return f"the webhook configurations cannot be read: {error if not is_bug(error) else repr(error)}"
        accepting = (is_accepted(self._certificates.context, each, self._host) for each in bundles)
        return None if all(accepting) else UNTRUSTED

    async def _registered(self) -> Sequence[bytes]:
        found = []
        for _, kind in REGISTRATIONS:
            found += await self._client.list(kind, fields=f"metadata.name={NAME}")
        return [each for each in registered_authorities(found) if each]

"""A bug of ours in the registration of webhooks does not end the leader."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from spiderpool.api.core_v1 import Secret
from spiderpool.api.meta import ObjectMeta
from spiderpool.controller import registration
from spiderpool.controller.certificates import STORE, Certificates
from spiderpool.controller.registration import NAME, Registration
from spiderpool.settings import ControllerSettings
from tests.support.api_server import ApiServer

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

KINDS = (MutatingWebhookConfiguration, ValidatingWebhookConfiguration)


class DefectiveURL(str):
    """A URL of which our own code makes a bug, as often as it says."""

    bugs = 2

    def rstrip(self, chars: str | None = None, /) -> str:
        if self.bugs:
            self.bugs -= 1
            raise ZeroDivisionError
        return super().rstrip(chars)


async def test_a_bug_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "FIRST_PAUSE", 0.01)
    settings = ControllerSettings(webhook_url=DefectiveURL("https://controller"))
    async with ApiServer(Secret.KIND, *(kind.KIND for kind in KINDS)) as server, server.client() as client:
        server.put(Secret(metadata=ObjectMeta(name=STORE, namespace="kube-system")))
        server.put(*(kind(metadata=ObjectMeta(name=NAME)) for kind in KINDS))
        certificates = Certificates(client, "kube-system", ("controller",))
        work = Registration(client, settings, certificates)
        tasks = [asyncio.create_task(each) for each in (certificates.run(), work.run())]
        try:
            assert await work.registered(20)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
        assert all(server.stored(kind)[NAME].webhooks for kind in KINDS)

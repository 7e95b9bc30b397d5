"""A replica is not called before the API server trusts the certificate that it begins with."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from spiderpool.api.meta import ObjectMeta
from spiderpool.controller.provided_certificates import ProvidedCertificates, Times
from spiderpool.controller.registration import NAME, webhooks
from spiderpool.controller.webhook_trust import UNTRUSTED, TrustTimes, WebhookTrust
from spiderpool.settings import ControllerSettings
from spiderpool_lab.certificates import Authority
from tests.support.api_server import ApiServer, Fault
from tests.support.certificate_folder import HOST, issue, place
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit

KINDS = (MutatingWebhookConfiguration, ValidatingWebhookConfiguration)
FORMER, PRESENT = Authority.create("former"), Authority.create("present")
BOTH = FORMER.pair.certificate + PRESENT.pair.certificate


@asynccontextmanager
async def beginning(
    folder: Path, server: ApiServer, *, longest: float = 60.0, is_there: bool = True
) -> AsyncIterator[WebhookTrust]:
    """A replica that begins with a certificate of the present authority."""
    if is_there:
        place(folder, PRESENT, issue(PRESENT))
    async with server.client() as client:
        certificates = ProvidedCertificates(folder, HOST, times=Times(check=0.02))
        trust = WebhookTrust(client, certificates, HOST, TrustTimes(0.02, longest))
        async with running(certificates.run(), trust.run()):
            yield trust


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(*(kind.KIND for kind in KINDS)) as made:
        register(made, FORMER.pair.certificate)
        yield made


def register(server: ApiServer, authorities: bytes, *kinds: type) -> None:
    for kind in kinds or KINDS:
        verb = "mutate" if kind is MutatingWebhookConfiguration else "validate"
        hooks = webhooks(verb, ControllerSettings(), authorities)
        server.put(kind(metadata=ObjectMeta(name=NAME), webhooks=hooks))


async def test_it_is_not_ready_until_all_webhooks_trust_its_certificate(
    tmp_path: Path, server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with beginning(tmp_path, server) as trust:
        assert trust.not_ready_reason, "nothing is known yet"
        await eventually(lambda: trust.not_ready_reason == UNTRUSTED)
        register(server, BOTH, MutatingWebhookConfiguration)
        await asyncio.sleep(0.2)
        assert trust.not_ready_reason == UNTRUSTED, "the API server would refuse what we say of the other one"
        register(server, BOTH, ValidatingWebhookConfiguration)
        await eventually(lambda: trust.not_ready_reason is None)
        register(server, FORMER.pair.certificate)
        await asyncio.sleep(0.2)
        assert trust.not_ready_reason is None, "who serves is not taken away again"
    assert capsys.readouterr().out.count(UNTRUSTED) == 1


async def test_it_waits_no_longer_than_a_leader_may_take(
    tmp_path: Path, server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with beginning(tmp_path, server, longest=0.3) as trust:
        await eventually(lambda: trust.not_ready_reason == UNTRUSTED)
        await eventually(lambda: trust.not_ready_reason is None)
    assert "ready all the same, though calls of the API server may fail" in capsys.readouterr().out


@pytest.mark.parametrize("registered", [b"", PRESENT.pair.certificate, BOTH])
async def test_it_is_ready_at_once_where_it_is_trusted_or_nothing_is_known(
    tmp_path: Path, server: ApiServer, registered: bytes
) -> None:
    register(server, registered)
    async with beginning(tmp_path, server) as trust:
        await eventually(lambda: trust.not_ready_reason is None, timeout=5.0)


async def test_it_is_ready_at_once_where_no_webhook_is_registered(tmp_path: Path, server: ApiServer) -> None:
    server.put(*(kind(metadata=ObjectMeta(name=NAME)) for kind in KINDS))
    async with beginning(tmp_path, server) as trust:
        await eventually(lambda: trust.not_ready_reason is None, timeout=5.0)


async def test_what_is_damaged_is_not_trusted(tmp_path: Path, server: ApiServer) -> None:
    for kind in KINDS:
        broken = {"name": "a.example.com", "clientConfig": {"caBundle": base64.b64encode(b"x").decode()}}
        server.put(kind(metadata=ObjectMeta(name=NAME), webhooks=[broken]))
    async with beginning(tmp_path, server) as trust:
        await eventually(lambda: trust.not_ready_reason == UNTRUSTED)


async def test_the_api_server_may_be_away_for_a_while(tmp_path: Path, server: ApiServer) -> None:
    register(server, BOTH)
    server.inject(Fault("list", times=3, plural="mutatingwebhookconfigurations", status=500))
    async with beginning(tmp_path, server) as trust:
        await eventually(lambda: "cannot be read" in (trust.not_ready_reason or ""))
        await eventually(lambda: trust.not_ready_reason is None)


async def test_time_begins_when_there_is_a_certificate(tmp_path: Path, server: ApiServer) -> None:
    register(server, FORMER.pair.certificate)
    async with beginning(tmp_path, server, longest=0.1, is_there=False) as trust:
        await asyncio.sleep(0.3)
        assert trust.not_ready_reason
        place(tmp_path, PRESENT, issue(PRESENT))
        await eventually(lambda: trust.not_ready_reason is None)

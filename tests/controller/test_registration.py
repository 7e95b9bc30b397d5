"""The webhook configurations that we register."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from spiderpool.api.admissionregistration_v1 import (
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
    Webhook,
    WebhookConfiguration,
)
from spiderpool.api.core_v1 import Secret
from spiderpool.api.meta import ObjectMeta
from spiderpool.controller import registration
from spiderpool.controller.certificates import STORE, Certificates
from spiderpool.controller.installation import AGAIN
from spiderpool.controller.provided_certificates import ProvidedCertificates, Times
from spiderpool.controller.registration import NAME, NAMESPACE_NAME_LABEL, Registration, matches, unregister, webhooks
from spiderpool.settings import CommonSettings, ControllerSettings, PodInject
from spiderpool_lab.certificates import Authority
from tests.support.api_server import ApiServer
from tests.support.certificate_folder import HOST, issue, place
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit


def test_additions_of_the_api_server_match_and_edits_do_not() -> None:
    wanted = [{"name": "a", "rules": [{"scope": "*"}], "objectSelector": {}}]
    assert matches([{**wanted[0], "added": {"later": 1}}], wanted)
    for edited in ([], [*wanted, *wanted], [{**wanted[0], "objectSelector": {"matchLabels": {"a": "b"}}}], None):
        assert not matches(edited, wanted)


def test_the_webhook_for_pods_fails_open_and_excludes_system_namespaces() -> None:
    settings = ControllerSettings(pod_inject=PodInject(True, ("kube-system",), ("team",)))
    *ours, pods = webhooks("mutate", settings, b"ca")
    assert {webhook["failurePolicy"] for webhook in ours} == {"Fail"}
    assert (pods["name"], pods["failurePolicy"]) == ("pods.spiderpool.spidernet.io", "Ignore")
    assert pods["namespaceSelector"]["matchExpressions"] == [
        {"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": ["kube-system"]},
        {"key": NAMESPACE_NAME_LABEL, "operator": "In", "values": ["team"]},
    ]
    assert pods["clientConfig"]["service"]["path"] == "/mutate--v1-pod"


@pytest.mark.parametrize(("resources", "shown"), [("none", False), ("advertise", True), ("withdraw", False)])
def test_new_pods_are_shown_to_us_where_they_are_to_request_addresses(resources: str, shown: bool) -> None:
    *_, last = webhooks("mutate", ControllerSettings(node_resources=resources), b"ca")
    assert (last["name"] == "pods.spiderpool.spidernet.io") == shown


@pytest.mark.parametrize(
    ("settings", "mutated", "guarded"),
    [
        (ControllerSettings(), {"pool", "subnet", "reservedip", "multusconfig", "coordinator"}, set()),
        (ControllerSettings(CommonSettings(enable_spider_subnet=False), protect_used=True), {"pool"}, {"pool"}),
        (ControllerSettings(protect_used=True), {"subnet"}, {"pool", "subnet"}),
    ],
)
def test_the_webhooks_follow_the_settings(settings: ControllerSettings, mutated: set[str], guarded: set[str]) -> None:
    def short_name(webhook: dict[str, object]) -> str:
        return str(webhook["name"]).partition(".")[0].removeprefix("spider").removeprefix("ip")

    registered = webhooks("validate", settings, b"ca")
    assert mutated <= {short_name(webhook) for webhook in registered}
    assert ("subnet" in {short_name(webhook) for webhook in registered}) == settings.common.enable_spider_subnet
    assert {short_name(webhook) for webhook in registered if "DELETE" in webhook["rules"][0]["operations"]} == guarded


def test_the_pods_of_kube_system_are_never_shown_to_us() -> None:
    for inject in (PodInject(True, ()), PodInject(True, (), ("kube-system", "team"))):
        *_, pods = webhooks("mutate", ControllerSettings(pod_inject=inject), b"ca")
        excluded = {"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": ["kube-system"]}
        assert excluded in pods["namespaceSelector"]["matchExpressions"]
        assert (inject.covers("kube-system"), inject.covers("team")) == (False, True)


MUTATING = MutatingWebhookConfiguration(metadata=ObjectMeta(name=NAME))
VALIDATING = ValidatingWebhookConfiguration(metadata=ObjectMeta(name=NAME))


@asynccontextmanager
async def registering(server: ApiServer) -> AsyncIterator[Registration]:
    """A registration that runs, with certificates that are loaded."""
    server.put(Secret(metadata=ObjectMeta(name=STORE, namespace="kube-system")))
    async with server.client() as client:
        certificates = Certificates(client, "kube-system", ["127.0.0.1"])
        running = Registration(client, ControllerSettings(), certificates)
        tasks = [asyncio.create_task(each.run()) for each in (certificates, running)]
        try:
            await eventually(lambda: certificates.trusted)
            yield running
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def api_server() -> ApiServer:
    return ApiServer(Secret.KIND, MutatingWebhookConfiguration.KIND, ValidatingWebhookConfiguration.KIND)


def filled(server: ApiServer, kind: type[WebhookConfiguration]) -> bool:
    return bool((stored := server.stored(kind).get(NAME)) and stored.webhooks)


async def test_a_configuration_that_is_missing_is_told_and_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(registration, "LAST_PAUSE", 0.04)
    async with api_server() as server:
        server.put(MUTATING)
        async with registering(server) as running:
            await eventually(lambda: filled(server, MutatingWebhookConfiguration), "the other one is written")
            told = f"ValidatingWebhookConfiguration {NAME} does not exist: {AGAIN}"
            await eventually(lambda: told in (running.not_ready_reason or ""))
            before, begun = server.requests["patch"], time.monotonic()
            await eventually(lambda: server.requests["patch"] >= before + 12, "it tries again")
            assert time.monotonic() - begun > 0.3, "not too often"
            assert (server.requests["create"], server.requests["delete"]) == (0, 0)
            assert not await running.registered(0.01)
            monkeypatch.setattr(registration, "LAST_PAUSE", 3600.0)
            await asyncio.sleep(0.1)
            server.put(VALIDATING)
            await eventually(lambda: filled(server, ValidatingWebhookConfiguration), "at once when it is there")
            assert await running.registered(5.0)
            assert running.not_ready_reason is None


async def test_unregistering_empties_the_configurations_and_leaves_them() -> None:
    async with api_server() as server:
        server.put(MUTATING, VALIDATING)
        async with registering(server) as running:
            assert await running.registered(5.0)
        async with server.client() as client:
            await unregister(client)
            assert not filled(server, MutatingWebhookConfiguration)
            assert not filled(server, ValidatingWebhookConfiguration)
            assert server.requests["delete"] == 0
    async with api_server() as server, server.client() as client:
        await unregister(client)


async def test_a_leader_trusts_for_a_while_what_was_registered_before_it(tmp_path: Path) -> None:
    """Its files may be newer than those of other replicas, which serve by the authority before."""
    former, present = Authority.create("former"), Authority.create("present")
    place(tmp_path, present, issue(present))
    no_certificate = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----").decode()
    broken: list[Webhook] = [
        {"name": f"{number}.example.com", "clientConfig": {"caBundle": bundle}}
        for number, bundle in enumerate(("?", no_certificate))
    ]
    async with api_server() as server, server.client() as client:
        hooks = webhooks("mutate", ControllerSettings(), former.pair.certificate.rstrip())
        stored = [*broken, *hooks]
        server.put(MutatingWebhookConfiguration(metadata=ObjectMeta(name=NAME), webhooks=stored), VALIDATING)
        certificates = ProvidedCertificates(tmp_path, HOST, times=Times(check=0.02, overlap=1.0))
        registering = Registration(client, ControllerSettings(), certificates)
        async with running(certificates.run(), registering.run()):
            await eventually(lambda: trusted(server) == {former.pair.certificate + present.pair.certificate})
            await eventually(lambda: trusted(server) == {present.pair.certificate}, "only for a while")


def trusted(server: ApiServer) -> set[bytes]:
    """The authorities that our configurations name."""
    kinds = (MutatingWebhookConfiguration, ValidatingWebhookConfiguration)
    stored = [server.stored(kind)[NAME] for kind in kinds]
    return {base64.b64decode(hook["clientConfig"]["caBundle"]) for each in stored for hook in each.webhooks or ()}

"""Whoever has the token of spiderpool-controller, and nothing else, wants to become an administrator of the cluster."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from spiderpool.api.admissionregistration_v1 import (
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
    Webhook,
    WebhookConfiguration,
)
from spiderpool.api.core_v1 import ConfigMap, Secret
from spiderpool.api.meta import ObjectMeta
from spiderpool.controller.certificates import STORE
from spiderpool.controller.registration import NAME, REGISTRATIONS, webhooks
from spiderpool.kube.client import ApiRefusal, Client, Forbidden, Invalid
from spiderpool.settings import ControllerSettings, PodInject
from spiderpool_lab import chart
from spiderpool_lab.binaries import find
from spiderpool_lab.certificates import Authority
from spiderpool_lab.control_plane import ControlPlane
from tests.controller.conftest import unregister
from tests.support.eventually import eventually

pytestmark = pytest.mark.control_plane

NAMESPACE = "kube-system"
STRONG = "clusterrole-aggregation-controller"
"""A ServiceAccount that may give itself every right."""
TOKEN_TYPE, TOKEN_OF = "kubernetes.io/service-account-token", "kubernetes.io/service-account.name"
ADMITTED = "https://127.0.0.1:5722"
"""Where the installation says that the webhooks are."""
SERVICE = {"service": {"name": "spiderpool-controller", "namespace": NAMESPACE, "path": "/", "port": 5722}}
OURS = {"apiGroups": ["spiderpool.spidernet.io"], "resources": ["spiderippools"]}
ALL = {"apiGroups": ["*"], "resources": ["*/*"]}
PODS = {"apiGroups": [""], "resources": ["pods"], "operations": ["CREATE"]}
POLICIES = ("spiderpool-controller-webhooks", "spiderpool-controller-objects")


def webhook(name: str = "evil.example.com", *, rule: dict[str, Any] = OURS, **fields: Any) -> Webhook:
    """A webhook that looks like one of ours, but for what is given."""
    rules = [{"apiVersions": ["*"], "operations": ["*"], "scope": "*", **rule}]
    common = {"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail"}
    return {**common, "clientConfig": SERVICE, "rules": rules, **fields}


def pod_webhook(**fields: Any) -> Webhook:
    """A webhook for new pods as it may be, but for what is given."""
    excluded = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [NAMESPACE]}
    selector = {"namespaceSelector": {"matchExpressions": [excluded]}}
    return webhook(**{"rule": PODS, "failurePolicy": "Ignore", "timeoutSeconds": 5, **selector, **fields})


def url(text: str) -> dict[str, Any]:
    return {"clientConfig": {"url": text}}


def service(**fields: str) -> dict[str, Any]:
    return {"clientConfig": {"service": {**SERVICE["service"], **fields}}}


EVIL: dict[str, list[Webhook]] = {
    "all, to our Service": [webhook(rule=ALL)],
    "all of our group": [webhook(rule={**OURS, "resources": ["*"]})],
    "our group and another": [webhook(rule={**OURS, "apiGroups": ["spiderpool.spidernet.io", ""]})],
    "Secrets": [webhook(rule={"apiGroups": [""], "resources": ["secrets"]})],
    "Secrets behind ours": [webhook("a.b.c"), webhook(rule={"apiGroups": [""], "resources": ["secrets"]})],
    "records of addresses": [webhook(rule={**OURS, "resources": ["spiderips"]})],
    "the status of pools": [webhook(rule={**OURS, "resources": ["spiderippools/status"]})],
    "another URL": [webhook(**url("https://127.0.0.1:9999/x"))],
    "a URL that begins alike": [webhook(**url(f"{ADMITTED}2/x"))],
    "another Service": [webhook(**service(name="evil"))],
    "a Service of that name elsewhere": [webhook(**service(namespace="default"))],
    "no pod is made": [pod_webhook(failurePolicy="Fail")],
    "pods take long": [pod_webhook(timeoutSeconds=30)],
    "pods take long, in a row": [pod_webhook(name=f"a.b.c{number}") for number in range(2)],
    "changes of pods": [pod_webhook(rule={**PODS, "operations": ["CREATE", "UPDATE"]})],
    "evictions": [pod_webhook(rule={**PODS, "resources": ["pods", "pods/eviction"]})],
    "pods of all Namespaces": [pod_webhook(namespaceSelector={})],
    "pods of kube-system": [
        pod_webhook(
            namespaceSelector={
                "matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [NAMESPACE]},
                    {"key": "other", "operator": "NotIn", "values": [NAMESPACE]},
                ]
            }
        )
    ],
    "very many": [webhook(f"a.b.c{number}") for number in range(9)],
}
"""What the API server shall never be told, by name."""


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[Client]:
    async with Client.load(control_plane.admin_kubeconfig) as client:
        yield client


@pytest.fixture
async def thief(control_plane: ControlPlane, admin: Client, installed: None) -> AsyncIterator[Client]:
    """A client with the token; what it may write is limited already."""
    async with Client.load(_kubeconfig(control_plane)) as client:

        async def is_refused() -> bool:
            try:
                await client.patch(ValidatingWebhookConfiguration, NAME, {"webhooks": EVIL["another URL"]})
            except Invalid:
                return True
            return False

        await eventually(is_refused, "the policy is enforced", timeout=30.0)
        await admin.patch(ValidatingWebhookConfiguration, NAME, {"webhooks": []})
        yield client


@pytest.fixture
def installed(control_plane: ControlPlane) -> Iterator[None]:
    """The objects of the installation, without webhooks before and after."""
    control_plane.admit_webhook_url(ADMITTED)
    unregister(control_plane)
    yield
    unregister(control_plane)


def _kubeconfig(plane: ControlPlane) -> Path:
    return plane.service_account_kubeconfig(NAMESPACE, NAME)


async def registered(admin: Client) -> list[Webhook]:
    return [each for _, kind in REGISTRATIONS for each in (await admin.get(kind, NAME)).webhooks or ()]


class Interceptor:
    """A server of the attacker that is asked about writes."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.seen.append(review["request"]["name"])
        response = {"uid": review["request"]["uid"], "allowed": True}
        return web.json_response({key: review[key] for key in ("apiVersion", "kind")} | {"response": response})


@asynccontextmanager
async def listening(interceptor: Interceptor, directory: Path) -> AsyncIterator[dict[str, Any]]:
    """Serve with a certificate of an authority of its own. Gives the ``clientConfig``."""
    authority = Authority.create("evil")
    pair = authority.server(["127.0.0.1"])
    file = directory / "evil.pem"
    file.write_bytes(pair.certificate + pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", interceptor.answer)
    server = TestServer(application, scheme="https")
    await server.start_server(ssl=context)
    try:
        trusted = base64.b64encode(authority.pair.certificate).decode()
        yield {"url": f"https://127.0.0.1:{server.port}/x", "caBundle": trusted}
    finally:
        await server.close()


class TestWebhooks:
    @pytest.mark.parametrize("what", EVIL)
    async def test_what_reaches_further_than_our_kinds_is_not_registered(
        self, admin: Client, thief: Client, what: str
    ) -> None:
        for _, kind in REGISTRATIONS:
            for strategic in (False, True):
                with pytest.raises(Invalid, match="ValidatingAdmissionPolicy"):
                    await thief.patch(kind, NAME, {"webhooks": EVIL[what]}, strategic=strategic)
            with pytest.raises(Invalid, match="ValidatingAdmissionPolicy"):
                await thief.apply(kind, {"metadata": {"name": NAME}, "webhooks": EVIL[what]}, NAME)
        assert await registered(admin) == []

    async def test_only_new_pods_are_shown_and_only_to_be_changed(self, admin: Client, thief: Client) -> None:
        with pytest.raises(Invalid):
            await thief.patch(ValidatingWebhookConfiguration, NAME, {"webhooks": [pod_webhook()]})
        await thief.patch(MutatingWebhookConfiguration, NAME, {"webhooks": [pod_webhook()]})
        assert [each["rules"][0]["resources"] for each in await registered(admin)] == [["pods"]]

    async def test_no_write_of_another_group_is_intercepted(self, admin: Client, thief: Client, tmp_path: Path) -> None:
        interceptor, rule = Interceptor(), {"apiGroups": [""], "resources": ["configmaps"], "operations": ["CREATE"]}
        async with listening(interceptor, tmp_path) as target:
            evil = {"webhooks": [webhook(rule=rule, clientConfig=target)]}
            for _, kind in REGISTRATIONS:
                with pytest.raises(ApiRefusal):
                    await thief.patch(kind, NAME, evil)
                for name in ("another", NAME):
                    with pytest.raises(ApiRefusal):
                        await thief.create(kind(metadata=ObjectMeta(name=name), webhooks=evil["webhooks"]))
            await _make(admin, "private")
            assert interceptor.seen == []
            await admin.patch(ValidatingWebhookConfiguration, NAME, evil)

            async def is_intercepted() -> bool:
                await _make(admin, "shown")
                return "shown" in interceptor.seen

            await eventually(is_intercepted, "without the policy this would be intercepted", timeout=30.0)
            assert "private" not in interceptor.seen

    @pytest.mark.parametrize("at", [None, ADMITTED, f"{ADMITTED}/"])
    async def test_what_we_register_is_admitted(self, admin: Client, thief: Client, at: str | None) -> None:
        everything = ControllerSettings(protect_used=True, webhook_url=at, pod_inject=PodInject(True, (), ("team",)))
        for settings in (
            ControllerSettings(webhook_url=at),
            everything,
            replace(everything, pod_inject=PodInject(True)),
        ):
            for verb, kind in REGISTRATIONS:
                desired = webhooks(verb, settings, b"-----BEGIN CERTIFICATE-----")
                written = await thief.patch(kind, NAME, {"webhooks": desired})
                assert [each["name"] for each in written.webhooks or ()] == [each["name"] for each in desired]

    async def test_without_a_word_of_the_installation_no_url_is_admitted(
        self, control_plane: ControlPlane, thief: Client
    ) -> None:
        control_plane.apply(chart.template("controller-policy.yaml"))

        async def is_refused() -> bool:
            try:
                await thief.patch(ValidatingWebhookConfiguration, NAME, {"webhooks": [webhook(**url(f"{ADMITTED}/x"))]})
            except Invalid as error:
                assert "spiderpool-controller-webhooks names in its variables: change these" in error.message
                return True
            return False

        await eventually(is_refused, "the URL is refused", timeout=30.0)
        await thief.patch(ValidatingWebhookConfiguration, NAME, {"webhooks": [webhook()]})


async def _make(admin: Client, name: str) -> None:
    """Create a ConfigMap, and delete it."""
    await admin.create(ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data={}))
    await admin.delete(ConfigMap, name, "default")


def token_secret(name: str) -> Secret:
    """A Secret that gets the token of the strong ServiceAccount."""
    return Secret(metadata=ObjectMeta(name=name, namespace=NAMESPACE, annotations={TOKEN_OF: STRONG}), type=TOKEN_TYPE)


class TestSecret:
    async def test_no_token_of_another_account_is_read(
        self, control_plane: ControlPlane, admin: Client, thief: Client
    ) -> None:
        for name in ("evil", STORE):
            with pytest.raises(Forbidden):
                await thief.create(token_secret(name))
        attempts: list[dict[str, Any]] = [
            {"type": TOKEN_TYPE, "metadata": {"annotations": {TOKEN_OF: STRONG}}},
            {"type": TOKEN_TYPE, "metadata": {"annotations": {TOKEN_OF: STRONG}}, "data": None},
            {"metadata": {"annotations": {TOKEN_OF: STRONG}}},
        ]
        for body in attempts:
            with pytest.raises(ApiRefusal):
                await thief.patch(Secret, STORE, body, NAMESPACE)
        with pytest.raises(Forbidden):
            await thief.delete(Secret, STORE, NAMESPACE)

        # Also if somebody else writes the annotation, or the Secret is gone.
        await admin.patch(Secret, STORE, {"metadata": {"annotations": {TOKEN_OF: STRONG}}}, NAMESPACE)
        await admin.create(token_secret("of-the-administrator"))
        try:

            async def has_token() -> bool:
                return "token" in ((await admin.get(Secret, "of-the-administrator", NAMESPACE)).data or {})

            await eventually(has_token, "an administrator's Secret of that type gets a token", timeout=30.0)
            secrets = await admin.list(Secret, NAMESPACE)
            assert {each.name for each in secrets if "token" in (each.data or {})} == {"of-the-administrator"}
            assert await thief.list(Secret, NAMESPACE, fields=f"metadata.name={STORE}")
            for name in ("of-the-administrator", "evil"):
                with pytest.raises(Forbidden):
                    await thief.list(Secret, NAMESPACE, fields=f"metadata.name={name}")
            with pytest.raises(Forbidden):
                await thief.list(Secret, NAMESPACE)
        finally:
            await admin.delete(Secret, "of-the-administrator", NAMESPACE)
            await admin.patch(Secret, STORE, {"metadata": {"annotations": {TOKEN_OF: None}}}, NAMESPACE)

    async def test_a_secret_that_is_gone_is_not_made_by_it(
        self, control_plane: ControlPlane, admin: Client, thief: Client
    ) -> None:
        former = await admin.get(Secret, STORE, NAMESPACE)
        await admin.delete(Secret, STORE, NAMESPACE)
        try:
            with pytest.raises(Forbidden):
                await thief.create(token_secret(STORE))
            for body in ({"type": TOKEN_TYPE, "metadata": {"name": STORE, "annotations": {TOKEN_OF: STRONG}}},):
                with pytest.raises(Forbidden):
                    await thief.apply(Secret, body, STORE, NAMESPACE)
            assert await admin.find(Secret, STORE, NAMESPACE) is None
        finally:
            metadata = ObjectMeta(name=STORE, namespace=NAMESPACE, annotations=former.metadata.annotations)
            await admin.create(Secret(metadata=metadata, type=former.type))


FOREIGN_OWNER = [{"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}]


@pytest.mark.parametrize(
    "fields", [{"ownerReferences": FOREIGN_OWNER}, {"finalizers": ["a.b/c"]}, {"labels": {"a": "b"}}]
)
async def test_its_own_objects_are_not_deleted_in_a_roundabout_way(
    admin: Client, thief: Client, fields: dict[str, Any]
) -> None:
    places: list[tuple[type[WebhookConfiguration] | type[Secret], str, str | None]] = [
        *((kind, NAME, None) for _, kind in REGISTRATIONS),
        (Secret, STORE, NAMESPACE),
    ]
    for kind, name, namespace in places:
        before = (await admin.get(kind, name, namespace)).metadata
        with pytest.raises(Invalid, match="the installation's"):
            await thief.patch(kind, name, {"metadata": fields}, namespace)
        assert (await admin.get(kind, name, namespace)).metadata == before
    with pytest.raises(Invalid):
        await thief.patch(Secret, STORE, {"immutable": True}, NAMESPACE)


def test_it_cannot_change_what_limits_it(control_plane: ControlPlane) -> None:
    def attempt(*words: str) -> None:
        command = [find("kubectl"), "--kubeconfig", _kubeconfig(control_plane), *words]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)
        assert "orbidden" in done.stderr, words

    places = [
        f"{kind}/{name}"
        for kind in ("validatingadmissionpolicy", "validatingadmissionpolicybinding")
        for name in POLICIES
    ]
    places += [f"clusterrole/{NAME}", f"role/{NAME}", f"clusterrolebinding/{NAME}"]
    body = json.dumps({"metadata": {"labels": {"changed": "yes"}}})
    before = control_plane.kubectl("get", *places, "-n", NAMESPACE, "-o", "json")
    for place in places:
        attempt("delete", place, "-n", NAMESPACE)
        attempt("patch", place, "-n", NAMESPACE, "--type=merge", "-p", body)
    attempt("create", "token", STRONG, "-n", NAMESPACE)
    attempt("get", "secrets", "-A", "--as=system:admin", "--as-group=system:masters")
    assert control_plane.kubectl("get", *places, "-n", NAMESPACE, "-o", "json") == before

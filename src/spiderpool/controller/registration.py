"""Registers our webhooks with the API server: fills, corrects and empties the webhook configurations.

The installation makes them, without webhooks. A ValidatingAdmissionPolicy limits what they may hold
(charts/spiderpool/templates/controller-policy.yaml): what is registered here has to satisfy it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from spiderpool.api.admissionregistration_v1 import (
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
    Webhook,
    WebhookConfiguration,
)
from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import Kind
from spiderpool.controller.certificates import WebhookCertificates
from spiderpool.controller.installation import missing
from spiderpool.controller.webhooks import guarded_kinds, kinds, webhook_path
from spiderpool.errors import is_bug
from spiderpool.kube.attempts import on_all
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.settings import ControllerSettings
from spiderpool.telemetry import logger

NAME = "spiderpool-controller"
"""Name of our webhook configurations."""
TIMEOUT = 10
"""Seconds after which the API server gives up waiting for us and refuses the change."""
POD_TIMEOUT = 5
"""Seconds after which the API server admits a pod without our answer."""
SYNC_TIMEOUT = 60.0
"""Seconds within which the informers must have listed the webhook configurations."""
FIRST_PAUSE, LAST_PAUSE = 2.0, 60.0
"""Seconds until a failed registration is tried again, doubled each time. Changes of the configurations end a pause."""
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""Label of every namespace with its name; the API server sets it."""

REGISTRATIONS: tuple[tuple[str, type[WebhookConfiguration]], ...] = (
    ("mutate", MutatingWebhookConfiguration),
    ("validate", ValidatingWebhookConfiguration),
)

log = logger("registration")


def hosts(settings: ControllerSettings) -> list[str]:
    """Host names under which the API server reaches our webhooks; the server certificate is for them."""
    if settings.webhook_url:
        return [urlsplit(settings.webhook_url).hostname or settings.webhook_host]
    service = f"{settings.service}.{settings.common.namespace}.svc"
    return [service, f"{service}.{settings.cluster_domain}"]


def webhooks(verb: str, settings: ControllerSettings, trusted: bytes) -> list[Webhook]:
    """The webhooks of the configuration to ``mutate`` or to ``validate``; ``trusted`` are the authorities (PEM)."""
    registered = [_webhook(kind.KIND, verb, settings, trusted) for kind in kinds(settings)]
    if verb == "mutate" and settings.changes_pods:
        registered.append(_pod_webhook(settings, trusted))
    return registered


def _webhook(kind: Kind, verb: str, settings: ControllerSettings, trusted: bytes) -> Webhook:
    guarded = verb == "validate" and kind in (each.KIND for each in guarded_kinds(settings))
    return {
        **_common(kind, verb, settings, trusted, ["CREATE", "UPDATE", *(["DELETE"] if guarded else [])]),
        "name": f"{kind.name.lower()}.{kind.group}",
        "failurePolicy": "Fail",
        "namespaceSelector": {},
        "timeoutSeconds": TIMEOUT,
    }


def _pod_webhook(settings: ControllerSettings, trusted: bytes) -> Webhook:
    """The webhook for pods fails open: without our answer the API server admits a pod unchanged."""
    return {
        **_common(Pod.KIND, "mutate", settings, trusted, ["CREATE"]),
        "name": "pods.spiderpool.spidernet.io",
        "failurePolicy": "Ignore",
        "namespaceSelector": {"matchExpressions": _namespaces(settings)},
        "timeoutSeconds": POD_TIMEOUT,
    }


def _namespaces(settings: ControllerSettings) -> list[dict[str, Any]]:
    """Requirements of the namespace selector."""
    lists = [("NotIn", settings.pod_inject.left_alone), ("In", settings.pod_inject.included)]
    return [
        {"key": NAMESPACE_NAME_LABEL, "operator": operator, "values": list(names)} for operator, names in lists if names
    ]


def _common(
    kind: Kind, verb: str, settings: ControllerSettings, trusted: bytes, operations: Sequence[str]
) -> dict[str, Any]:
    """Fields of every webhook. Sets defaults explicitly, so that :func:`matches` notices when a user edits them."""
    rule = {
        "apiGroups": [kind.group],
        "apiVersions": [kind.version],
        "operations": list(operations),
        "resources": [kind.plural],
        "scope": "*",
    }
    ca_bundle = base64.b64encode(trusted).decode()
    return {
        "clientConfig": {**_endpoint(webhook_path(verb, kind), settings), "caBundle": ca_bundle},
        "rules": [rule],
        "matchPolicy": "Equivalent",
        "objectSelector": {},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **({"reinvocationPolicy": "Never"} if verb == "mutate" else {}),
    }


def registered_authorities(configurations: Iterable[WebhookConfiguration]) -> list[bytes]:
    """What the webhooks of configurations name as authorities (PEM), each once; empty where it is no base64."""
    hooks = [hook for each in configurations for hook in each.webhooks or ()]
    bundles = dict.fromkeys(str((hook.get("clientConfig") or {}).get("caBundle") or "") for hook in hooks)
    return [_from_base64(bundle) for bundle in bundles]


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _endpoint(path: str, settings: ControllerSettings) -> dict[str, Any]:
    """Where the API server reaches a webhook: the configured URL, otherwise our Service."""
    if settings.webhook_url:
        return {"url": settings.webhook_url.rstrip("/") + path}
    service = {"name": settings.service, "namespace": settings.common.namespace, "path": path}
    return {"service": {**service, "port": settings.webhook_port}}


def matches(stored: Any, desired: Any) -> bool:
    """Whether a stored document has all desired fields; ignores fields that the API server has added."""
    if isinstance(desired, dict) and desired and isinstance(stored, dict):
        return all(key in stored and matches(stored[key], value) for key, value in desired.items())
    if isinstance(desired, list) and isinstance(stored, list):
        return len(stored) == len(desired) and all(map(matches, stored, desired))
    return bool(stored == desired)


class Registration:
    """Keeps the webhook configurations as they should be, also when authorities change or a user edits them.

    Run it in the leader alone. The configurations stay when it stops, because other replicas go on serving.
    """

    def __init__(self, client: Client, settings: ControllerSettings, certificates: WebhookCertificates) -> None:
        self._client = client
        self._settings = settings
        self._certificates = certificates
        self._changed = asyncio.Event()  # a configuration or the authorities changed: check again
        self._informers = {kind: Informer(client, kind, fields=f"metadata.name={NAME}") for _, kind in REGISTRATIONS}
        self._has_begun = False  # what was registered before us is noted
        self._registered = asyncio.Event()  # set for good at the first success
        self._problem: str | None = "not tried yet"  # why the webhooks are not registered; None when they are

    @property
    def not_ready_reason(self) -> str | None:
        """Why the webhooks were never registered; None for good after the first success, as others serve them too."""
        return None if self._registered.is_set() else f"the webhooks are not registered: {self._problem}"

    async def registered(self, timeout: float) -> bool:
        """Wait for the first successful registration; False after ``timeout`` seconds without one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._registered.wait()
        return self._registered.is_set()

    async def run(self) -> None:
        """Register, and correct the configurations, until cancelled. Raises NotReady when a list takes too long."""
        unsubscribe = self._certificates.subscribe(self._changed.set)
        try:
            async with asyncio.TaskGroup() as group:
                for informer in self._informers.values():
                    informer.subscribe(lambda _, __: self._changed.set())
                    group.create_task(informer.run())
                group.create_task(self._reconcile_forever())
        finally:
            unsubscribe()

    async def _reconcile_forever(self) -> None:
        for informer in self._informers.values():
            await informer.synced(SYNC_TIMEOUT)
        pause = FIRST_PAUSE
        while True:
            self._changed.clear()
            self._problem = await self._reconcile()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause if self._problem else None):
                    await self._changed.wait()
            pause = min(2 * pause, LAST_PAUSE) if self._problem else FIRST_PAUSE

    async def _reconcile(self) -> str | None:
        """Write the configurations that are not as they should be; says why that has to be tried again, if it has."""
        if self._certificates.trusted is None:
            return "no certificate is loaded"
        if not self._has_begun:
            self._has_begun = True
            stored = (self._informers[kind].get(NAME) for _, kind in REGISTRATIONS)
            for authorities in registered_authorities(filter(None, stored)):
                self._certificates.note_registered(authorities)
        trusted = self._certificates.trusted or b""
        problems = [problem for verb, kind in REGISTRATIONS if (problem := await self._ensure(kind, verb, trusted))]
        if not problems:
            self._registered.set()
        return "; ".join(problems) or None

    async def _ensure(self, kind: type[WebhookConfiguration], verb: str, trusted: bytes) -> str | None:
        """Write a configuration unless it is as it should be; says why that failed."""
        stored = self._informers[kind].get(NAME)
        try:
            desired = webhooks(verb, self._settings, trusted)
            if stored is not None and matches(stored.webhooks, desired):
                return None
            self._informers[kind].note(await self._write(kind, desired))
        except Exception as error:
            log.warning("webhooks not registered", kind=kind.KIND.name, error=str(error), exc_info=is_bug(error))
            return str(error) or repr(error)
        log.info("webhooks registered", kind=kind.KIND.name, webhooks=len(desired))
        return None

    async def _write(self, kind: type[WebhookConfiguration], desired: list[Webhook]) -> WebhookConfiguration:
        try:
            return await self._client.patch(kind, NAME, {"webhooks": desired})
        except NotFound as error:
            raise missing(f"{kind.KIND.name} {NAME}") from error


async def unregister(client: Client) -> None:
    """Empty the webhook configurations, so that the API server calls no webhook any more. Absent ones are success.

    Raises the first failure after all were tried.
    """

    async def empty(kind: type[WebhookConfiguration]) -> None:
        with suppress(NotFound):
            await client.patch(kind, NAME, {"webhooks": []})

    await on_all([kind for _, kind in REGISTRATIONS], empty, give_up=False)

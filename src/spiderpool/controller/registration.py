"""Registers our webhooks with the API server: creates, corrects and deletes their webhook configurations."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
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
from spiderpool.controller.certificates import Certificates
from spiderpool.controller.webhooks import guarded_kinds, kinds, webhook_path
from spiderpool.errors import NotReady, is_bug
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
RETRY = 2.0
"""Seconds until a failed registration is tried again. Repeating is safe: it writes the whole configuration."""
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
    return [service, f"{service}.cluster.local"]


def webhooks(verb: str, settings: ControllerSettings, trusted: bytes) -> list[Webhook]:
    """The webhooks of the configuration to ``mutate`` or to ``validate``; ``trusted`` are the authorities (PEM)."""
    registered = [_webhook(kind.KIND, verb, settings, trusted) for kind in kinds(settings)]
    if verb == "mutate" and settings.pod_inject.enabled:
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
    lists = [("NotIn", settings.pod_inject.excluded), ("In", settings.pod_inject.included)]
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

    def __init__(self, client: Client, settings: ControllerSettings, certificates: Certificates) -> None:
        self._client = client
        self._settings = settings
        self._certificates = certificates
        self._changed = asyncio.Event()  # a configuration or the authorities changed: check again
        self._informers = {kind: Informer(client, kind, fields=f"metadata.name={NAME}") for _, kind in REGISTRATIONS}
        self._registered = asyncio.Event()  # set for good at the first success

    async def registered(self, timeout: float) -> None:
        """Wait for the first successful registration. Raises NotReady after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._registered.wait()
        except TimeoutError as error:
            raise NotReady(f"the webhooks could not be registered within {timeout:.0f} s") from error

    async def run(self) -> None:
        """Register, and correct the configurations, until cancelled."""
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
        while True:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if await self._reconcile() else RETRY):
                    await self._changed.wait()

    async def _reconcile(self) -> bool:
        """Write the configurations that are not as they should be; False when that has to be tried again."""
        trusted = self._certificates.trusted
        if trusted is None:
            return False
        try:
            for verb, kind in REGISTRATIONS:
                await self._ensure(kind, webhooks(verb, self._settings, trusted))
        except Exception as error:
            log.warning("webhooks not registered", error=str(error), exc_info=is_bug(error))
            return False
        self._registered.set()
        return True

    async def _ensure(self, kind: type[WebhookConfiguration], desired: list[Webhook]) -> None:
        stored = self._informers[kind].get(NAME)
        if stored is not None and matches(stored.webhooks, desired):
            return
        try:
            written = await self._client.patch(kind, NAME, {"webhooks": desired})
        except NotFound:
            written = await self._client.apply(kind, {"metadata": {"name": NAME}, "webhooks": desired}, NAME)
        self._informers[kind].note(written)
        log.info("webhooks registered", kind=kind.KIND.name, webhooks=len(desired))


async def unregister(client: Client) -> None:
    """Delete the webhook configurations, so that the API server calls no webhook any more. Absent ones are success."""
    for _, kind in REGISTRATIONS:
        with suppress(NotFound):
            await client.delete(kind, NAME)

"""Our webhooks' registration with the API server: made, kept right, taken back."""

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
from spiderpool.api.core_v1 import Namespace, Pod
from spiderpool.api.meta import Kind
from spiderpool.controller.certificates import Certificates
from spiderpool.controller.webhooks import guarded_kinds, kinds, path
from spiderpool.errors import NotReady, SpiderpoolError
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.informer import Informer
from spiderpool.settings import ControllerSettings
from spiderpool.telemetry import logger

NAME = "spiderpool-controller"
"""Name of our webhook configurations."""
TIMEOUT = 10
"""Seconds after which the API server gives up on us, and refuses."""
POD_TIMEOUT = 5
"""Seconds after which it admits a pod without us."""
SYNC_TIMEOUT = 60.0
"""Seconds until the registrations must have been listed."""
RETRY = 2.0
"""Seconds until a failed registration is tried again."""
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""Kubernetes puts it on every namespace from 1.21 on."""

REGISTRATIONS: tuple[tuple[str, type[WebhookConfiguration]], ...] = (
    ("mutate", MutatingWebhookConfiguration),
    ("validate", ValidatingWebhookConfiguration),
)

log = logger("registration")


def hosts(settings: ControllerSettings) -> list[str]:
    """Names under which the API server reaches our webhooks."""
    if settings.webhook_url:
        return [urlsplit(settings.webhook_url).hostname or settings.webhook_host]
    service = f"{settings.service}.{settings.common.namespace}.svc"
    return [service, f"{service}.cluster.local"]


def webhooks(verb: str, settings: ControllerSettings, trusted: bytes, *, named: bool) -> list[Webhook]:
    """What is registered to ``mutate`` or to ``validate``; ``trusted`` are the authorities (PEM).

    ``named`` says whether the namespaces of this cluster carry their names as a label.
    """
    registered = [_webhook(kind.KIND, verb, settings, trusted) for kind in kinds(settings)]
    if verb == "mutate" and settings.pod_inject.enabled:
        registered.append(_pod_webhook(settings, trusted, named=named))
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


def _pod_webhook(settings: ControllerSettings, trusted: bytes, *, named: bool) -> Webhook:
    """New pods do not depend on us: without our answer they are admitted as they are."""
    return {
        **_common(Pod.KIND, "mutate", settings, trusted, ["CREATE"]),
        "name": "pods.spiderpool.spidernet.io",
        "failurePolicy": "Ignore",
        "namespaceSelector": {"matchExpressions": _namespaces(settings, named=named)},
        "timeoutSeconds": POD_TIMEOUT,
    }


def _namespaces(settings: ControllerSettings, *, named: bool) -> list[dict[str, Any]]:
    """Where the namespaces have no such label, the webhook itself leaves out those that are not included."""
    excluded, included = settings.pod_inject.excluded, settings.pod_inject.included
    lists = [("NotIn", excluded), ("In", included if named else ())]
    return [
        {"key": NAMESPACE_NAME_LABEL, "operator": operator, "values": list(names)} for operator, names in lists if names
    ]


def _common(
    kind: Kind, verb: str, settings: ControllerSettings, trusted: bytes, operations: Sequence[str]
) -> dict[str, Any]:
    """Everything is said, also what is the default, so that an edit of it is noticed."""
    rule = {
        "apiGroups": [kind.group],
        "apiVersions": [kind.version],
        "operations": list(operations),
        "resources": [kind.plural],
        "scope": "*",
    }
    return {
        "clientConfig": {**_address(path(verb, kind), settings), "caBundle": base64.b64encode(trusted).decode()},
        "rules": [rule],
        "matchPolicy": "Equivalent",
        "objectSelector": {},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **({"reinvocationPolicy": "Never"} if verb == "mutate" else {}),
    }


def _address(where: str, settings: ControllerSettings) -> dict[str, Any]:
    if settings.webhook_url:
        return {"url": settings.webhook_url.rstrip("/") + where}
    service = {"name": settings.service, "namespace": settings.common.namespace, "path": where}
    return {"service": {**service, "port": settings.webhook_port}}


def says(stored: Any, wanted: Any) -> bool:
    """Whether a stored document says all that is wanted; what the API server has added does not matter."""
    if isinstance(wanted, dict) and wanted and isinstance(stored, dict):
        return all(key in stored and says(stored[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(stored, list):
        return len(stored) == len(wanted) and all(map(says, stored, wanted))
    return bool(stored == wanted)


class Registration:
    """Keeps the registrations right while we lead: also when the authorities change, or somebody edits them.

    They stay when we stop: other replicas serve on.
    """

    def __init__(self, client: Client, settings: ControllerSettings, certificates: Certificates) -> None:
        self._client = client
        self._settings = settings
        self._certificates = certificates
        self._look = asyncio.Event()
        self._informers = {kind: Informer(client, kind, fields=f"metadata.name={NAME}") for _, kind in REGISTRATIONS}
        self._done = asyncio.Event()

    async def registered(self, timeout: float) -> None:
        """Wait until the API server knows all our webhooks. Raises NotReady after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._done.wait()
        except TimeoutError as error:
            raise NotReady(f"the webhooks could not be registered within {timeout:.0f} s") from error

    async def run(self) -> None:
        """Register, and keep it so, until cancelled."""
        forget = self._certificates.subscribe(self._look.set)
        try:
            async with asyncio.TaskGroup() as group:
                for informer in self._informers.values():
                    informer.subscribe(lambda _, __: self._look.set())
                    group.create_task(informer.run())
                group.create_task(self._keep())
        finally:
            forget()

    async def _keep(self) -> None:
        for informer in self._informers.values():
            await informer.synced(SYNC_TIMEOUT)
        while True:
            self._look.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if await self._is_right() else RETRY):
                    await self._look.wait()

    async def _is_right(self) -> bool:
        trusted = self._certificates.trusted
        if trusted is None:
            return False
        try:
            named = await self._are_namespaces_named()
            for verb, kind in REGISTRATIONS:
                await self._ensure(kind, webhooks(verb, self._settings, trusted, named=named))
        except SpiderpoolError as error:
            log.warning("webhooks not registered", error=str(error))
            return False
        self._done.set()
        return True

    async def _are_namespaces_named(self) -> bool:
        if not self._settings.pod_inject.included:
            return False
        ours = await self._client.get(Namespace, self._settings.common.namespace)
        return NAMESPACE_NAME_LABEL in (ours.metadata.labels or {})

    async def _ensure(self, kind: type[WebhookConfiguration], wanted: list[Webhook]) -> None:
        stored = self._informers[kind].get(NAME)
        if stored is not None and says(stored.webhooks, wanted):
            return
        try:
            made = await self._client.patch(kind, NAME, {"webhooks": wanted})
        except NotFound:
            made = await self._client.apply(kind, {"metadata": {"name": NAME}, "webhooks": wanted}, NAME)
        self._informers[kind].note(made)
        log.info("webhooks registered", kind=kind.KIND.name, webhooks=len(wanted))


async def unregister(client: Client) -> None:
    """Take the registrations back, so that the API server asks nobody any more. Nothing there is success."""
    for _, kind in REGISTRATIONS:
        with suppress(NotFound):
            await client.delete(kind, NAME)

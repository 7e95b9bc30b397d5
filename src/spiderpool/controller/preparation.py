"""What an installation needs before the daemons run: current custom resources, and the objects that its values ask for.

Helm makes custom resources, but never changes them. Objects are made where there are none, and never changed: they are
the users' from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from spiderpool.api.crd import KINDS, crd
from spiderpool.api.meta import Kind, Object, Scope
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.errors import BadConfig, NotReady, SpiderpoolError
from spiderpool.kube.client import AlreadyExists, Client, Forbidden, Invalid, NotFound
from spiderpool.settings import ControllerSettings
from spiderpool.telemetry import logger

DEFINITION = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", Scope.CLUSTER)
TIMEOUT = 120.0
"""Seconds in which everything must be done: the API server serves a new kind late, and webhooks may be away."""
PAUSE = 1.0
"""Seconds between two tries to make an object."""

BY_NAME = {kind.KIND.name: kind for kind in KINDS}

log = logger("preparation")


async def prepare(settings: ControllerSettings) -> None:
    """Bring custom resources up to date and make the initial objects. Raises SpiderpoolError."""
    objects = list(_initial(settings.initial_objects)) if settings.initial_objects else []
    async with Client.load(settings.common.kubeconfig) as client:
        try:
            async with asyncio.timeout(TIMEOUT):
                if settings.update_custom_resources:
                    await update_definitions(client)
                for each in objects:
                    await make(client, each)
        except TimeoutError as error:
            raise NotReady(
                f"the API server did not take everything within {TIMEOUT:.0f} s; the log says why"
            ) from error


async def update_definitions(client: Client) -> None:
    """Write the CustomResourceDefinitions of all kinds. That of other projects is made where there is none.

    A field that is new in a schema does not change the objects that are stored.
    """
    for kind in KINDS:
        definition = crd(kind)
        name = definition["metadata"]["name"]
        if kind is NetworkAttachmentDefinition and await _exists(client, DEFINITION.object_path(None, name)):
            continue
        await client.apply_raw(DEFINITION, definition, name)
        log.info("custom resource is up to date", name=name)


async def _exists(client: Client, path: str) -> bool:
    """Whether there is an object, whatever is in it."""
    try:
        await client.get_raw(path)
    except NotFound:
        return False
    return True


async def make(client: Client, wanted: Object) -> None:
    """Create an object unless there is one; repeat that while the API server does not serve its kind or its webhook.

    Raises Forbidden, and Invalid where the object is refused.
    """
    names = {"kind": wanted.KIND.name, "name": wanted.name}
    while True:
        try:
            is_new = await _made(client, wanted)
        except (Forbidden, Invalid):
            raise
        except SpiderpoolError as error:
            log.warning("not made yet", error=str(error), **names)
            await asyncio.sleep(PAUSE)
            continue
        log.info("made" if is_new else "exists, left as it is", **names)
        return


async def _made(client: Client, wanted: Object) -> bool:
    """Create an object unless there is one. Whether it was created.

    It is read first: an API server asks the webhooks before it says that an object exists, and those of a controller
    that is down, which the upgrade is to mend, do not answer.
    """
    if await _exists(client, wanted.KIND.object_path(wanted.metadata.namespace, wanted.name)):
        return False
    try:
        await client.create(wanted)
    except AlreadyExists:
        return False
    return True


def _initial(path: Path) -> Iterator[Object]:
    """The objects of a file. Raises BadConfig."""
    try:
        for document in filter(None, yaml.safe_load_all(path.read_text())):
            yield _object(document)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise BadConfig(f"{path} cannot be read as objects of ours: {error}") from error


def _object(document: dict[str, Any]) -> Object:
    kind = BY_NAME.get(document.get("kind", ""))
    if kind is None:
        raise msgspec.ValidationError(f"kind {document.get('kind')!r} is none of {', '.join(BY_NAME)}")
    return msgspec.convert(document, kind)

"""Objects in manifests: YAML documents, and Lists in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
import yaml

from spiderpool.api.meta import Object, Scope
from spiderpool.errors import BadConfig

NO_UID = "00000000-0000-0000-0000-000000000000"
"""UID of an object whose manifest has none, as it was not created yet."""

T = TypeVar("T", bound=Object)


def documents(text: str) -> Iterator[dict[str, Any]]:
    """The objects, those in Lists one by one. Raises BadConfig."""
    try:
        whole = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadConfig(f"the manifests cannot be read as YAML: {error}") from error
    for document in whole:
        if document is not None:
            yield from _objects(document)


def _objects(document: object) -> Iterator[dict[str, Any]]:
    """A document, or the items of a List. Raises BadConfig."""
    found = _mapping(document, "a manifest")
    if "items" not in found:
        yield found
        return
    items = found["items"] or ()
    if not isinstance(items, (list, tuple)):
        raise BadConfig(f"items of a List are {type(items).__name__}: write the objects as a list")
    for each in items:
        yield _mapping(each, "an item of a List")


def _mapping(found: object, what: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise BadConfig(f"{what} is {type(found).__name__}, not a mapping of keys")
    return found


def of_kind(found: Iterable[dict[str, Any]], kind: str, model: type[T], namespace: str = "default") -> list[T]:
    """The objects of a kind. Raises BadConfig."""
    return [read(each, model, namespace) for each in found if each.get("kind") == kind]


def read(document: dict[str, Any], model: type[T], namespace: str = "default") -> T:
    """An object, in ``namespace`` if it names none. Raises BadConfig."""
    meta = _mapping(document.get("metadata") or {}, f"metadata of {document.get('kind')}")
    named = {"namespace": namespace, "uid": NO_UID, **meta} if model.KIND.scope is Scope.NAMESPACED else meta
    try:
        return msgspec.convert({**document, "metadata": named}, model)
    except msgspec.ValidationError as error:
        raise BadConfig(f"{document.get('kind')} {meta.get('name', 'without a name')}: {error}") from error

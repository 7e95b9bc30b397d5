"""Objects in manifests: YAML documents, and Lists in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

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


def check(found: Iterable[dict[str, Any]], models: Iterable[type[Object]]) -> None:
    """Raises BadConfig, with all faults of all objects of these kinds."""
    known = {model.KIND.name: model for model in models}
    faults: list[str] = []
    for each in found:
        model = known.get(str(each.get("kind")))
        try:
            if model:
                read(each, model)
        except BadConfig as error:
            faults.append(error.message)
    if faults:
        raise BadConfig("; ".join(faults))


def read(document: dict[str, Any], model: type[T], namespace: str = "default") -> T:
    """An object, in ``namespace`` if it names none. Raises BadConfig, with all faults of the object."""
    meta = _mapping(document.get("metadata") or {}, f"metadata of {document.get('kind')}")
    named = {"namespace": namespace, "uid": NO_UID, **meta} if model.KIND.scope is Scope.NAMESPACED else meta
    whole = {**document, "metadata": named}
    try:
        return msgspec.convert(whole, model)
    except msgspec.ValidationError as error:
        faults = "; ".join(_faults(whole, model, "$")) or str(error)
        raise BadConfig(f"{document.get('kind')} {meta.get('name', 'without a name')}: {faults}") from error


def _faults(found: object, shape: Any, path: str) -> Iterator[str]:
    """What is wrong with a value at a path, each fault with its own path, as msgspec names the first one."""
    whole, shape = shape, _member(found, shape)
    if isinstance(found, dict) and _is_struct(shape):
        yield from _faults_of_fields(found, shape, path)
    elif isinstance(found, list) and get_origin(shape) is list:
        for index, item in enumerate(found):
            yield from _faults(item, get_args(shape)[0], f"{path}[{index}]")
    elif isinstance(found, dict) and get_origin(shape) is dict:
        for item in found.values():
            yield from _faults(item, get_args(shape)[1], f"{path}[...]")
    else:
        yield from _fault(found, whole, path)


def _faults_of_fields(found: dict[str, Any], shape: type[msgspec.Struct], path: str) -> Iterator[str]:
    for each in msgspec.structs.fields(shape):
        if each.encode_name in found:
            yield from _faults(found[each.encode_name], each.type, f"{path}.{each.encode_name}")
        elif each.required:
            yield f"Object missing required field `{each.encode_name}` - at `{path}`"


def _is_struct(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, msgspec.Struct)


def _member(found: object, shape: Any) -> Any:
    """Of a shape that may be one of several, that of an object or a list, where the value is one."""
    if get_origin(shape) is Annotated:
        return _member(found, get_args(shape)[0])
    if get_origin(shape) not in (Union, UnionType) or not isinstance(found, (dict, list)):
        return shape
    kinds = [each for each in get_args(shape) if (get_origin(each) is list) == isinstance(found, list)]
    kinds = [each for each in kinds if get_origin(each) or _is_struct(each)]
    return _member(found, kinds[0]) if len(kinds) == 1 else shape


def _fault(found: object, shape: Any, path: str) -> Iterator[str]:
    try:
        msgspec.convert(found, shape)
    except msgspec.ValidationError as error:
        what, _, below = str(error).partition(" - at `$")
        yield f"{what} - at `{path}{below.removesuffix('`')}`"

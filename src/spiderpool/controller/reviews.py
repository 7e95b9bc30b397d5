"""AdmissionReview v1: the requests of the API server, and the answers to them. It knows no rule."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec

from spiderpool.api.decoding import LONGEST_OBJECT, decode
from spiderpool.api.meta import Kind, Object
from spiderpool.core.admission.faults import FieldError

MAX_VALUES = 50_000
"""Values of a spec or of a new pod that is looked at, at most: the event loop waits meanwhile."""
NULL = msgspec.Raw(b"null")
"""Stands for an object that a request leaves out, such as ``oldObject`` of a CREATE."""


class UserInfo(msgspec.Struct):
    """authentication.k8s.io/v1 UserInfo, in part."""

    username: str = ""


class AdmissionRequest(msgspec.Struct):
    """admission.k8s.io/v1 AdmissionRequest, in part."""

    uid: str
    operation: str
    name: str = ""
    namespace: str = ""
    userInfo: UserInfo = msgspec.field(default_factory=UserInfo)  # noqa: N815
    object: msgspec.Raw = NULL
    oldObject: msgspec.Raw = NULL  # noqa: N815


class AdmissionReview(msgspec.Struct):
    """admission.k8s.io/v1 AdmissionReview, in part: the request."""

    request: AdmissionRequest


Answer = dict[str, Any]
"""admission.k8s.io/v1 AdmissionResponse without its ``uid``."""
ALLOWED: Answer = {"allowed": True}
Decide = Callable[[AdmissionRequest], Awaitable[Answer]]


def request_of(body: bytes) -> AdmissionRequest:
    """The request of a review, its objects not yet decoded. Raises msgspec.DecodeError when the body is none."""
    return decode(body, AdmissionReview, longest=LONGEST_OBJECT).request


async def answered(decide: Decide, request: AdmissionRequest) -> bytes:
    """The review that answers a request."""
    answer = {"uid": request.uid, **await decide(request)}
    return msgspec.json.encode({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})


def patched(before: Object, after: Object, warnings: list[str] | None = None) -> Answer:
    """Allows the object with a JSON patch that turns ``before`` into ``after``."""
    answer = {**ALLOWED, **({"warnings": warnings} if warnings else {})}
    patch = list(json_patch(msgspec.to_builtins(before), msgspec.to_builtins(after)))
    if not patch:
        return answer
    return {**answer, "patchType": "JSONPatch", "patch": base64.b64encode(msgspec.json.encode(patch)).decode()}


def invalid(kind: Kind, name: str, faults: tuple[FieldError, ...]) -> Answer:
    """Refuses an object for all its faults, each with its field."""
    causes = [{"reason": fault.kind, "message": fault.detail, "field": fault.path} for fault in faults]
    details = {"name": name, "group": kind.group, "kind": kind.name, "causes": causes}
    message = f"{kind.name} {name} is invalid: " + "; ".join(map(str, faults))
    return refused(422, "Invalid", message, details)


def refused(code: int, reason: str, message: str, details: Answer | None = None) -> Answer:
    """Refuses a request with a metav1.Status."""
    status = {"status": "Failure", "code": code, "reason": reason, "message": message, "details": details or {}}
    return {"allowed": False, "status": status}


def json_patch(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """The operations of a JSON patch (RFC 6902) for all differences; lists of other length are replaced as a whole.

    Operations touch changed fields alone, so that fields which our types do not have stay in the object.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _object_patch(before, after, path)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from json_patch(old, new, f"{path}/{index}")
    elif before != after:
        yield {"op": "replace", "path": path, "value": after}


def _object_patch(before: dict[str, Any], after: dict[str, Any], path: str) -> Iterator[dict[str, Any]]:
    for key in before | after:
        target = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"  # escaped by RFC 6901
        if key not in after:
            yield {"op": "remove", "path": target}
        elif key not in before:
            yield {"op": "add", "path": target, "value": after[key]}
        else:
            yield from json_patch(before[key], after[key], target)

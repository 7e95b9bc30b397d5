"""JSON documents, decoded to our types and encoded again."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

Document = dict[str, Any]


def read(document: Document, shape: type[T]) -> T:
    """The value of a document. Asserts that it encodes to the same document, apart from empty objects."""
    value = msgspec.json.decode(json.dumps(document), type=shape)
    assert _filled(json.loads(msgspec.json.encode(value))) == _filled(document)
    return value


def _filled(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: filled for key, each in part.items() if (filled := _filled(each)) != {}}
    return [_filled(each) for each in part] if isinstance(part, list) else part

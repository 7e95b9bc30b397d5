"""The two ways in which a call is signed: ACS3-HMAC-SHA256 in headers, and RPC version 1 (HMAC-SHA1) in parameters.

Pure: texts in, texts out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

ALGORITHM = "ACS3-HMAC-SHA256"

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=(?P<key>[^,]+),\s*SignedHeaders=(?P<headers>[^,]+),\s*Signature=(?P<signature>[0-9a-f]+)"
)


@dataclass(frozen=True, slots=True)
class Authorization:
    """What the Authorization header of a call says."""

    key: str
    signed: tuple[str, ...]
    signature: str


def read_authorization(header: str) -> Authorization | None:
    """The parts of an ACS3 header, or None if it is not one."""
    found = _AUTHORIZATION.fullmatch(header.strip())
    if found is None:
        return None
    return Authorization(found["key"], tuple(found["headers"].split(";")), found["signature"])


def payload_hash(body: bytes) -> str:
    """Hash of the body as it goes into header and canonical text."""
    return hashlib.sha256(body).hexdigest()


def acs3_text(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], signed: Iterable[str], payload: str
) -> str:
    """The canonical text: method, path, query, headers, their names and the payload's hash, a line each."""
    names = sorted(name.lower() for name in signed)
    lines = "".join(f"{name}:{headers.get(name, '').strip()}\n" for name in names)
    return "\n".join([method, path, canonical_query(query), lines, ";".join(names), payload])


def acs3_signature(secret: str, text: str) -> str:
    """Signature over a canonical text."""
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(text.encode()).hexdigest()}"
    return hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


def rpc_text(method: str, parameters: Mapping[str, str]) -> str:
    """The text that RPC version 1 signs: all parameters but the signature itself."""
    bare = {name: value for name, value in parameters.items() if name != "Signature"}
    return f"{method}&%2F&{_encode(canonical_query(bare))}"


def rpc_signature(secret: str, text: str) -> str:
    """Base64 HMAC-SHA1 with the secret and an ampersand."""
    return base64.b64encode(hmac.new(f"{secret}&".encode(), text.encode(), hashlib.sha1).digest()).decode()


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Sorted and percent-encoded by RFC 3986."""
    return "&".join(f"{_encode(name)}={_encode(parameters[name])}" for name in sorted(parameters))


def equal(one: str, other: str) -> bool:
    """Whether two signatures are the same, in constant time."""
    return hmac.compare_digest(one, other)


def _encode(text: str) -> str:
    return quote(text, safe="~")

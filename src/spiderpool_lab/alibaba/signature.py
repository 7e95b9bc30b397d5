"""The two signature schemes of the OpenAPI: ACS3-HMAC-SHA256 in headers, and RPC version 1 (HMAC-SHA1) in parameters.

Pure functions over strings.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

ALGORITHM = "ACS3-HMAC-SHA256"

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=(?P<key>[^,]+),\s*SignedHeaders=(?P<headers>[^,]+),\s*Signature=(?P<signature>[0-9a-f]+)"
)


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """An HTTP request; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The form parameters of the body; empty if the body is of another type."""
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return {}
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def payload_hash(self) -> str:
        """SHA-256 of the body in hexadecimal, as the header x-acs-content-sha256 has it."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Authorization:
    """The parts of an ACS3 Authorization header. ``signed`` are the names of the signed headers."""

    key: str
    signed: tuple[str, ...]
    signature: str


def read_authorization(header: str) -> Authorization | None:
    """Parse an Authorization header. Returns None if it is not an ACS3 header."""
    found = _AUTHORIZATION.fullmatch(header.strip())
    if found is None:
        return None
    return Authorization(found["key"], tuple(found["headers"].split(";")), found["signature"])


def acs3_text(request: HTTPRequest, signed: Iterable[str]) -> str:
    """The canonical request of ACS3: method, path, query, signed headers, their names, hash of the body."""
    names = sorted(name.lower() for name in signed)
    lines = "".join(f"{name}:{request.headers.get(name, '').strip()}\n" for name in names)
    query = canonical_query(request.query)
    return "\n".join([request.method, request.path, query, lines, ";".join(names), request.payload_hash])


def acs3_signature(secret: str, text: str) -> str:
    """Hexadecimal HMAC-SHA256 over the hash of a canonical request."""
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(text.encode()).hexdigest()}"
    return hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


def rpc_text(method: str, parameters: Mapping[str, str]) -> str:
    """The string to sign of RPC version 1: all parameters except ``Signature``."""
    unsigned = {name: value for name, value in parameters.items() if name != "Signature"}
    return f"{method}&%2F&{_encode(canonical_query(unsigned))}"


def rpc_signature(secret: str, text: str) -> str:
    """Base64 HMAC-SHA1. The key is the secret with an ampersand at its end."""
    return base64.b64encode(hmac.new(f"{secret}&".encode(), text.encode(), hashlib.sha1).digest()).decode()


def canonical_query(parameters: Mapping[str, str]) -> str:
    """A query string sorted by name and percent-encoded by RFC 3986."""
    return "&".join(f"{_encode(name)}={_encode(parameters[name])}" for name in sorted(parameters))


def equal(one: str, other: str) -> bool:
    """Whether two signatures are equal, compared in constant time."""
    return hmac.compare_digest(one, other)


def _encode(text: str) -> str:
    return quote(text, safe="~")

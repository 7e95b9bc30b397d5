"""The head of an HTTP/1.1 request, and its answer, as bytes: what the API server and probes send, and no more."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, parse_headers

MAX_HEAD = 16 << 10
"""Bytes of a request's head, at most."""
MAX_REVIEW = 8 << 20
"""Bytes of a review, at most: the API server takes requests of 3 MiB, and etcd stores objects of 1.5 MiB by default."""

_TIMEOUT = re.compile(r"(?:^|&)timeout=([1-9][0-9]?)s(?:&|$)", re.ASCII)


class BadCall(Exception):
    """A request that gets no review but this answer, after which its connection ends."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What counts of a request's head."""

    method: str
    path: str
    length: int
    """Bytes of the body."""
    keep_alive: bool
    expects: bool = False
    """Whether the caller waits for a word before it sends the body."""
    timeout: float | None = None
    """Seconds for which the caller waits for an answer; API servers say it in the query, as ``timeout=5s``."""


def parse_head(text: bytes) -> RequestHead:
    """The head of a request. Raises BadCall."""
    line, _, rest = text.partition(b"\r\n")
    try:
        method, target, version = line.decode("ascii").split(" ")
        fields = parse_headers(io.BytesIO(rest))
    except (ValueError, HTTPException) as error:
        raise BadCall(400, "not a request of HTTP/1.1") from error
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise BadCall(505, "only HTTP/1.1 is served")
    keep_alive = version == "HTTP/1.1" and "close" not in fields.get("Connection", "").lower()
    expects = fields.get("Expect", "").lower() == "100-continue"
    path, _, query = target.partition("?")
    return RequestHead(method, path, _length(method, fields), keep_alive, expects, _timeout(query))


def _timeout(query: str) -> float | None:
    """The seconds of a query, which webhooks have from 1 to 30."""
    found = _TIMEOUT.search(query)
    return float(found[1]) if found else None


def _length(method: str, fields: HTTPMessage) -> int:
    """Bytes of the body, which must be known beforehand."""
    lengths = fields.get_all("Content-Length", [])
    if "Transfer-Encoding" in fields or (method == "POST" and not lengths):
        raise BadCall(411, "the length of the body must be given")
    if not lengths:
        return 0
    text = lengths[0].strip()
    if len(lengths) > 1 or not (text.isascii() and text.isdigit()):
        raise BadCall(400, "no valid length of the body")
    if len(text) > len(str(MAX_REVIEW)) or int(text) > MAX_REVIEW:
        raise BadCall(413, f"more than {MAX_REVIEW} bytes")
    return int(text)


def continue_line(head: RequestHead) -> bytes:
    """What a caller waits for before it sends the body, if it does."""
    return b"HTTP/1.1 100 Continue\r\n\r\n" if head.expects else b""


def response(status: int, body: bytes, *, keep_alive: bool) -> bytes:
    """An answer: JSON of a review, or a sentence."""
    kind = "application/json" if status == HTTPStatus.OK and body.startswith(b"{") else "text/plain; charset=utf-8"
    end = "" if keep_alive else "Connection: close\r\n"
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{end}"
    )
    return f"{head}\r\n".encode() + body

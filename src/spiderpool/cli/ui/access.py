"""Who may read the page: a token that is good for one visit, the session that it is exchanged for, and the headers.

A page on loopback can be reached by every program of the machine, and by every site that the user's browser shows: by a
name that leads to 127.0.0.1, or by a form. So each request has to name us (Host), come from us (Origin,
Sec-Fetch-Site), and have the session's cookie.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Middleware

TOKEN_BYTES = 32
"""Random bytes of a token, and of a session."""
OWN_SITES = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of requests that our page makes, or the user by entering an address."""
TOKEN_FIELD = "token"  # noqa: S105 - its name
SESSION_SECONDS = 12 * 3600
"""Seconds after which the browser forgets the session; the server forgets it when it ends."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), clipboard-read=()",
    "Cache-Control": "no-store",
}
"""Headers of every answer."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class PageAccess:
    """Judges the requests of one run of the server. ``port`` is known once it listens."""

    port: int = 0
    _token: str | None = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    _session: str | None = None

    @property
    def address(self) -> str:
        """What the user opens; None is left of the token after the first visit."""
        return f"http://127.0.0.1:{self.port}/?{TOKEN_FIELD}={self._token}"

    @property
    def cookie(self) -> str:
        """Name of the cookie: browsers send the cookies of one machine to all its ports."""
        return f"spiderpool-ui-{self.port}"

    def refusal(self, method: str, headers: Mapping[str, str]) -> web.HTTPException | None:
        """Why a request is refused, whoever sends it; None where it is not."""
        hosts = {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if host not in hosts:
            return web.HTTPForbidden(text="the Host of the request is not that of this page\n")
        if origin is not None and origin != f"http://{host}":
            return web.HTTPForbidden(text="the request comes from another site\n")
        if headers.get("Sec-Fetch-Site", "none") not in OWN_SITES and not _is_visit(headers):
            return web.HTTPForbidden(text="the request comes from another site\n")
        if method != "GET":
            return web.HTTPMethodNotAllowed(method, ["GET"])
        return None

    def exchange(self, token: str) -> str | None:
        """A new session for the token; None for a wrong one, and after the first visit."""
        if self._token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            return None
        self._token = None
        self._session = secrets.token_urlsafe(TOKEN_BYTES)
        return self._session

    def knows(self, session: str | None) -> bool:
        """Whether a session is ours."""
        if session is None or self._session is None:
            return False
        return hmac.compare_digest(session.encode(), self._session.encode())


def _is_visit(headers: Mapping[str, str]) -> bool:
    """Whether somebody follows a link to the page, as in a chat: it shows nothing without the token or the cookie."""
    return headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"


def guarded(access: PageAccess) -> Middleware:
    """The middleware that lets requests of the session pass, and gives every answer its headers."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            answer = await _guarded(access, request, handler)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        if not answer.prepared:
            answer.headers.update(HEADERS)
        return answer

    return middleware


async def _guarded(access: PageAccess, request: web.Request, handler: Handler) -> web.StreamResponse:
    if refusal := access.refusal(request.method, request.headers):
        raise refusal
    if access.knows(request.cookies.get(access.cookie)):
        return await handler(request)
    session = access.exchange(request.query.get(TOKEN_FIELD, "")) if request.path == "/" else None
    if session is None:
        raise web.HTTPUnauthorized(text=UNAUTHORIZED)
    answer = web.HTTPSeeOther("/")
    answer.set_cookie(access.cookie, session, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="Strict")
    raise answer


UNAUTHORIZED = (
    "This page needs the address that `spiderpoolctl ui` has printed, with its token, which is good for one visit. "
    "If it was used, end the command and start it again.\n"
)

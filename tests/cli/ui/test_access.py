"""Who may read the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from spiderpool.cli.ui.access import PageAccess
from spiderpool.cli.ui.serving import MOST_CONNECTIONS, prefers_chinese
from tests.cli.ui.visiting import KINDS, Visitor, visiting
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    """A visitor of a page of an empty cluster."""
    kinds = (kind.KIND for kind in KINDS)
    async with ApiServer(*kinds) as server, server.client() as client, visiting(client) as found:
        yield found


async def test_the_token_is_good_for_one_visit(visitor: Visitor) -> None:
    address = visitor.server.access.address.partition("/?")[2]
    first = await visitor.send(f"/?{address}")
    assert (first.status, first.headers["Location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {*first.headers["Set-Cookie"].split("; ")}
    again = await visitor.send(f"/?{address}")
    assert (again.status, "Set-Cookie" in again.headers) == (401, False)
    page = await visitor.send("/", Cookie=first.headers["Set-Cookie"].partition(";")[0])
    assert (page.status, page.text[:15]) == (200, "<!doctype html>")


@pytest.mark.parametrize(
    "path", ["/", "/?token=", "/?token=wrong", "/static/app.js", "/api/pools", "/api/stream", "/none"]
)
async def test_nothing_is_shown_without_the_cookie(visitor: Visitor, path: str) -> None:
    assert (await visitor.send(path)).status == 401
    assert (await visitor.send(path, Cookie=f"{visitor.server.access.cookie}=wrong")).status == 401


async def test_the_token_alone_opens_no_other_path(visitor: Visitor) -> None:
    token = visitor.server.access.address.partition("/?")[2]
    assert (await visitor.send(f"/api/pools?{token}")).status == 401
    assert (await visitor.enter()).headers["Cookie"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "[::1]:80", "127.0.0.1.nip:80"]
)
async def test_a_name_that_leads_here_is_refused(visitor: Visitor, host: str) -> None:
    await visitor.enter()
    answer = await visitor.send("/api/pools", Host=host)
    assert (answer.status, answer.headers["Content-Security-Policy"][:18]) == (403, "default-src 'none'")


async def test_localhost_is_our_name_too(visitor: Visitor) -> None:
    await visitor.enter()
    host = f"localhost:{visitor.server.access.port}"
    assert (await visitor.send("/api/pools", Host=host)).status == 200
    assert (await visitor.send("/api/pools", Host=host, Origin=f"http://{host}")).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:80"])
async def test_a_request_of_another_site_is_refused(visitor: Visitor, origin: str) -> None:
    await visitor.enter()
    assert (await visitor.send("/api/pools", Origin=origin)).status == 403
    assert (await visitor.send("/api/pools", Origin=str(visitor.base))).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_request_that_another_site_makes_the_browser_send_is_refused(visitor: Visitor, site: str) -> None:
    await visitor.enter()
    assert (await visitor.send("/api/pools", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")).status == 403
    assert (await visitor.send("/api/pools", Sec_Fetch_Site="same-origin")).status == 200


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_only_get_is_served(visitor: Visitor, method: str) -> None:
    assert (await visitor.send("/", method)).status == 405
    await visitor.enter()
    for path in ("/", "/api/pools", "/api/stream", "/static/app.js"):
        answer = await visitor.send(path, method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/", "/static/page.css", "/api/pools", "/api/none"])
async def test_every_answer_has_the_policy(visitor: Visitor, path: str) -> None:
    await visitor.enter()
    headers = (await visitor.send(path)).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("name", ["../serving.py", "..%2fserving.py", "%2e%2e%2fserving.py", "none.js", "__init__.py"])
async def test_only_the_files_of_the_page_are_served(visitor: Visitor, name: str) -> None:
    await visitor.enter()
    assert (await visitor.send(f"/static/{name}")).status == 404


async def test_the_files_use_nothing_from_elsewhere_and_no_inline_code(visitor: Visitor) -> None:
    files = visitor.server._files
    assert {"index.html", "app.js", "page.css"} <= files.keys()
    for name, content in files.items():
        text = content.decode().replace("http://www.w3.org/", "")
        assert "http://" not in text, name
        assert "https://" not in text, name
        assert "innerHTML" not in text, name
        assert len(text.splitlines()) <= 400, name
    index = files["index.html"].decode()
    assert "style=" not in index
    assert index.count("<script") == index.count('<script type="module" src=') == 1


async def test_connections_are_bounded(visitor: Visitor) -> None:
    port = visitor.server.access.port
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS)]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
    finally:
        for _, each in opened:
            each.close()


def test_two_runs_have_other_tokens_and_sessions() -> None:
    one, other = PageAccess(1), PageAccess(2)
    assert one.address.partition("=")[2] != other.address.partition("=")[2]
    session = one.exchange(one.address.partition("=")[2])
    assert session is not None
    assert one.knows(session)
    assert not other.knows(session)
    assert not one.knows("")
    assert not one.knows(None)


@pytest.mark.parametrize(
    ("languages", "expected"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", True),
        ("en-GB,zh;q=0.9", False),
        ("en;q=0.5, zh;q=0.7", True),
        ("de", False),
        ("", False),
        ("zh;q=none", True),
        ("," * 9999, False),
    ],
)
def test_chinese_is_shown_to_who_prefers_it(languages: str, expected: bool) -> None:
    assert prefers_chinese(languages) is expected

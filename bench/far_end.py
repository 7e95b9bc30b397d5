"""A pretend API server for measurements: it holds many objects as bytes, so that it is not what is measured.

It speaks lists by page, watches, get, create, replace, merge patch and delete; no preconditions, no selectors but for
``metadata.name`` and labels. POST ``/bench/events`` writes a list of ``[plural, object]`` as other clients would.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

from aiohttp import web

from spiderpool.api.meta import Object
from spiderpool.kube.client import encode

Body = dict[str, Any]


class FarEnd:
    """Objects by plural name of their kind and by key."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self._version = 1
        self._objects: dict[str, dict[str, bytes]] = defaultdict(dict)  # plural → namespace/name → JSON
        self._watches: dict[str, set[asyncio.Queue[bytes]]] = defaultdict(set)  # plural → queues of its watches
        self._lists: dict[str, list[bytes]] = {}  # plural → what a list reads, until something is written
        for obj in objects:
            self._version += 1
            obj.metadata.resourceVersion = str(self._version)
            self._objects[obj.KIND.plural][obj.key] = encode(obj)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        if request.path == "/bench/events":
            for plural, body in json.loads(await request.read()):
                self._write(plural, body)
            return web.Response()
        namespace, plural, name = _target(request.path)
        if request.method == "GET" and not name:
            return await self._watch(request, plural) if "watch" in request.query else self._list(request, plural)
        key = f"{namespace}/{name}" if namespace else name
        stored = self._objects[plural].get(key)
        apply = "apply-patch" in request.headers.get("Content-Type", "")
        if request.method != "POST" and stored is None and not apply:
            return web.json_response({"code": 404, "message": f"{plural} {key} not found"}, status=404)
        return self._answer(request.method, (plural, key), stored or b"{}", await request.read())

    def _answer(self, method: str, target: tuple[str, str], stored: bytes, content: bytes) -> web.Response:
        plural, key = target
        match method:
            case "POST":
                return web.Response(body=self._write(plural, json.loads(content)), status=201)
            case "PATCH":
                return web.Response(body=self._write(plural, _merged(json.loads(stored), json.loads(content))))
            case "PUT":
                return web.Response(body=self._write(plural, json.loads(content)))
            case "DELETE":
                self._remove(plural, key)
                return web.json_response({})
        return web.Response(body=stored)

    def _list(self, request: web.Request, plural: str) -> web.Response:
        if plural not in self._lists:
            self._lists[plural] = list(self._objects[plural].values())
        items = self._lists[plural]
        if fields := request.query.get("fieldSelector"):
            name = fields.removeprefix("metadata.name=")
            items = [each for key, each in self._objects[plural].items() if key.rpartition("/")[2] == name]
        if labels := request.query.get("labelSelector"):
            items = [each for each in items if _has(each, labels)]
        start, limit = int(request.query.get("continue", "0")), int(request.query.get("limit", "500"))
        metadata = {"resourceVersion": str(self._version)}
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        content = b",".join(items[start : start + limit])
        return web.Response(body=b'{"metadata":%s,"items":[%s]}' % (json.dumps(metadata).encode(), content))

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        response = web.StreamResponse()
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._watches[plural].add(queue)
        try:
            await response.prepare(request)
            while True:
                await response.write(await queue.get())
        finally:
            self._watches[plural].discard(queue)

    def _write(self, plural: str, body: Body) -> bytes:
        self._version += 1
        metadata = body["metadata"]
        metadata["resourceVersion"] = str(self._version)
        metadata.setdefault("uid", f"u-{self._version}")
        metadata.setdefault("name", f"{metadata.get('generateName')}{self._version}")
        space = metadata.get("namespace")
        content = json.dumps(body).encode()
        key = f"{space}/{metadata['name']}" if space else metadata["name"]
        self._objects[plural][key] = content
        self._tell(plural, b"MODIFIED", content)
        return content

    def _remove(self, plural: str, key: str) -> None:
        self._tell(plural, b"DELETED", self._objects[plural].pop(key))

    def _tell(self, plural: str, event: bytes, content: bytes) -> None:
        self._lists.pop(plural, None)
        for queue in self._watches[plural]:
            queue.put_nowait(b'{"type":"%s","object":%s}\n' % (event, content))


def _target(path: str) -> tuple[str, str, str]:
    """Namespace, plural and name in a request path, each empty when absent."""
    words = path.strip("/").split("/")[2 if path.startswith("/api/") else 3 :]
    namespace = ""
    if words[0] == "namespaces" and len(words) > 2:
        namespace, words = words[1], words[2:]
    return namespace, words[0], words[1] if len(words) > 1 else ""


def _has(content: bytes, selector: str) -> bool:
    labels = json.loads(content)["metadata"].get("labels", {})
    return all(labels.get(name) == value for name, _, value in (each.partition("=") for each in selector.split(",")))


def _merged(stored: Body, patch: Body) -> Body:
    merged = dict(stored)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merged(merged.get(name) or {}, value)
        else:
            merged[name] = value
    return merged


async def _serve(objects: Iterable[Object], ready: Connection) -> None:
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", FarEnd(objects).handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ready.send(runner.addresses[0][1])
    await asyncio.Event().wait()


def serve(objects: Callable[[], Iterable[Object]], ready: Connection) -> None:
    """Serve on a free port of 127.0.0.1, which is sent through the connection, until the process ends."""
    asyncio.run(_serve(objects(), ready))

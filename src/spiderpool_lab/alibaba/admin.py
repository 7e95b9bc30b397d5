"""Breaking things over HTTP: faults, full vSwitches, lost instances, and a look at what the cloud holds and was asked.

GET    /faults                        the faults that are set, by number
POST   /faults                        set one; the body is a Fault, the answer its number
DELETE /faults, /faults/{number}      clear all, or one
PUT    /vswitches/{id}/full           the vSwitch gives no address any more; DELETE: it does again
DELETE /instances/{id}                the instance is lost
POST   /console/{product}/{action}    carry out an action as somebody at the console; the body is its parameters
GET    /calls                         how often each action was called, and the last calls with their outcome
GET    /state                         every table
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from spiderpool.errors import BadConfig
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.openapi import Lost, OpenAPI
from spiderpool_lab.alibaba.refusals import Refusal
from spiderpool_lab.alibaba.serving import ServedEndpoint, serve
from spiderpool_lab.alibaba.tables import TABLES

_LAST_CALLS = 100
CONSOLE = CallerIdentity("console", "", "")
"""Who calls from the console: somebody with all rights, and without a key."""


class Admin:
    """Serves the far side of one account: for those who run the lab, not for those who use the cloud."""

    def __init__(self, account: Account, openapi: OpenAPI | None = None) -> None:
        self.account = account
        self._openapi = openapi or OpenAPI(account)

    def serve(
        self, host: str = "127.0.0.1", port: int = 0, *, netns: Path | None = None
    ) -> AbstractAsyncContextManager[ServedEndpoint]:
        """Serve for the length of a context, by plain HTTP."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/faults", self._faults),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.delete("/faults/{number:\\d+}", self._clear_faults),
                web.put("/vswitches/{identity}/full", self._fill),
                web.delete("/vswitches/{identity}/full", self._fill),
                web.delete("/instances/{identity}", self._release),
                web.post("/console/{product}/{action}", self._console),
                web.get("/calls", self._calls),
                web.get("/state", self._state),
            ]
        )
        return serve(app, host, port, netns=netns)

    async def _faults(self, request: web.Request) -> web.Response:
        return _json({str(number): fault for number, fault in self.account.faults.listed().items()})

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            fault = msgspec.json.decode(await request.read(), type=Fault)
        except (msgspec.DecodeError, BadConfig) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return _json({"number": self.account.break_down(fault)})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        number = request.match_info.get("number")
        self.account.faults.clear(int(number) if number else None)
        return _json({})

    async def _fill(self, request: web.Request) -> web.Response:
        try:
            self.account.fill(request.match_info["identity"], full=request.method == "PUT")
        except BadConfig as error:
            raise web.HTTPNotFound(text=error.message) from None
        return _json({})

    async def _release(self, request: web.Request) -> web.Response:
        identity = request.match_info["identity"]
        if identity not in self.account.world.instances:
            raise web.HTTPNotFound(text=f"there is no instance {identity}")
        self.account.release(identity)
        return _json({})

    async def _console(self, request: web.Request) -> web.Response:
        try:
            parameters = msgspec.json.decode(await request.read(), type=dict[str, str])
            product, action = request.match_info["product"], request.match_info["action"]
            return _json(await self._openapi.perform(product, action, parameters, CONSOLE))
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        except Refusal as refusal:
            raise web.HTTPConflict(text=f"{refusal.code}: {refusal.message}") from None
        except Lost:
            raise web.HTTPServiceUnavailable(text="the answer was lost") from None

    async def _calls(self, request: web.Request) -> web.Response:
        return _json({"counts": self.account.counted(), "last": self.account.calls[-_LAST_CALLS:]})

    async def _state(self, request: web.Request) -> web.Response:
        self.account.settle()
        return _json({name: list(getattr(self.account.world, name)) for name in TABLES})


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")

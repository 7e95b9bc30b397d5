"""Administration by HTTP: injects faults, marks vSwitches full, deletes instances, shows the state and the calls.

GET    /faults                        all faults, by number
POST   /faults                        set a fault; the body is a Fault, the answer has its number
DELETE /faults, /faults/{number}      clear all faults, or one; the answer has the numbers of those that were set
PUT    /vswitches/{id}/full           mark a vSwitch as having no free address; DELETE removes the mark
DELETE /instances/{id}                delete an instance
POST   /console/{product}/{action}    execute an action as the web console does; the body has its parameters
GET    /calls                         number of calls by action, and the last calls with their outcome
GET    /state                         all tables
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
from aiohttp import web

from spiderpool.errors import BadConfig
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.faults import Fault, check_hits
from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.openapi import AnswerLost, OpenAPI
from spiderpool_lab.alibaba.refusals import Refusal
from spiderpool_lab.alibaba.registry import ACTIONS
from spiderpool_lab.alibaba.serving import ListenAddress, ServedEndpoint, serve
from spiderpool_lab.alibaba.tables import TABLES

_LAST_CALLS = 100
"""Calls that the answer of /calls lists."""
CONSOLE = CallerIdentity("console", "", "")
"""The identity of calls from the console: allowed everything, without an access key."""


class Admin:
    """Serves the administration of an account, for the operators of the lab. The real cloud has nothing like it."""

    def __init__(self, account: Account, openapi: OpenAPI | None = None) -> None:
        self.account = account
        self._openapi = openapi or OpenAPI(account)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> AbstractAsyncContextManager[ServedEndpoint]:
        """Serve by plain HTTP, without authentication."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/faults", self._faults),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.delete("/faults/{number:\\d+}", self._clear_faults),
                web.put("/vswitches/{identity}/full", self._set_full),
                web.delete("/vswitches/{identity}/full", self._set_full),
                web.delete("/instances/{identity}", self._delete_instance),
                web.post("/console/{product}/{action}", self._console),
                web.get("/calls", self._calls),
                web.get("/state", self._state),
            ]
        )
        return serve(app, ListenAddress(host, port))

    async def _faults(self, request: web.Request) -> web.Response:
        return _json({str(number): fault for number, fault in self.account.faults.listed().items()})

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            fault = msgspec.json.decode(await request.read(), type=Fault)
            check_hits(fault, {each.full_name: each.is_read for each in ACTIONS.values()})
        except (msgspec.DecodeError, BadConfig) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return _json({"number": self.account.set_fault(fault)})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        number = request.match_info.get("number")
        cleared = self.account.faults.clear(int(number) if number else None)
        if number and not cleared:
            present = ", ".join(map(str, self.account.faults.listed()))
            raise web.HTTPNotFound(
                text=f"there is no fault {number}; set are {present}" if present else "no fault is set"
            )
        return _json({"cleared": cleared})

    async def _set_full(self, request: web.Request) -> web.Response:
        try:
            self.account.set_full(request.match_info["identity"], full=request.method == "PUT")
        except BadConfig as error:
            raise web.HTTPNotFound(text=error.message) from None
        return _json({})

    async def _delete_instance(self, request: web.Request) -> web.Response:
        identity = request.match_info["identity"]
        if identity not in self.account.tables.instances:
            raise web.HTTPNotFound(text=f"there is no instance {identity}")
        self.account.delete_instance(identity)
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
        except AnswerLost:
            raise web.HTTPServiceUnavailable(text="the answer was lost") from None

    async def _calls(self, request: web.Request) -> web.Response:
        return _json({"counts": self.account.call_counts(), "last": self.account.calls[-_LAST_CALLS:]})

    async def _state(self, request: web.Request) -> web.Response:
        self.account.run_due()
        return _json({name: list(getattr(self.account.tables, name)) for name in TABLES})


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")

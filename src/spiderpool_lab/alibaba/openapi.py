"""The OpenAPI of the simulated cloud over HTTP and HTTPS: ECS, VPC, SLB and NLB behind one address.

A call passes, in this order: signature, action, policy, faults and limits, parameters, client token, handler.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from aiohttp import web

from spiderpool_lab.alibaba import (
    clb_balancers,
    clb_groups,
    clb_listeners,
    ecs_addresses,
    ecs_enis,
    ecs_instances,
    nlb_balancers,
    nlb_groups,
    nlb_jobs,
    nlb_listeners,
    tagging,
    vpc,
)
from spiderpool_lab.alibaba.account import Account, RecordedCall
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.identities import CallerIdentity, permit
from spiderpool_lab.alibaba.parameters import Parameters, decode
from spiderpool_lab.alibaba.refusals import Refusal, throttled
from spiderpool_lab.alibaba.registry import ACTIONS, VERSIONS, Action, Answer
from spiderpool_lab.alibaba.requests import Gate, Request, Signed, read
from spiderpool_lab.alibaba.serving import ServedEndpoint, serve
from spiderpool_lab.alibaba.tables import AccountTables
from spiderpool_lab.certificates import Authority

HANDLERS = (
    clb_balancers,
    clb_groups,
    clb_listeners,
    ecs_addresses,
    ecs_enis,
    ecs_instances,
    nlb_balancers,
    nlb_groups,
    nlb_jobs,
    nlb_listeners,
    tagging,
    vpc,
)
"""The modules whose import registers the actions."""

_TOKEN_MAX = 64
_WINDOW = 60.0
"""Seconds of the window in which calls are counted against a limit."""


class Lost(Exception):
    """The connection is to be closed without an answer."""


@dataclass(slots=True)
class _Asked:
    """A call as far as it is understood."""

    action: str = "unknown"
    who: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Answered:
    """An earlier answer to a client token, and what was asked with it."""

    asked: dict[str, str]
    answer: Answer


class OpenAPI:
    """Serves one account. The authority that signs its certificate is handed out as ``authority``."""

    def __init__(self, account: Account, *, authority: Authority | None = None) -> None:
        self.account = account
        self.authority = authority or Authority.create("simulated-cloud")
        self._gate = Gate(account)
        self._tokens: dict[tuple[str, str], _Answered] = {}
        self._windows: dict[tuple[str, int], int] = {}

    def serve(
        self, host: str = "127.0.0.1", port: int = 0, *, tls: bool = True, netns: Path | None = None
    ) -> AbstractAsyncContextManager[ServedEndpoint]:
        """Serve for the length of a context, by HTTPS or, without ``tls``, by plain HTTP."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        return serve(app, host, port, netns=netns, authority=self.authority if tls else None)

    async def perform(self, product: str, action: str, parameters: dict[str, str], who: CallerIdentity) -> Answer:
        """Carry out an action for somebody who is logged in, as the console does: nothing is signed.

        Raises Refusal, and Lost when a fault has the answer lost.
        """
        with self._written_down() as asked:
            asked.action, asked.who, asked.parameters = f"{product}:{action}", who.name, parameters
            found = next((each for each in ACTIONS.values() if each.full_name == asked.action), None)
            if found is None:
                raise _unknown(action, product)
            return await self._carry_out(found, who, {"RegionId": self.account.region, **parameters})

    async def _handle(self, http: web.Request) -> web.Response:
        identifier = str(uuid.uuid4()).upper()
        try:
            answer = await self._answer(await _read(http))
        except Refusal as refusal:
            return _refuse(refusal, identifier, http.host)
        except Lost:
            if http.transport is not None:
                http.transport.abort()
            raise web.HTTPServiceUnavailable from None
        return web.json_response({"RequestId": identifier, **answer})

    async def _answer(self, request: Request) -> Answer:
        """The answer to a request, written down with its outcome."""
        with self._written_down() as asked:
            signed = read(request)
            asked.action, asked.parameters = signed.action, signed.parameters
            identity = self._gate.admit(signed)
            asked.who = identity.name
            found = _action(signed)
            asked.action = found.full_name
            return await self._carry_out(found, identity, signed.parameters)

    @contextmanager
    def _written_down(self) -> Iterator[_Asked]:
        """Record a call with its outcome, whatever that is."""
        asked, outcome = _Asked(), "OK"
        try:
            yield asked
        except Refusal as refusal:
            outcome = refusal.code
            raise
        except Lost:
            outcome = "Dropped"
            raise
        finally:
            self.account.record(RecordedCall(asked.action, asked.who, outcome, self.account.clock(), asked.parameters))

    async def _carry_out(self, found: Action, identity: CallerIdentity, flat: dict[str, str]) -> Answer:
        permit(identity, found.full_name)
        self._count(found.full_name)
        struck = self.account.faults.strike(found.full_name, reads=found.reads)
        for _, fault in struck:
            await _before(fault)
        self.account.settle()
        answer = self._execute(found, flat, self._view(struck))
        if any(fault.kind == "lose" for _, fault in struck):
            raise Lost
        return answer

    def _execute(self, found: Action, flat: dict[str, str], account: Account) -> Answer:
        parameters = Parameters(decode(flat))
        parameters.check(found.known, found.needed)
        region = parameters.text("RegionId", account.region)
        if region != account.region:
            raise Refusal("InvalidRegionId.NotFound", f"The specified RegionId {region} does not exist.", 404)
        if parameters.flag("DryRun"):
            raise Refusal("DryRunOperation", "Request validation has been passed with DryRun flag set.")
        token = "" if found.reads else parameters.text("ClientToken")
        if not token:
            return found.handler(account, parameters)
        return self._once(found, token, flat, lambda: found.handler(account, parameters))

    def _once(self, found: Action, token: str, flat: dict[str, str], work: Callable[[], Answer]) -> Answer:
        """Carry out a call with a client token once, and answer its repetitions as the first time."""
        if len(token) > _TOKEN_MAX or not token.isascii():
            raise Refusal("InvalidClientToken.Malformed", f"A ClientToken has at most {_TOKEN_MAX} ASCII characters.")
        known = self._tokens.get((found.full_name, token))
        if known is None:
            answer = work()
            self._tokens[found.full_name, token] = _Answered(flat, answer)
            return answer
        if known.asked != flat:
            raise Refusal("IdempotentFailed", "The request uses the same client token as a previous, different one.")
        return known.answer

    def _view(self, struck: list[tuple[int, Fault]]) -> Account:
        """The account as this call sees it."""
        for number, fault in struck:
            if fault.kind == "empty":
                return self.account.as_of(AccountTables())
            if fault.kind == "stale":
                return self.account.as_of(self.account.remembered[number])
        return self.account

    def _count(self, action: str) -> None:
        """Count a call in its minute; beyond the limit it is refused until the next one begins."""
        if (limit := self.account.limits.get(action)) is None:
            return
        now = self.account.clock()
        window = int(now // _WINDOW)
        self._windows = {key: count for key, count in self._windows.items() if key[1] == window}
        count = self._windows[action, window] = self._windows.get((action, window), 0) + 1
        if count > limit:
            raise throttled(int((_WINDOW - now % _WINDOW) * 1000))


async def _read(http: web.Request) -> Request:
    headers = {name.lower(): value for name, value in http.headers.items()}
    query = dict(parse_qsl(http.rel_url.raw_query_string, keep_blank_values=True))
    return Request(http.method, http.rel_url.raw_path, query, headers, await http.read())


def _action(signed: Signed) -> Action:
    product = VERSIONS.get(signed.version)
    found = ACTIONS.get((product, signed.action)) if product else None
    if found is None:
        raise _unknown(signed.action, signed.version)
    return found


def _unknown(action: str, version: str) -> Refusal:
    text = f"Specified api is not found, please check your url and method. {action} {version}"
    return Refusal("InvalidAction.NotFound", text, 404)


async def _before(fault: Fault) -> None:
    """What a fault does before the call is carried out."""
    match fault.kind:
        case "throttle":
            raise throttled(int(fault.seconds * 1000))
        case "refuse":
            raise Refusal(fault.code, fault.message, fault.status)
        case "drop":
            raise Lost
        case "delay":
            await asyncio.sleep(fault.seconds)
        case "lose" | "stale" | "empty":
            return


def _refuse(refusal: Refusal, identifier: str, host: str) -> web.Response:
    headers = {} if refusal.retry_after is None else {"x-acs-retry-after": str(refusal.retry_after)}
    body = {
        "RequestId": identifier,
        "HostId": host,
        "Code": refusal.code,
        "Message": refusal.message,
        "Recommend": f"https://api.alibabacloud.com/troubleshoot?q={refusal.code}",
    }
    return web.json_response(body, status=refusal.status, headers=headers, dumps=json.dumps)

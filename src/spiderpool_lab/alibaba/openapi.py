"""Serves the OpenAPI by HTTP or HTTPS: ECS 2014-05-26, VPC 2016-04-28, SLB 2014-05-15, NLB 2022-04-30 at one address.

A call is checked in this order: signature, action, policy, limits, faults, parameters, client token, handler.

What is simplified, compared with the real API:

- One address serves all products, and each product has one API version.
- There is one account with one region and one VPC. Another RegionId is refused.
- A page token is a position in the list, so a list that changes between two pages may skip or repeat an item.
- Client tokens never expire, and limits count calls per full minute of the clock.
- ``DryRun`` is refused with DryRunOperation before the handler looks at the parameters.
- Security groups have members and a capacity, but no rules. RAM policies are patterns of actions, without resources
  or conditions. Prices, orders and resource groups do not exist; their parameters are accepted, some are stored.
- ENIs, instances, vSwitches and security groups exist only as far as Spiderpool and its users need them: there are no
  actions that create instances, vSwitches or security groups. Use :class:`~spiderpool_lab.alibaba.account.Account`.
- Load balancers exist as far as Services of Kubernetes need them: no access control lists, certificates, rules,
  master-slave groups, ALB or GWLB. Settings without a meaning for forwarding are stored and returned.
- An action that is not registered is refused with InvalidAction.NotFound. A parameter that is not registered is
  refused with InvalidParameter, so that a misspelt name does not pass a test unnoticed.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from aiohttp import web

from spiderpool_lab.alibaba import (
    clb_access_lists,
    clb_balancers,
    clb_domains,
    clb_groups,
    clb_listeners,
    ecs_addresses,
    ecs_enis,
    ecs_instances,
    ecs_security_groups,
    nlb_balancers,
    nlb_certificates,
    nlb_groups,
    nlb_jobs,
    nlb_listeners,
    tagging,
    vpc,
)
from spiderpool_lab.alibaba.account import Account, RecordedCall
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.identities import CallerIdentity, authorize
from spiderpool_lab.alibaba.parameters import Parameters, decode
from spiderpool_lab.alibaba.refusals import Refusal, throttled
from spiderpool_lab.alibaba.registry import ACTIONS, VERSIONS, Action, Answer
from spiderpool_lab.alibaba.requests import Authenticator, SignedCall, read
from spiderpool_lab.alibaba.serving import ListenAddress, ServedEndpoint, serve
from spiderpool_lab.alibaba.signature import HTTPRequest
from spiderpool_lab.alibaba.tables import AccountTables
from spiderpool_lab.certificates import Authority

HANDLERS = (
    clb_access_lists,
    clb_balancers,
    clb_domains,
    clb_groups,
    clb_listeners,
    ecs_addresses,
    ecs_enis,
    ecs_instances,
    ecs_security_groups,
    nlb_balancers,
    nlb_certificates,
    nlb_groups,
    nlb_jobs,
    nlb_listeners,
    tagging,
    vpc,
)
"""The handler modules; importing them fills the registry."""

_CLIENT_TOKEN_MAX = 64
"""Characters of a ClientToken."""
_LIMIT_WINDOW = 60.0
"""Seconds of the window in which calls are counted against a limit."""


class AnswerLost(Exception):
    """A fault closes the connection without an answer."""


@dataclass(slots=True)
class _PendingCall:
    """A call that is being handled, as far as it is parsed."""

    action: str = "unknown"
    caller: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _IdempotentAnswer:
    """The answer to the first call with a client token, and the parameters of that call."""

    parameters: dict[str, str]
    answer: Answer


class OpenAPI:
    """Serves the API of an account. ``authority`` signs the server certificate."""

    def __init__(self, account: Account, *, authority: Authority | None = None) -> None:
        self.account = account
        self.authority = authority or Authority.create("simulated-cloud")
        self._authenticator = Authenticator(account)
        self._idempotent: dict[tuple[str, str], _IdempotentAnswer] = {}  # (action, client token) → first answer
        self._windows: dict[tuple[str, int], int] = {}  # (action, number of the minute) → calls

    def serve(
        self, host: str = "127.0.0.1", port: int = 0, *, tls: bool = True, forwarders: tuple[str, ...] = ()
    ) -> AbstractAsyncContextManager[ServedEndpoint]:
        """Serve by HTTPS or, without ``tls``, by HTTP. Clients may also come by the addresses of ``forwarders``."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        return serve(app, ListenAddress(host, port, forwarders=forwarders), self.authority if tls else None)

    async def perform(self, product: str, action: str, parameters: dict[str, str], caller: CallerIdentity) -> Answer:
        """Execute an action without a signature, as the web console does for a user who is logged in.

        Raises Refusal if the API refuses the call, and AnswerLost if a fault loses the answer.
        """
        with self._recorded() as pending:
            pending.action, pending.caller, pending.parameters = f"{product}:{action}", caller.name, parameters
            found = next((item for item in ACTIONS.values() if item.full_name == pending.action), None)
            if found is None:
                raise _unknown(action, product)
            return await self._run(found, caller, {"RegionId": self.account.region, **parameters})

    async def _handle(self, http: web.Request) -> web.Response:
        identifier = str(uuid.uuid4()).upper()
        try:
            answer = await self._answer(await _read(http))
        except Refusal as refusal:
            return _refuse(refusal, identifier, http.host)
        except AnswerLost:
            if http.transport is not None:
                http.transport.abort()
            raise web.HTTPServiceUnavailable from None
        return web.json_response({"RequestId": identifier, **answer})

    async def _answer(self, request: HTTPRequest) -> Answer:
        """Authenticate and execute a request; record it with its outcome."""
        with self._recorded() as pending:
            signed = read(request)
            pending.action, pending.parameters = signed.action, signed.parameters
            identity = self._authenticator.authenticate(signed)
            pending.caller = identity.name
            found = _action(signed)
            pending.action = found.full_name
            return await self._run(found, identity, signed.parameters)

    @contextmanager
    def _recorded(self) -> Iterator[_PendingCall]:
        """Record the call when the block ends, with its error code if it fails."""
        pending, outcome = _PendingCall(), "OK"
        try:
            yield pending
        except Refusal as refusal:
            outcome = refusal.code
            raise
        except AnswerLost:
            outcome = "Dropped"
            raise
        finally:
            self.account.record(
                RecordedCall(pending.action, pending.caller, outcome, self.account.clock(), pending.parameters)
            )

    async def _run(self, action: Action, identity: CallerIdentity, flat: dict[str, str]) -> Answer:
        """Check policy and limit, apply faults, execute. ``flat`` are the parameters as sent."""
        authorize(identity, action.full_name)
        self._count(action.full_name)
        faults = self.account.faults.triggered(action.full_name, is_read=action.is_read)
        for _, fault in faults:
            await _apply_before(fault)
        self.account.run_due()
        answer = self._execute(action, flat, self._faulty_account(faults))
        if any(fault.kind == "lose" for _, fault in faults):
            raise AnswerLost
        return answer

    def _execute(self, action: Action, flat: dict[str, str], account: Account) -> Answer:
        parameters = Parameters(decode(flat))
        parameters.check(action.allowed, action.required)
        region = parameters.text("RegionId", account.region)
        if region != account.region:
            raise Refusal("InvalidRegionId.NotFound", f"The specified RegionId {region} does not exist.", 404)
        if parameters.flag("DryRun"):
            raise Refusal("DryRunOperation", "Request validation has been passed with DryRun flag set.")
        token = "" if action.is_read else parameters.text("ClientToken")
        if not token:
            return action.handler(account, parameters)
        return self._execute_once(action, token, flat, lambda: action.handler(account, parameters))

    def _execute_once(self, action: Action, token: str, flat: dict[str, str], work: Callable[[], Answer]) -> Answer:
        """Execute the first call with a client token; answer repetitions with the first answer."""
        if len(token) > _CLIENT_TOKEN_MAX or not token.isascii():
            raise Refusal(
                "InvalidClientToken.Malformed", f"A ClientToken has at most {_CLIENT_TOKEN_MAX} ASCII characters."
            )
        earlier = self._idempotent.get((action.full_name, token))
        if earlier is None:
            answer = work()
            self._idempotent[action.full_name, token] = _IdempotentAnswer(flat, answer)
            return answer
        if earlier.parameters != flat:
            raise Refusal("IdempotentFailed", "The request uses the same client token as a previous, different one.")
        return earlier.answer

    def _faulty_account(self, faults: list[tuple[int, Fault]]) -> Account:
        """The account that the call reads: empty or stale if a fault says so."""
        for number, fault in faults:
            if fault.kind == "empty":
                return self.account.with_tables(AccountTables())
            if fault.kind == "stale":
                return self.account.with_tables(self.account.snapshots[number])
        return self.account

    def _count(self, action: str) -> None:
        """Count a call against the limit of its action. Raises Refusal for calls beyond the limit in this minute."""
        if (limit := self.account.limits.get(action)) is None:
            return
        now = self.account.clock()
        window = int(now // _LIMIT_WINDOW)
        self._windows = {key: count for key, count in self._windows.items() if key[1] == window}
        count = self._windows[action, window] = self._windows.get((action, window), 0) + 1
        if count > limit:
            raise throttled(int((_LIMIT_WINDOW - now % _LIMIT_WINDOW) * 1000))


async def _read(http: web.Request) -> HTTPRequest:
    headers = {name.lower(): value for name, value in http.headers.items()}
    query = dict(parse_qsl(http.rel_url.raw_query_string, keep_blank_values=True))
    return HTTPRequest(http.method, http.rel_url.raw_path, query, headers, await http.read())


def _action(signed: SignedCall) -> Action:
    product = VERSIONS.get(signed.version)
    found = ACTIONS.get((product, signed.action)) if product else None
    if found is None:
        raise _unknown(signed.action, signed.version)
    return found


def _unknown(action: str, version: str) -> Refusal:
    text = f"Specified api is not found, please check your url and method. {action} {version}"
    return Refusal("InvalidAction.NotFound", text, 404)


async def _apply_before(fault: Fault) -> None:
    """Apply a fault that takes effect before the call is executed."""
    match fault.kind:
        case "throttle":
            raise throttled(int(fault.seconds * 1000))
        case "refuse":
            raise Refusal(fault.code, fault.message, fault.status)
        case "drop":
            raise AnswerLost
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

"""Calls to the OpenAPI: signed by the official library, kept within a budget, repeated where that is safe."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alibabacloud_tea_openapi.client import Client as Signer  # type: ignore[import-untyped]
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException  # type: ignore[import-untyped]
from alibabacloud_tea_openapi.utils import Utils  # type: ignore[import-untyped]
from alibabacloud_tea_openapi.utils_models import Config, OpenApiRequest, Params  # type: ignore[import-untyped]
from darabonba.runtime import RuntimeOptions  # type: ignore[import-untyped]

from spiderpool.cloud.alibaba.credentials import Credentials
from spiderpool.cloud.alibaba.endpoints import APIAccess, ProductEndpoint
from spiderpool.cloud.alibaba.error_codes import TOKEN_SPENT, keys_are_wrong, refusal
from spiderpool.cloud.alibaba.limits import CallBudget, ceiling, next_window
from spiderpool.cloud.alibaba.policy import is_reading
from spiderpool.cloud.provider import (
    CloudConflict,
    CloudError,
    CloudUnavailable,
    NotPermitted,
    StillProcessing,
    Throttled,
    VSwitchFull,
)
from spiderpool.telemetry import CLOUD_CALL_BUDGET, CLOUD_CALLS, logger

Clock = Callable[[], float]

CONNECT_TIMEOUT, READ_TIMEOUT = 5_000, 10_000
"""Milliseconds."""
CALL_TIMEOUT = 20.0
"""Seconds for one try, resolving names included."""
TRIES = 4
"""Times that a call is sent in all."""
FIRST_PAUSE = 0.5
"""Seconds before a call without an answer is repeated; doubled each time, with jitter."""
MAX_WAIT = 3.0
"""Seconds that a call waits for the budget; for a longer wait it raises Throttled, and the caller plans it."""
NOT_IDEMPOTENT = ("Create", "Assign", "Add", "Allocate", "Run")
"""Beginnings of actions that must not be repeated without a client token when their answer was lost."""

for _name in ("credentials", "darabonba-core", "alibabacloud-tea", "Tea"):
    logging.getLogger(_name).disabled = True  # the libraries would print requests, signatures and keys

log = logger("cloud")


MOST_OPEN = 1_000
"""Requests without a definite answer whose token is remembered."""


class ClientTokens:
    """Client tokens: one for each set of arguments, the same one until a definite answer comes.

    A request whose answer was lost is repeated with its token, so that the cloud carries it out once.
    """

    def __init__(self) -> None:
        self._open: dict[str, str] = {}  # request → token, the oldest first

    def of(self, key: str) -> str:
        """Returns the token of a request: 64 ASCII characters, the most that the API takes."""
        if key not in self._open and len(self._open) >= MOST_OPEN:
            self._open.pop(next(iter(self._open)))
        return self._open.setdefault(key, hashlib.sha256(f"{key}{secrets.token_hex(16)}".encode()).hexdigest())

    def close(self, key: str) -> None:
        """Drop the token after a definite answer: the next request with these arguments is a new one."""
        self._open.pop(key, None)


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the cloud and the version of its API."""

    name: str
    version: str


class OpenAPIClient:
    """Makes calls. A process has one, since it counts all calls against the cloud's limits."""

    def __init__(
        self,
        credentials: Credentials,
        access: APIAccess,
        *,
        pause: float = FIRST_PAUSE,
        clock: Clock = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._first_pause = pause
        self._access = access
        self._clock = clock
        self._signers: dict[ProductEndpoint, Signer] = {}  # endpoint → the library's client for it
        self._budgets: dict[tuple[str, str], CallBudget] = {}  # (action, region) → calls of the last minute
        self._tokens = ClientTokens()

    async def call(
        self,
        product: Product,
        action: str,
        parameters: Mapping[str, Any],
        *,
        region: str | None = None,
        token: bool = False,
    ) -> dict[str, Any]:
        """Calls an action of a product and returns the answer's JSON.

        Lists and mappings in ``parameters`` are flattened (``Name.1``, ``Name.1.Key``). The region is ``region``,
        else RegionId of the parameters, else the default one. With ``token`` a ClientToken is sent, the same one
        until there is a definite answer. Raises CloudError; after CloudUnavailable and StillProcessing it is unknown
        whether the cloud carried the call out.
        """
        target = region or parameters.get("RegionId") or self._access.region
        key = f"{action} {target} {json.dumps(parameters, sort_keys=True)}" if token else ""
        for attempt in range(1, TRIES + 1):
            try:
                return await self._try(product, action, target, parameters, key)
            except CloudError as error:
                if attempt == TRIES or not self._may_repeat(action, error, attempt, token=token):
                    raise
                await self._pause(error, attempt)
        raise AssertionError("the last try returns or raises")

    async def _try(
        self, product: Product, action: str, region: str, parameters: Mapping[str, Any], key: str
    ) -> dict[str, Any]:
        """Sends a call once; ``key`` identifies a request that gets a client token, and is empty for others."""
        sent = {**parameters, "ClientToken": self._tokens.of(key)} if key else dict(parameters)
        try:
            await self._wait_for_budget(action, region)
            answer = await self._counted(product, action, region, sent)
        except CloudError as error:
            if not isinstance(error, CloudUnavailable | Throttled | StillProcessing):
                self._tokens.close(key)
            raise
        self._tokens.close(key)
        return answer

    def _may_repeat(self, action: str, error: CloudError, attempt: int, *, token: bool) -> bool:
        """Whether to repeat a failed call now. After a lost answer only if the cloud cannot carry it out twice."""
        match error:
            case Throttled():
                return error.retry_after <= MAX_WAIT
            case CloudUnavailable():
                return token or not action.startswith(NOT_IDEMPOTENT)
            case NotPermitted():
                return attempt == 1 and keys_are_wrong(error.cloud_code) and self._credentials.forget()
            case StillProcessing():
                return token
            case CloudConflict():
                return attempt == 1 and error.cloud_code == TOKEN_SPENT
            case _:
                return False

    async def _pause(self, error: CloudError, attempt: int) -> None:
        if isinstance(error, CloudUnavailable | StillProcessing):
            log.warning("call will be repeated", error=error.message, attempt=attempt)
            await asyncio.sleep(self._first_pause * 2.0 ** (attempt - 1) * random.uniform(0.8, 1.2))

    async def _wait_for_budget(self, action: str, region: str) -> None:
        """Waits until the budget allows the call. Raises Throttled when that takes longer than `MAX_WAIT`."""
        budget = self._budget(action, region)
        while (wait := budget.wait(self._clock())) > 0:
            if wait > MAX_WAIT:
                raise Throttled(f"{action} may be called again in {wait:.0f} s", retry_after=wait)
            await asyncio.sleep(wait)
        budget.spend(self._clock())

    def _budget(self, action: str, region: str) -> CallBudget:
        if (action, region) not in self._budgets:
            self._budgets[action, region] = CallBudget(ceiling(action))
            CLOUD_CALL_BUDGET.labels(action).set(ceiling(action))
        return self._budgets[action, region]

    async def _counted(self, product: Product, action: str, region: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Sends a call and counts its outcome; if the cloud throttles it, no further one goes out for a while."""
        outcome = "Cancelled"
        try:
            answer = await self._send(product, action, region, parameters)
            outcome = "OK"
        except CloudError as error:
            outcome = type(error).__name__
            if isinstance(error, Throttled):
                self._budget(action, region).close(self._clock() + error.retry_after)
            raise
        finally:
            CLOUD_CALLS.labels(action, outcome).inc()
        return answer

    async def _send(self, product: Product, action: str, region: str, parameters: dict[str, Any]) -> dict[str, Any]:
        endpoint = self._access.endpoint(product.name, region)
        await self._credentials.get_credential_async()
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                answer = await self._signer(endpoint, region).call_api_async(
                    _params(product.version, action, endpoint.protocol),
                    _request(product.name, action, parameters),
                    RuntimeOptions(),
                )
        except AlibabaCloudException as error:
            raise self._refusal(action, error, parameters) from None
        except CloudError:
            raise
        except Exception as error:  # the library wraps what happened on the wire in errors of many kinds
            lost = f"{action} got no answer from {endpoint.host}: {type(error).__name__}"
            raise CloudUnavailable(self._credentials.redacted(f"{lost} {error}")) from None
        body = answer.get("body")
        if not isinstance(body, dict):
            raise CloudUnavailable(f"{action} got an answer from {endpoint.host} that is no JSON object")
        return body

    def _signer(self, endpoint: ProductEndpoint, region: str) -> Signer:
        if endpoint not in self._signers:
            self._signers[endpoint] = Signer(
                Config(
                    credential=self._credentials,
                    endpoint=endpoint.host,
                    protocol=endpoint.protocol,
                    region_id=region,
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=READ_TIMEOUT,
                    ca=str(self._access.authority) if self._access.authority else None,
                    user_agent="spiderpool-cloud",
                )
            )
        return self._signers[endpoint]

    def _refusal(self, action: str, error: AlibabaCloudException, parameters: Mapping[str, Any]) -> CloudError:
        """Returns the error for a refusal, without the signed text that signature errors quote."""
        code, status = str(error.code), int(error.status_code or 0)
        wait = error.retry_after / 1000 if error.retry_after else next_window(time.time())
        message = str(error.message).partition("server string to sign")[0].removeprefix(f"code: {status}, ")
        reason, _, request = message.partition(" request id: ")  # which differs each time, so it is no part of an Event
        found = refusal(action, code, self._credentials.redacted(reason), status, wait)
        found.details = f"request {request.strip()}" if request else ""
        if isinstance(found, VSwitchFull) and "VSwitchId" in parameters:
            text = f"{found.message} (vSwitch {parameters['VSwitchId']})"
            return VSwitchFull(text, cloud_code=code, details=found.details)
        return found


def _params(version: str, action: str, protocol: str) -> Params:
    return Params(
        action=action,
        version=version,
        protocol=protocol,
        pathname="/",
        method="POST",
        auth_type="AK",
        style="RPC",
        req_body_type="formData",
        body_type="json",
    )


def _request(product: str, action: str, parameters: dict[str, Any]) -> OpenApiRequest:
    """Returns a request with its arguments in the query, or for changes of NLB in a form, where that API wants them."""
    flat = Utils.query({name: _plain(value) for name, value in parameters.items() if value is not None})
    is_in_form = product == "nlb" and not is_reading(action)
    return OpenApiRequest(body=flat) if is_in_form else OpenApiRequest(query=flat)


def _plain(value: Any) -> Any:
    """Returns a value with booleans as the API spells them, at any depth."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return {key: _plain(each) for key, each in value.items() if each is not None}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value

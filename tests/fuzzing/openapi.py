"""Answers of the cloud's OpenAPI: an input is a JSON object of answers by action.

The answers of a list come one after the other, its last one again and again. An answer with ``Status`` is a refusal,
as the library that signs our calls reports it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from random import Random
from typing import Any

from alibabacloud_tea_openapi.exceptions import ClientException  # type: ignore[import-untyped]

from spiderpool.cloud.alibaba.clb import ClassicLoadBalancers
from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.credentials import Credentials, Keys
from spiderpool.cloud.alibaba.ecs import ECSCloud
from spiderpool.cloud.alibaba.endpoints import APIAccess, ProductEndpoint
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.pod_enis import PodENIs
from spiderpool.cloud.loadbalancers import LoadBalancerAPI
from spiderpool.cloud.provider import CloudError
from spiderpool.core.cloud.loadbalancer import planning
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from tests.core.pretend_balancers import HTTP, KINDS, SECURE, endpoints, model_of, node, service
from tests.simulation.loop import SimulatedLoop

REGION = "cn-hangzhou"
SNAPSHOT = BackendSnapshot([node("a"), node("b")], [endpoints(("10.6.0.9", "a"))], {"10.6.0.9": "eni-1"})
SERVICES = {
    "clb": service(HTTP, SECURE),
    "nlb": service(HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations={"zone-maps": "a:vsw-1,b:vsw-2"}),
}
APIS: dict[str, Callable[[OpenAPIClient], LoadBalancerAPI]] = {
    "clb": lambda client: ClassicLoadBalancers(client, REGION),
    "nlb": lambda client: NetworkLoadBalancers(client, REGION, pause=30.0),
}


class _StoredKeys:
    name = "keys"

    async def keys(self) -> Keys:
        return Keys("key", "secret")

    def forget(self) -> None:
        """They stay."""


class AnsweredSigner:
    """In place of the library's client: the far end, above HTTP and signatures."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers
        self._calls: Counter[str] = Counter()

    async def call_api_async(self, params: Any, request: object, runtime: object) -> dict[str, Any]:
        """The next answer to an action. Raises ClientException for a refusal."""
        listed = self._answers.get(params.action)
        if isinstance(listed, list):
            listed = listed[min(self._calls[params.action], len(listed) - 1)] if listed else None
        self._calls[params.action] += 1
        if isinstance(listed, dict) and isinstance(status := listed.get("Status"), int) and status >= 400:
            code, message = str(listed.get("Code")), str(listed.get("Message"))
            raise ClientException(status_code=status, code=code, message=message, data=listed)
        return {"body": listed, "headers": {}, "statusCode": 200}


class AnsweredClient(OpenAPIClient):
    """Its answers come from an input."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__(Credentials([_StoredKeys()]), APIAccess(REGION))
        self._answered = AnsweredSigner(answers)

    def _signer(self, endpoint: ProductEndpoint, region: str) -> AnsweredSigner:
        return self._answered


@cache
def _loop() -> SimulatedLoop:
    """A loop whose pauses take no time."""
    return SimulatedLoop(Random(0))


def run(data: bytes) -> None:
    """Have each part of the cloud's API make its calls, with a client of its own."""
    try:
        answers = json.loads(data)
    except (ValueError, RecursionError):
        answers = None
    answers = answers if isinstance(answers, dict) else {}
    for part in PARTS:
        try:
            _loop().run_until_complete(part(AnsweredClient(answers)))
        except CloudError:
            continue


async def _servers(client: OpenAPIClient) -> None:
    for server in (await ECSCloud(client).instances(REGION, ["i-a", "i-b"])).values():
        hash(server)


async def _enis(client: OpenAPIClient) -> None:
    for eni in (await ECSCloud(client).enis(REGION, ["eni-1"])).values():
        hash(eni)


async def _limits(client: OpenAPIClient) -> None:
    quota = await ECSCloud(client).quota(REGION, "ecs.g7.large")
    assert quota.of(4) >= 0
    assert await ECSCloud(client).free_addresses(REGION, "vsw-1") < 1 << 128


async def _assign(client: OpenAPIClient) -> None:
    for version in (4, 6):
        addresses = await ECSCloud(client).assign(REGION, "eni-1", version, 2)
        await ECSCloud(client).unassign(REGION, "eni-1", version, addresses)


async def _holders(client: OpenAPIClient) -> None:
    hash(tuple((await PodENIs(client, REGION, "vpc-1").holders(["10.6.0.9", "fd00::9"])).items()))


def _balancer(kind: BalancerKind, *, lent: bool) -> Callable[[OpenAPIClient], Awaitable[None]]:
    """Find the balancer of a Service, plan its changes and carry them out, and its removal."""
    model = model_of(SERVICES[kind.name], SNAPSHOT)

    async def reconcile(client: OpenAPIClient) -> None:
        api = APIS[kind.name](client)
        observed = await api.find(model.owner, "lb-1" if lent else "")
        if observed is not None:
            planning.reuse_fault(model, observed)
            planning.unchangeable(model, observed)
            await api.carry_out(planning.plan_removal(kind, model.owner, observed, preserve=lent), observed)
        await api.carry_out(planning.plan(model, observed), observed)
        for each in await api.made("c1"):
            hash(each)

    return reconcile


PARTS: tuple[Callable[[OpenAPIClient], Awaitable[None]], ...] = (
    *(_servers, _enis, _limits, _assign, _holders),
    *(_balancer(kind, lent=lent) for kind in KINDS.values() for lent in (False, True)),
)


def close() -> None:
    """Close the loop."""
    if _loop.cache_info().currsize:
        _loop().close()
        _loop.cache_clear()

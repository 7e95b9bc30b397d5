# mypy: disable-error-code="import-untyped"
"""A small account, its services on loopback, and the vendor's own clients against them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import pytest
from alibabacloud_tea_openapi.models import Config

from spiderpool_lab.alibaba.account import Account, ENIAddresses
from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.openapi import OpenAPI
from spiderpool_lab.alibaba.serving import ServedEndpoint

PACKAGES = {
    "ecs": "alibabacloud_ecs20140526",
    "nlb": "alibabacloud_nlb20220430",
    "slb": "alibabacloud_slb20140515",
    "vpc": "alibabacloud_vpc20160428",
}


class Clock:
    """A clock that moves only when a test sets ``now``."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Clients:
    """The vendor's clients, unchanged, with the credentials of one identity."""

    def __init__(self, endpoint: ServedEndpoint, identity: CallerIdentity, ca: str | None = None) -> None:
        self.endpoint, self.identity, self.ca = endpoint, identity, ca

    async def call(self, product: str, action: str, **parameters: Any) -> dict[str, Any]:
        """Call an action with a request of its own model, and return the answer as its own model read it.

        Parameters are in the OpenAPI's names; a dict or list goes through the model as it is.
        """
        models = import_module(f"{PACKAGES[product]}.models")
        request = getattr(models, f"{action}Request")().from_map({"RegionId": "cn-hangzhou", **parameters})
        missing = parameters.keys() - request.to_map().keys()
        assert not missing, f"the client does not know {missing}"
        method = getattr(self._client(product), f"{method_of(product, action)}_async")
        answer: dict[str, Any] = (await method(request)).body.to_map()
        return answer

    def _client(self, product: str) -> Any:
        config = Config(
            access_key_id=self.identity.key,
            access_key_secret=self.identity.secret,
            security_token=self.identity.token or None,
            endpoint=self.endpoint.authority,
            protocol=self.endpoint.scheme,
            region_id="cn-hangzhou",
            ca=self.ca,
        )
        return import_module(f"{PACKAGES[product]}.client").Client(config)


def method_of(product: str, action: str) -> str:
    """Name of the client's method for an action; the generated names follow no simple rule."""
    client = import_module(f"{PACKAGES[product]}.client").Client
    wanted = re.sub("[^a-z0-9]", "", action.lower())
    return next(name for name in dir(client) if name.replace("_", "") == wanted)


@pytest.fixture
def account() -> Account:
    """Two instances with two ENIs each, as in the walkthrough."""
    account = Account()
    group = account.add_security_group(identity="sg-1").identity
    account.add_vswitch("172.31.192.0/20", identity="vsw-0", ipv6_block="2408:4005:3c0:1::/64")
    account.add_vswitch("192.168.0.0/24", identity="vsw-1")
    for number, name in enumerate(("master", "worker")):
        account.add_instance(name, identity=f"i-{name}", role="node")
        account.add_eni(
            "vsw-0",
            identity=f"eni-{name}-0",
            instance=f"i-{name}",
            mac=f"00:16:3e:0{number + 1}:01:83",
            addresses=ENIAddresses(f"172.31.199.{183 + number}"),
        )
        account.add_eni(
            "vsw-1",
            identity=f"eni-{name}-1",
            instance=f"i-{name}",
            mac=f"00:16:3e:0{number + 1}:02:54",
            addresses=ENIAddresses(f"192.168.0.{154 + number}"),
        )
    for eni in account.tables.enis:
        account.join_security_group(eni.identity, group)
    account.add_role("node")
    return account


@pytest.fixture
async def endpoint(account: Account) -> AsyncIterator[ServedEndpoint]:
    async with OpenAPI(account).serve(tls=False) as endpoint:
        yield endpoint


@pytest.fixture
def clients(account: Account, endpoint: ServedEndpoint) -> Clients:
    return Clients(endpoint, account.add_identity())

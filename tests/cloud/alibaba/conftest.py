"""A simulated account on loopback, and a caller of ours against it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.credentials import Credentials, MountedSecret
from spiderpool.cloud.alibaba.ecs import ECSCloud
from spiderpool.cloud.alibaba.endpoints import APIAccess
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.openapi import OpenAPI


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The far end is on loopback, whatever proxy the machine uses."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def account() -> Account:
    """A region with one vSwitch."""
    account = Account()
    account.add_vswitch("172.31.192.0/20", identity="vsw-1", ipv6_block="2408:4005:1::/64")
    return account


@dataclass(frozen=True)
class Far:
    """The served account, and what we need to reach it."""

    account: Account
    access: APIAccess
    secret: Path

    def allow(self, *actions: str, key: str = "", secret: str = "") -> None:
        """Mount the keys of a new RAM user who may call these actions."""
        identity = self.account.add_identity(allowed=actions or ("*",), key=key, secret=secret)
        (self.secret / "accessKeyID").write_text(identity.key)
        (self.secret / "accessKeySecret").write_text(identity.secret)

    def caller(self) -> OpenAPIClient:
        """A caller with the mounted keys."""
        return OpenAPIClient(Credentials([MountedSecret(self.secret)]), self.access, pause=0.01)

    def ecs(self) -> ECSCloud:
        """The protocol of the cloud, by a caller of its own."""
        return ECSCloud(self.caller())

    def outcomes(self, action: str) -> list[str]:
        """How the calls of an action ended."""
        return [call.outcome for call in self.account.calls if call.action == action]


@pytest.fixture
async def far(account: Account, tmp_path: Path) -> AsyncIterator[Far]:
    """The account behind HTTPS, with the keys of a user who may do everything."""
    async with OpenAPI(account).serve() as endpoint:
        assert endpoint.ca is not None
        authority = tmp_path / "ca.pem"
        authority.write_bytes(endpoint.ca)
        (tmp_path / "secret").mkdir()
        far = Far(account, APIAccess(account.region, override=endpoint.url, authority=authority), tmp_path / "secret")
        far.allow()
        yield far

"""A simulated account on loopback, and our clients for it. Fixtures of it are in the conftest of each folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.credentials import Credentials, MountedSecret
from spiderpool.cloud.alibaba.ecs import ECSCloud
from spiderpool.cloud.alibaba.endpoints import APIAccess
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.openapi import OpenAPI


def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the machine's proxy: the account is on loopback."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def new_account() -> Account:
    """Returns an account with one vSwitch in one region."""
    account = Account()
    account.add_vswitch("172.31.192.0/20", identity="vsw-1", ipv6_block="2408:4005:1::/64")
    return account


@dataclass(frozen=True)
class SimulatedCloud:
    """The served account, and what a client needs to reach it."""

    account: Account
    access: APIAccess
    secret: Path

    def allow(self, *actions: str, key: str = "", secret: str = "") -> None:
        """Mounts the keys of a new RAM user who may call these actions."""
        identity = self.account.add_identity(allowed=actions or ("*",), key=key, secret=secret)
        (self.secret / "accessKeyID").write_text(identity.key)
        (self.secret / "accessKeySecret").write_text(identity.secret)

    def client(self) -> OpenAPIClient:
        """Returns a client with the mounted keys."""
        return OpenAPIClient(Credentials([MountedSecret(self.secret)]), self.access, pause=0.01)

    def ecs(self) -> ECSCloud:
        """Returns the API of servers, with a client of its own."""
        return ECSCloud(self.client())

    def outcomes(self, action: str) -> list[str]:
        """Returns how the calls of an action ended."""
        return [call.outcome for call in self.account.calls if call.action == action]


@asynccontextmanager
async def served(account: Account, directory: Path) -> AsyncIterator[SimulatedCloud]:
    """Serves the account by HTTPS, with the keys of a user who may call every action."""
    async with OpenAPI(account).serve() as endpoint:
        assert endpoint.ca is not None
        authority = directory / "ca.pem"
        authority.write_bytes(endpoint.ca)
        (directory / "secret").mkdir()
        simulated = SimulatedCloud(
            account, APIAccess(account.region, override=endpoint.url, authority=authority), directory / "secret"
        )
        simulated.allow()
        yield simulated

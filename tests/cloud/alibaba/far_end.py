"""A metadata service on loopback that answers as it is told to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

TOKEN = "X-aliyun-ecs-metadata-token"
TTL = "X-aliyun-ecs-metadata-token-ttl-seconds"
ENIS = "network/interfaces/macs/"
MAC0, MAC1 = "00:16:3e:00:00:01", "00:16:3e:00:00:02"


def pages() -> dict[str, str]:
    """The walkthrough's first server: two ENIs, the first with IPv6."""
    return {
        "region-id": "cn-hangzhou",
        "zone-id": "cn-hangzhou-i",
        "instance-id": "i-master",
        "instance/instance-type": "ecs.g7.large",
        "mac": MAC0,
        ENIS: f"{MAC0}/\n{MAC1}/",
        **eni(MAC0, "eni-m0", "vsw-a", "172.31.192.0/20", "172.31.207.253", "172.31.199.183", "172.31.199.185"),
        **eni(MAC1, "eni-m1", "vsw-b", "192.168.0.0/24", "192.168.0.253", "192.168.0.155", "192.168.0.156"),
        f"{ENIS}{MAC0}/ipv6s": "[2408:4005:3A0:b00::102, 2408:4005:3a0:b00::101]",
        f"{ENIS}{MAC0}/vswitch-ipv6-cidr-block": "2408:4005:3a0:b00::/64",
        f"{ENIS}{MAC0}/ipv6-gateway": "2408:4005:3a0:b00:ffff:ffff:ffff:fffd",
    }


def eni(mac: str, identity: str, switch: str, block: str, gateway: str, *addresses: str) -> dict[str, str]:
    """The pages of one ENI; the first address is its own."""
    fields = {
        "network-interface-id": identity,
        "primary-ip-address": addresses[0],
        "private-ipv4s": "[" + ",".join(f'"{each}"' for each in addresses) + "]",
        "gateway": gateway,
        "vswitch-id": switch,
        "vswitch-cidr-block": block,
    }
    return {f"{ENIS}{mac}/{name}": text for name, text in fields.items()}


class FarEnd:
    """``pages`` by path; ``faults`` are taken one by one by the requests that come: a status, or a kind of silence."""

    def __init__(self) -> None:
        self.pages = pages()
        self.asked: list[str] = []
        self.faults: list[int | str | None] = []
        self.tokens = 200
        """Status with which a token is given, or refused."""
        self.valid = 0
        """Number of the token that is good; 0: requests without one are answered."""
        self.endpoint = ""

    def since(self) -> list[str]:
        """What was asked since the last time."""
        asked, self.asked = self.asked, []
        return asked

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FarEnd]:
        app = web.Application()
        app.router.add_put("/latest/api/token", self._token)
        app.router.add_get("/latest/meta-data/{path:.*}", self._page)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.endpoint = f"{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        self.asked.append("token")
        if self.tokens != 200 or not 1 <= int(request.headers[TTL]) <= 21600:
            return web.Response(status=self.tokens)
        self.valid = max(self.valid, 1)
        return web.Response(text=f"token-{self.valid}")

    async def _page(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        self.asked.append(path)
        match self.faults.pop(0) if self.faults else None:
            case int(status):
                return web.Response(status=status, text="<html>no</html>")
            case "silence":
                await asyncio.sleep(10)
            case "drop" if request.transport:
                request.transport.abort()
            case "flood":
                return web.Response(text="a" * 100_000)
        if self.valid and request.headers.get(TOKEN) != f"token-{self.valid}":
            return web.Response(status=401)
        text = self.pages.get(path)
        return web.Response(status=404) if text is None else web.Response(text=text)

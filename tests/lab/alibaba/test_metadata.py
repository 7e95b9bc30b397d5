"""The metadata service as an instance reads it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from spiderpool_lab.alibaba.account import Account, Delays, ENIAddresses
from spiderpool_lab.alibaba.faults import Fault
from spiderpool_lab.alibaba.metadata import DATA_PATH, TOKEN_HEADER, TOKEN_PATH, TOKEN_TTL_HEADER, MetadataServer
from tests.lab.alibaba.conftest import Clock

pytestmark = pytest.mark.unit

MAC = "network/interfaces/macs/00:16:3e:01:01:83"


class MetadataReader:
    """An instance with a connection to its metadata service."""

    def __init__(self, session: aiohttp.ClientSession, service: MetadataServer) -> None:
        self.session, self.service = session, service

    async def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        headers = {TOKEN_HEADER: token} if token else {}
        async with self.session.get(f"{DATA_PATH}/{path}", headers=headers) as answer:
            return answer.status, await answer.text()

    async def token(self, ttl: str) -> tuple[int, str]:
        async with self.session.put(TOKEN_PATH, headers={TOKEN_TTL_HEADER: ttl}) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def reader(account: Account) -> AsyncIterator[MetadataReader]:
    account.clock = Clock()
    service = MetadataServer(account, resolve=lambda _: "i-master")
    async with service.serve() as endpoint, aiohttp.ClientSession(endpoint.url) as session:
        yield MetadataReader(session, service)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("region-id", "cn-hangzhou"),
        ("zone-id", "cn-hangzhou-i"),
        ("instance-id", "i-master"),
        ("hostname", "master"),
        ("instance/instance-type", "ecs.g7.large"),
        ("instance/instance-name", "master"),
        ("mac", "00:16:3e:01:01:83"),
        ("private-ipv4", "172.31.199.183"),
        ("vpc-id", "vpc-bp100000000000001"),
        ("vpc-cidr-block", "172.16.0.0/12"),
        ("vswitch-id", "vsw-0"),
        ("vswitch-cidr-block", "172.31.192.0/20"),
        ("owner-account-id", "1234567890123456"),
        ("network-type", "vpc"),
        ("dns-conf/nameservers", "100.100.2.136\n100.100.2.138"),
        ("network/interfaces/macs/", "00:16:3e:01:01:83/\n00:16:3e:01:02:54/"),
        (f"{MAC}/network-interface-id", "eni-master-0"),
        (f"{MAC}/primary-ip-address", "172.31.199.183"),
        (f"{MAC}/private-ipv4s", '["172.31.199.183"]'),
        (f"{MAC}/netmask", "255.255.240.0"),
        (f"{MAC}/gateway", "172.31.207.253"),
        (f"{MAC}/ipv6-gateway", "2408:4005:3c0:1:ffff:ffff:ffff:fffd"),
        (f"{MAC}/vswitch-id", "vsw-0"),
        (f"{MAC}/vswitch-cidr-block", "172.31.192.0/20"),
        (f"{MAC}/vswitch-ipv6-cidr-block", "2408:4005:3c0:1::/64"),
        (f"{MAC}/vpc-id", "vpc-bp100000000000001"),
        (f"{MAC}/vpc-ipv6-cidr-blocks", "[2408:4005:3c0::/56]"),
        ("ram/security-credentials/", "node"),
    ],
)
async def test_pages(reader: MetadataReader, path: str, text: str) -> None:
    assert await reader.get(path) == (200, text)


async def test_ipv6_addresses_are_written_without_quotes_or_not_at_all(
    account: Account, reader: MetadataReader
) -> None:
    assert (await reader.get(f"{MAC}/ipv6s"))[0] == 404
    account.add_eni(
        "vsw-0", instance="i-master", mac="00:16:3e:01:03:00", addresses=ENIAddresses(ipv6=("2408::1", "2408::2"))
    )
    path = "network/interfaces/macs/00:16:3e:01:03:00/ipv6s"
    assert await reader.get(path) == (200, "[2408::1, 2408::2]")


async def test_unknown_pages_are_404(reader: MetadataReader) -> None:
    for path in ("eipv4", "nothing", "network/interfaces/macs/00:16:3e:00:00:00/gateway", "ram/security-credentials/x"):
        assert (await reader.get(path))[0] == 404


async def test_credentials_are_renewed_before_they_expire(account: Account, reader: MetadataReader) -> None:
    first = json.loads((await reader.get("ram/security-credentials/node"))[1])
    assert first["Code"] == "Success"
    assert first["Expiration"] == "2023-11-15T04:13:20Z"
    assert account.identities[first["AccessKeyId"]].token == first["SecurityToken"]
    assert json.loads((await reader.get("ram/security-credentials/node"))[1])["AccessKeyId"] == first["AccessKeyId"]
    reader.service.account.clock.now += 5.6 * 3600  # type: ignore[attr-defined]
    assert json.loads((await reader.get("ram/security-credentials/node"))[1])["AccessKeyId"] != first["AccessKeyId"]


async def test_tokens(reader: MetadataReader) -> None:
    assert [(await reader.token(ttl))[0] for ttl in ("0", "21601", "x")] == [400, 400, 400]
    status, token = await reader.token("60")
    assert status == 200
    assert await reader.get("instance-id", token) == (200, "i-master")
    assert (await reader.get("instance-id", "wrong"))[0] == 401
    reader.service.hardened = True
    assert (await reader.get("instance-id"))[0] == 401
    reader.service.account.clock.now += 61  # type: ignore[attr-defined]
    assert (await reader.get("instance-id", token))[0] == 401


async def test_a_new_address_becomes_visible_after_the_delay(account: Account, reader: MetadataReader) -> None:
    account.delays = Delays(metadata=5)
    eni = account.tables.enis.get("eni-master-0")
    assert eni is not None
    account.tables.enis.put(replace(eni, secondaries=("172.31.199.185",)))
    assert await reader.get(f"{MAC}/private-ipv4s") == (200, '["172.31.199.183"]')
    account.clock.now += 5  # type: ignore[attr-defined]
    assert await reader.get(f"{MAC}/private-ipv4s") == (200, '["172.31.199.183","172.31.199.185"]')


async def test_the_source_address_tells_the_instance(account: Account) -> None:
    account.add_vswitch("127.0.0.0/24", identity="vsw-loopback")
    account.add_instance("local", identity="i-local")
    account.add_eni("vsw-loopback", instance="i-local", addresses=ENIAddresses("127.0.0.1"))
    async with MetadataServer(account).serve() as endpoint, aiohttp.ClientSession(endpoint.url) as session:
        async with session.get(f"{DATA_PATH}/instance-id") as answer:
            assert await answer.text() == "i-local"
        account.delete_instance("i-local")
        async with session.get(f"{DATA_PATH}/instance-id") as answer:
            assert answer.status == 404


async def test_faults_apply_to_the_metadata_service(account: Account, reader: MetadataReader) -> None:
    account.set_fault(Fault(kind="throttle", actions="metadata:*", every=2))
    assert [(await reader.get("region-id"))[0] for _ in range(3)] == [200, 429, 200]
    account.faults.clear()
    account.set_fault(Fault(kind="empty", actions="metadata:network/*"))
    assert await reader.get("network/interfaces/macs/") == (200, "")
    account.faults.clear()
    account.set_fault(Fault(kind="drop", actions="metadata:*"))
    with pytest.raises(aiohttp.ClientError):
        await reader.get("region-id")

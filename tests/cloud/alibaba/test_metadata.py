"""The metadata client against a service that answers, hesitates, refuses and lies."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from spiderpool.cloud.alibaba.metadata import BadAnswer, MetadataClient, NoAnswer
from spiderpool.core.cloud.instances import doubt
from spiderpool_lab.alibaba.account import Account, ENIAddresses
from spiderpool_lab.alibaba.metadata import MetadataServer
from tests.cloud.alibaba.far_end import ENIS, MAC0, MAC1, FarEnd
from tests.core.servers import ETH0, ETH1, MASTER

pytestmark = pytest.mark.unit

EXPECTED = replace(
    MASTER,
    enis=(
        replace(ETH0, addresses=("172.31.199.185",), gateway6=ETH0.gateway_of(6), device=None),
        replace(ETH1, addresses=("192.168.0.156",), device=None),
    ),
)


@pytest.fixture
async def far_end() -> AsyncIterator[FarEnd]:
    async with FarEnd().serve() as serving:
        yield serving


@pytest.fixture
async def service(far_end: FarEnd) -> AsyncIterator[MetadataClient]:
    async with MetadataClient(far_end.endpoint) as metadata:
        yield metadata


async def test_a_server_is_read_with_a_token(far_end: FarEnd, service: MetadataClient) -> None:
    reading = await service.read()
    assert reading == EXPECTED
    assert doubt(reading) is None
    assert far_end.asked.count("token") == 1


async def test_what_cannot_change_is_asked_once(far_end: FarEnd, service: MetadataClient) -> None:
    await service.read()
    far_end.since()
    assert await service.read() == EXPECTED
    asked = ["instance-id", "mac", ENIS]
    for mac in (MAC0, MAC1):
        asked += [f"{ENIS}{mac}/private-ipv4s", f"{ENIS}{mac}/ipv6s"]
    assert far_end.since() == asked


async def test_everything_is_asked_again_after_a_reading_that_was_not_believed(
    far_end: FarEnd, service: MetadataClient
) -> None:
    far_end.pages[f"{ENIS}{MAC1}/vswitch-cidr-block"] = "10.0.0.0/24"
    assert doubt(await service.read()) is not None
    far_end.pages[f"{ENIS}{MAC1}/vswitch-cidr-block"] = "192.168.0.0/24"
    service.forget()
    assert await service.read() == EXPECTED


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_a_service_without_tokens_is_asked_without(far_end: FarEnd, service: MetadataClient, status: int) -> None:
    far_end.tokens = status
    assert await service.read() == EXPECTED
    assert far_end.asked.count("token") == 1


async def test_a_token_that_is_refused_is_replaced_once(far_end: FarEnd, service: MetadataClient) -> None:
    await service.read()
    far_end.since()
    far_end.valid = 2
    assert await service.read() == EXPECTED
    assert far_end.asked[:3] == ["instance-id", "token", "instance-id"]
    assert far_end.asked.count("token") == 1


async def test_a_service_that_begins_to_want_tokens_gets_one(far_end: FarEnd, service: MetadataClient) -> None:
    far_end.tokens = 404
    await service.read()
    far_end.tokens, far_end.valid = 200, 1
    assert await service.read() == EXPECTED


async def test_a_service_that_refuses_every_token_is_not_asked_forever(
    far_end: FarEnd, service: MetadataClient
) -> None:
    far_end.faults = [401] * 8
    with pytest.raises(NoAnswer, match="answers 401 to instance-id"):
        await service.read()
    assert far_end.asked == ["token", "instance-id", "token", "instance-id"]


@pytest.mark.parametrize("fault", [429, 500, 503, "drop", "flood", "silence"])
async def test_a_busy_service_is_asked_again(far_end: FarEnd, service: MetadataClient, fault: int | str) -> None:
    far_end.faults = [None, fault]
    assert await service.read() == EXPECTED
    assert far_end.asked.count("mac") == 2


async def test_a_service_that_stays_busy_is_left_alone_after_four_times(
    far_end: FarEnd, service: MetadataClient
) -> None:
    far_end.faults = [429] * 100
    begin = time.monotonic()
    with pytest.raises(NoAnswer, match="does not answer instance-id: status 429"):
        await service.read()
    assert far_end.asked.count("instance-id") == 4
    assert time.monotonic() - begin > 0.8


async def test_no_token_for_now_is_no_reason_to_do_without(far_end: FarEnd, service: MetadataClient) -> None:
    far_end.tokens = 503
    with pytest.raises(NoAnswer, match="status 503"):
        await service.read()
    assert far_end.asked == ["token"] * 4


async def test_nobody_there(far_end: FarEnd) -> None:
    async with MetadataClient("http://127.0.0.1:1/") as nobody:
        with pytest.raises(NoAnswer, match="does not answer instance-id"):
            await nobody.read()


async def test_a_service_that_redirects_is_not_followed(far_end: FarEnd, service: MetadataClient) -> None:
    far_end.faults = [302]
    with pytest.raises(NoAnswer, match="answers 302"):
        await service.read()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("instance-id", ""),
        ("region-id", None),
        (ENIS, ""),
        (ENIS, "../../user-data/"),
        (f"{ENIS}{MAC1}/network-interface-id", None),
        (f"{ENIS}{MAC1}/private-ipv4s", ""),
        (f"{ENIS}{MAC1}/private-ipv4s", "[]"),
        (f"{ENIS}{MAC1}/private-ipv4s", '["192.168.0.156"]'),
        (f"{ENIS}{MAC1}/private-ipv4s", '["192.168.0.155", "192.168.0"]'),
        (f"{ENIS}{MAC1}/private-ipv4s", "<html>"),
        (f"{ENIS}{MAC1}/vswitch-cidr-block", "192.168.0.0"[:-3]),
        (f"{ENIS}{MAC0}/ipv6s", "[none]"),
        (f"{ENIS}{MAC0}/vswitch-ipv6-cidr-block", None),
        (f"{ENIS}{MAC0}/ipv6-gateway", "none"),
    ],
)
async def test_an_answer_that_is_empty_partial_or_garbled_is_none(
    far_end: FarEnd, service: MetadataClient, path: str, text: str | None
) -> None:
    del far_end.pages[path]
    if text is not None:
        far_end.pages[path] = text
    with pytest.raises(BadAnswer):
        await service.read()


async def test_ipv6_that_comes_later_is_found(far_end: FarEnd, service: MetadataClient) -> None:
    ipv6 = f"{ENIS}{MAC0}/ipv6s"
    text = far_end.pages.pop(ipv6)
    assert (await service.read()).enis[0].ipv6_addresses == ()
    far_end.pages[ipv6] = text
    assert await service.read() == EXPECTED


async def test_a_gateway_outside_its_block_is_not_told(far_end: FarEnd, service: MetadataClient) -> None:
    far_end.pages[f"{ENIS}{MAC0}/ipv6-gateway"] = "fe80::1"
    assert (await service.read()).enis[0].gateway6 is None


async def test_a_eni_that_leaves_and_comes_back_is_read_afresh(far_end: FarEnd, service: MetadataClient) -> None:
    await service.read()
    both, far_end.pages[ENIS] = far_end.pages[ENIS], f"{MAC0}/"
    assert [eni.mac for eni in (await service.read()).enis] == [MAC0]
    far_end.pages[ENIS], far_end.pages[f"{ENIS}{MAC1}/network-interface-id"] = both, "eni-new"
    assert (await service.read()).enis[1].identity == "eni-new"


@pytest.mark.parametrize("hardened", [False, True])
async def test_a_server_of_the_simulated_cloud_is_read(hardened: bool) -> None:
    account = Account()
    switch = account.add_vswitch("172.31.192.0/20", ipv6_block="2408:4005:3a0:b00::/64")
    server = account.add_instance("master")
    eni = account.add_eni(
        switch.identity,
        instance=server.identity,
        addresses=ENIAddresses(secondaries=("172.31.199.186", "172.31.199.185"), ipv6=("2408:4005:3a0:b00::101",)),
    )
    simulated = MetadataServer(account, resolve=lambda _: server.identity, hardened=hardened)
    async with simulated.serve() as endpoint, MetadataClient(endpoint.url) as metadata:
        reading = await metadata.read()
    assert doubt(reading) is None
    assert reading.provider_id == f"cn-hangzhou.{server.identity}"
    (read,) = reading.enis
    assert (read.identity, read.mac, read.primary_address) == (eni.identity, eni.mac, eni.address)
    assert (read.addresses, read.ipv6_addresses) == (("172.31.199.185", "172.31.199.186"), ("2408:4005:3a0:b00::101",))
    assert (read.subnet, read.gateway, read.primary) == ("172.31.192.0/20", "172.31.207.253", True)

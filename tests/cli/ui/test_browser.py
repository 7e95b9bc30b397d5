"""The page in a real browser: what is seen, keyboard, languages, accessibility, and a pool of 150,000 addresses.

`make browser` installs what this needs beside Chromium; WRITE=1 also writes the screenshots of docs/usage/ui.md.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from spiderpool.api.core_v1 import Pod, PodSpec, PodStatus, Service, ServicePort, ServiceSpec
from spiderpool.api.endpoint import CurrentDetail, EndpointStatus, InterfaceDetail, SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.iphistory import IPHistorySpec, SpiderIPHistory
from spiderpool.api.ippool import Route, SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NADSpec, NetworkAttachmentDefinition
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.cli.address_state import AddressState
from spiderpool.cli.ui import documents
from spiderpool.cli.ui.pool_map import MAP_STATES, MapPiece, PoolMap, changes
from spiderpool.core.addresses import to_int
from spiderpool.core.ipam.history import BEGUN, ENDED, Tenure, moment, pack
from tests.cli.ui.objects import BASE, account, node, pool, record, reserved, state_of
from tests.cli.ui.visiting import KINDS, Visitor, settled, visiting
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

playwright = pytest.importorskip("playwright.async_api", reason="`make browser` installs Playwright")

pytestmark = [pytest.mark.unit, pytest.mark.full, pytest.mark.browser]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SHOTS = Path(__file__).parents[3] / "docs" / "usage" / "ui"
VIEWS = (
    "overview",
    "pools",
    "pools/blue",
    "nodes",
    "subnets",
    "changes",
    "search/web",
    "addresses/10.0.0.3",
    "pods/shop/web-3",
)
KEYS = """
Promise.all([import("/static/words_en.js"), import("/static/words_zh.js")])
  .then(([one, other]) => [one.ENGLISH, other.CHINESE].map(each => Object.keys(each).sort()))
"""
LAY_OVER = """
async pairs => {
  const { layOver, pieces } = await import("/static/ranges.js");
  return pairs.map(([version, known, changes]) => layOver(pieces(known, version), pieces(changes, version), version)
    .flatMap(({ first, last, state }) => [first, last, state].map(String)));
}
"""
MANY = 150_000
LONGEST_LOAD = 2.0
"""Seconds of processors that the browser may need until a pool of so many addresses is drawn."""
MOST_MEMORY = 40_000_000
"""Bytes of JavaScript of the page that shows it."""


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A cluster with all states of addresses, on two nodes of which one is fenced."""
    async with ApiServer(
        *(kind.KIND for kind in (*KINDS, Service, SpiderEndpoint, NetworkAttachmentDefinition))
    ) as server:
        metadata = ObjectMeta(
            name="web-3",
            namespace="shop",
            labels={"app": "web"},
            annotations={DEFAULT_NETWORK_ANNOTATION: "kube-system/eth1"},
        )
        server.put(Pod(metadata=metadata, spec=PodSpec("n1"), status=PodStatus("Running")))
        server.put(*pools_and_records(server.stored(Pod)["shop/web-3"].metadata.uid or ""), *surroundings())
        yield server


def pools_and_records(uid: str) -> Iterator[Object]:
    """A small, a large and an IPv6 pool; the pod of a UID has 10.0.0.3."""
    blue = pool(ips=["10.0.0.1-10.0.0.250"], excludeIPs=["10.0.0.200-10.0.0.203"], cooldownSeconds=86_400)
    blue.spec.default = True
    wide = pool("wide", subnet="fd00::/64", ips=["fd00::1-fd00::ffff:ffff"])
    large = pool("large", subnet="10.8.0.0/16", ips=["10.8.0.0-10.8.39.255"])
    yield from (blue, wide, large)
    yield record(BASE + 3, blue, uid=uid)
    yield from (record(BASE + each, blue) for each in range(1, 90) if each != 3)
    yield from (record(BASE + each, blue, node="n2") for each in range(90, 100))
    yield from (record(BASE + each, blue, released_before=-9e8) for each in range(110, 118))
    yield from (record(to_int("fd00::", 6) + each, wide) for each in range(1, 40))
    yield from (record(to_int("10.8.0.0", 4) + each, large) for each in range(1, 6_000) if each % 9)
    yield account([(BASE + 3, f"{uid}/web-3"), (BASE + 7, "another"), (BASE + 150, "stray")])
    yield account((), "n2", fenced=True)


def surroundings() -> Iterator[Object]:
    """Nodes, an ENI, a Service, reserved addresses, and what was before."""
    yield from (reserved("10.0.0.240-10.0.0.245"), node(), node("n2", ready=False))
    mac, network = "02:00:00:aa:00:01", "10.0.0.0/24"
    eni = ENI("eni-1", mac, True, "10.0.0.252", ("10.0.0.3",), (), "vsw-1", network, device="eth0")
    machine = Instance("alibaba", "cn-hangzhou", "cn-hangzhou-a", "i-1", "ecs.g7.large", (eni,))
    yield SpiderServer(metadata=ObjectMeta(name="n1"), spec=machine)
    spec = ServiceSpec("ClusterIP", [ServicePort(80, targetPort=8080)], {"app": "web"}, clusterIP="10.96.0.7")
    yield Service(metadata=ObjectMeta(name="web", namespace="shop"), spec=spec)
    config = (
        '{"cniVersion": "1.0.0", "name": "eth1", "type": "ipvlan", "master": "eth1", "ipam": {"type": "spiderpool"}}'
    )
    network_metadata = ObjectMeta(name="eth1", namespace="kube-system")
    yield NetworkAttachmentDefinition(metadata=network_metadata, spec=NADSpec(config))
    detail = InterfaceDetail("eth0", "10.0.0.3/24", "blue", ipv4Gateway="10.0.0.253", mac="02:00:00:00:00:03")
    detail.routes = [Route("10.96.0.0/12", "10.0.0.252")]
    status = EndpointStatus(CurrentDetail("u", "n1", [detail]), "ReplicaSet", "web")
    yield SpiderEndpoint(metadata=ObjectMeta(name="web-3", namespace="shop"), status=status)
    yield from history()


def history() -> Iterator[Object]:
    """Who had 10.0.0.3 before."""
    now = int(datetime.now(UTC).timestamp())
    old = Tenure("10.0.0.3", "blue", "n2", "shop", "batch-8f2", "u", "eth0", now - 9_000)
    rows = [BEGUN + old.body, f"{ENDED}{old.body}\t{now - 1_800}\t{now - 1_800}"]
    written = IPHistorySpec(moment(now - 90_000), 2, pack("\n".join(rows)), moment(now))
    yield SpiderIPHistory.numbered(1, None, written)


@pytest.fixture
async def visitor(server: ApiServer) -> AsyncIterator[Visitor]:
    """A page of it whose token is unused, once all lists have arrived."""
    async with server.client() as client, visiting(client) as found:
        await settled(found)
        yield found


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    """A browser of its own for each test."""
    if CHROMIUM is None:
        pytest.skip("missing: chromium (package chromium on Debian, chromium on Fedora)")
    async with playwright.async_playwright() as started:
        found = await started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        await found.close()


async def opened(browser: Any, visitor: Visitor, **options: Any) -> Any:
    """The page after the first visit, in a window of its own; what it reports as an error fails the test."""
    context = await browser.new_context(viewport={"width": 1080, "height": 720}, **options)
    context.set_default_timeout(60_000)
    page = await context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda line: page.errors.append(line.text) if line.type == "error" else None)
    await page.goto(visitor.server.access.address)
    assert page.url == f"{visitor.base}/"
    return page


async def show(page: Any, view: str) -> None:
    """Go to a view and wait until it is drawn."""
    await page.evaluate("view => { location.hash = `#/${view}` }", view)
    await page.wait_for_function("view => document.documentElement.dataset.shown === `#/${view}`", arg=view)


async def shot(page: Any, name: str) -> None:
    if os.environ.get("WRITE") == "1":
        SHOTS.mkdir(exist_ok=True)
        await page.screenshot(path=SHOTS / f"{name}.png", scale="css")
        assert (SHOTS / f"{name}.png").stat().st_size < 150_000


async def test_every_view_is_drawn_without_an_error(browser: Any, visitor: Visitor) -> None:
    page = await opened(browser, visitor)
    for view in VIEWS:
        await show(page, view)
        if view != "overview":  # this cluster has no daemons to say anything of
            assert await page.locator("main .alert").all_text_contents() == [], view
    assert await page.locator("svg.path rect").count() == 3
    await page.get_by_role("cell", name="80 → 8080/TCP").wait_for()
    await shot(page, "pod")
    await show(page, "pools/large")
    assert await page.locator(".tile").count() == 40
    await shot(page, "large")
    await show(page, "pools/wide")
    assert await page.get_by_role("gridcell").count() == 39
    assert page.errors == []


async def test_a_cell_is_opened_by_keyboard_and_says_who_has_it(browser: Any, visitor: Visitor) -> None:
    page = await opened(browser, visitor)
    await show(page, "pools/blue")
    await page.get_by_role("gridcell").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Enter"):
        await page.keyboard.press(key)
    await page.get_by_role("link", name="shop/web-3").wait_for()
    await page.get_by_role("cell", name="shop/batch-8f2").wait_for()
    assert await page.get_by_role("gridcell", name="10.0.0.3, held").get_attribute("aria-selected") == "true"
    signs = await page.evaluate("[...document.querySelectorAll('.cell .sign')].map(each => each.textContent)")
    assert {signs[3], signs[90], signs[110], signs[150], signs[200], signs[220], signs[240]} == {*"●▣◔×·◆", "!!"}
    await shot(page, "pool")
    assert page.errors == []


async def test_a_change_of_the_cluster_arrives_without_loading_again(
    browser: Any, visitor: Visitor, server: ApiServer
) -> None:
    page = await opened(browser, visitor)
    await show(page, "pools/blue")
    await page.get_by_role("gridcell", name="10.0.0.220, free").wait_for()
    server.put(record(BASE + 220, pool(), uid="new"))
    await page.get_by_role("gridcell", name="10.0.0.220, held").wait_for()
    server.remove(record(BASE + 220, pool()))
    await page.get_by_role("gridcell", name="10.0.0.220, free").wait_for()


async def revision(page: Any, visitor: Visitor) -> None:
    """Wait until the page has taken in the last change of a map."""
    number = str(visitor.server.keeper.revision)
    await page.wait_for_function("number => document.documentElement.dataset.revision === number", arg=number)


async def is_held(visitor: Visitor, *addresses: int) -> None:
    """Wait until the server has published that addresses of the pool are held."""

    def shown() -> bool:
        found = visitor.server.keeper.maps["blue"]
        return all(state_of(found, each) is AddressState.HELD for each in addresses)

    await eventually(shown, timeout=30.0)


async def test_a_change_before_the_stream_begins_is_shown(browser: Any, visitor: Visitor, server: ApiServer) -> None:
    context, begin = await browser.new_context(), asyncio.Event()

    async def held_back(route: Any) -> None:
        await begin.wait()
        await route.continue_()

    await context.route("**/api/stream", held_back)
    page = await context.new_page()
    await page.goto(visitor.server.access.address)
    await show(page, "pools/blue")
    await page.get_by_role("gridcell", name="10.0.0.220, free").wait_for()
    server.put(record(BASE + 220, pool(), uid="new"))
    await is_held(visitor, BASE + 220)
    begin.set()
    await page.get_by_role("gridcell", name="10.0.0.220, held").wait_for()


async def test_a_change_that_is_not_sent_while_the_map_is_loaded_has_it_loaded_again(
    browser: Any, visitor: Visitor, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, asked, answer = await opened(browser, visitor), asyncio.Event(), asyncio.Event()

    async def late(route: Any) -> None:
        response = await route.fetch()
        asked.set()
        await answer.wait()
        await route.fulfill(response=response)

    await page.route("**/api/pools/blue", late, times=1)
    await page.evaluate("location.hash = '#/pools/blue'")
    await asked.wait()
    monkeypatch.setattr(documents, "MOST_CHANGED", 0)
    server.put(record(BASE + 220, pool(), uid="new"))
    await is_held(visitor, BASE + 220)
    await revision(page, visitor)
    monkeypatch.undo()
    server.put(record(BASE + 221, pool(), uid="newer"))
    await is_held(visitor, BASE + 220, BASE + 221)
    await revision(page, visitor)
    answer.set()
    for each in (220, 221):
        await page.get_by_role("gridcell", name=f"10.0.0.{each}, held").wait_for()
    assert page.errors == []


async def test_a_pool_that_is_deleted_is_said_to_be_gone_and_shown_when_it_is_made_again(
    browser: Any, visitor: Visitor, server: ApiServer
) -> None:
    page = await opened(browser, visitor)
    await show(page, "pools/blue")
    await page.get_by_role("gridcell", name="10.0.0.220, free").wait_for()
    server.remove(pool())
    await page.locator("main .alert", has_text="there is no pool blue").wait_for()
    assert await page.get_by_role("gridcell").count() == 0
    server.put(pool(ips=["10.0.0.1-10.0.0.250"], disable=True))
    await page.get_by_role("gridcell", name="10.0.0.220, free").wait_for()
    await page.get_by_text("10.0.0.0/24, IPv4, disabled").wait_for()
    assert [each for each in page.errors if "404" not in each] == []


async def test_the_page_lays_changes_over_a_map_as_the_server_does(browser: Any, visitor: Visitor) -> None:
    chosen = random.Random(20)
    pairs, expected = [], []
    for version, base in ((4, BASE), (6, to_int("fd00::", 6))) * 200:
        before, after = (random_map(chosen, version, base) for _ in range(2))
        pairs.append((version, documents.flat(before.pieces, version), documents.flat(changes(before, after), version)))
        expected.append([str(each) for each in documents.flat(after.pieces, version)])
    page = await opened(browser, visitor)
    assert await page.evaluate(LAY_OVER, pairs) == expected
    states = await page.evaluate('import("/static/states.js").then(each => each.STATES)')
    assert states == list(MAP_STATES)


def random_map(chosen: random.Random, version: int, base: int) -> PoolMap:
    """A map of some of forty addresses, in runs of the same state."""
    found: list[MapPiece] = []
    first = base + chosen.randrange(4)
    while first < base + 40:
        last, state = first + chosen.randrange(6), chosen.choice(MAP_STATES)
        if not found or found[-1].state is not state or found[-1].last + 1 < first:
            found.append(MapPiece(first, last, state))
        first = last + chosen.choice((1, 1, 1, 3))
    return PoolMap.of(pool(subnet="10.0.0.0/24" if version == 4 else "fd00::/64"), tuple(found))


async def test_chinese_and_dark_by_the_browser_and_by_the_switches(browser: Any, visitor: Visitor) -> None:
    page = await opened(browser, visitor, locale="zh-CN", color_scheme="dark")
    await show(page, "pools/blue")
    assert await page.locator("html").get_attribute("lang") == "zh"
    await page.get_by_role("heading", name="地址池 blue").wait_for()
    await shot(page, "dark-zh")
    dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.get_by_role("button", name="English").click()
    await page.get_by_role("heading", name="Pool blue").wait_for()
    await page.get_by_role("button", name="Theme: system").click()
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    english, chinese = await page.evaluate(KEYS)
    assert english == chinese
    assert page.errors == []


async def test_the_search_finds_pods_nodes_and_mac_addresses(browser: Any, visitor: Visitor) -> None:
    page = await opened(browser, visitor)
    for query, hit in (("10.0.0.3", "10.0.0.3"), ("n2", "n2"), ("02:00:00:00:00:03", "shop/web-3"), ("blue", "blue")):
        await page.get_by_role("searchbox").fill(query)
        await page.keyboard.press("Enter")
        await page.locator("main").get_by_role("link", name=hit, exact=True).first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_fault(browser: Any, visitor: Visitor, scheme: str) -> None:
    axe = (files(pytest.importorskip("axe_playwright_python")) / "axe.min.js").read_text()
    page = await opened(browser, visitor, color_scheme=scheme)
    await page.evaluate(f"() => {{ {axe} }}")
    for view in (*VIEWS, "pools/large", "pools/wide"):
        await show(page, view)
        found = await page.evaluate("axe.run().then(each => each.violations)")
        assert [(each["id"], [one["html"][:90] for one in each["nodes"]][:3]) for each in found] == [], view


async def processor_seconds(session: Any) -> float:
    """What all processes of the browser have used so far: that depends on nothing else that the machine does."""
    found = await session.send("SystemInfo.getProcessInfo")
    return float(sum(each["cpuTime"] for each in found["processInfo"]))


async def test_many_addresses_are_drawn_quickly_and_in_little_memory(browser: Any, visitor: Visitor) -> None:
    many = pool("many", subnet="10.16.0.0/14", ips=["10.16.0.1-10.18.255.254"])
    first = to_int("10.16.0.1", 4)
    visitor.server.watched.informer(SpiderIPPool).note(many)
    records = visitor.server.watched.informer(SpiderIP)
    for each in range(MANY):
        records.note(record(first + each + each // 7, many, uid=f"m{each}"))  # a gap after every seven
    await visitor.server.keeper.look()
    made = visitor.server.keeper.maps["many"]
    page, session = await opened(browser, visitor), await browser.new_browser_cdp_session()
    used, begun = await processor_seconds(session), await page.evaluate("performance.now()")
    await show(page, "pools/many")
    await page.locator(".tile").nth(500).wait_for()
    tiles = await page.locator(".tile").count()
    spent = await page.evaluate("performance.now()") - begun
    used = await processor_seconds(session) - used
    memory = await page.evaluate("performance.memory.usedJSHeapSize")
    sent = await page.evaluate("performance.getEntriesByName(`${location.origin}/api/pools/many`)[0].decodedBodySize")
    print(
        f"{MANY} addresses: {spent:.0f} ms, {used:.2f} s of processors, {memory / 1e6:.0f} MB of JavaScript,", end=" "
    )
    print(f"{sent / 1e6:.1f} MB sent, {len(made.pieces)} intervals, {tiles} blocks")
    assert memory < MOST_MEMORY
    assert used < LONGEST_LOAD

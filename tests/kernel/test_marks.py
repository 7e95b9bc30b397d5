from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from spiderpool.errors import KernelFailure
from spiderpool.kernel import marks
from spiderpool.kernel.namespaces import opened, run_inside
from tests.kernel.environment import World

T = TypeVar("T")


@pytest.fixture(params=["nft", "iptables"])
def backend(request: pytest.FixtureRequest) -> Iterator[marks.Backend]:
    chosen: marks.Backend = request.param
    before = list(marks._backends)
    marks._backends[:] = [chosen]
    yield chosen
    marks._backends[:] = before


async def _load(pod: str, *, flush: bool, versions: tuple[int, ...] = (4,)) -> None:
    with opened(pod) as descriptor:
        await run_inside(descriptor, lambda: marks.load("veth0", 0x1, versions, flush=flush))


@pytest.mark.lab
async def test_loading_again_does_not_stack(world: World, backend: marks.Backend) -> None:
    pod = world.pod()
    try:
        await _load(pod, flush=False)
    except KernelFailure as error:
        pytest.skip(f"this kernel cannot: {error.details}")
    show = ("nft", "list", "ruleset") if backend == "nft" else ("iptables-legacy", "-t", "mangle", "-S")
    once = world.inside(pod, *show)
    await _load(pod, flush=True)
    assert world.inside(pod, *show) == once
    assert once.count("veth0") == 1
    with opened(pod) as descriptor:
        assert 4 in await run_inside(descriptor, marks.loaded)


@pytest.mark.lab
async def test_both_families(world: World, backend: marks.Backend) -> None:
    pod = world.pod()
    try:
        await _load(pod, flush=False, versions=(4, 6))
    except KernelFailure as error:
        pytest.skip(f"this kernel cannot: {error.details}")
    with opened(pod) as descriptor:
        assert await run_inside(descriptor, marks.loaded) == (4, 6)


@pytest.mark.lab
async def test_marks_by_nic_replace_each_other_and_go(world: World, backend: marks.Backend) -> None:
    show = ("nft", "list", "ruleset") if backend == "nft" else ("iptables-legacy", "-t", "mangle", "-S")
    empty = world.inside(world.node, *show)

    async def inside(work: Callable[[], T]) -> T:
        with opened(world.node) as descriptor:
            return await run_inside(descriptor, work)

    try:
        await inside(lambda: marks.load_nics([("eth1", 0x20), ("eth2", 0x30)], 0xF0, (4, 6)))
    except KernelFailure as error:
        pytest.skip(f"this kernel cannot: {error.details}")
    assert await inside(marks.nics_loaded) == ("eth1", "eth2")
    for _ in range(2):
        await inside(lambda: marks.load_nics([("eth1", 0x20)], 0xF0, (4, 6)))
    assert await inside(marks.nics_loaded) == ("eth1",)
    for _ in range(2):
        await inside(marks.drop_nics)
    assert await inside(marks.nics_loaded) == ()
    assert world.inside(world.node, *show) == empty


@pytest.mark.lab
async def test_nics_stay_marked_while_their_marks_are_replaced(world: World, backend: marks.Backend) -> None:
    with opened(world.node) as descriptor:
        nics = [("eth1", 0x20)]
        try:
            await run_inside(descriptor, lambda: marks.load_nics(nics, 0xF0, (4,)))
        except KernelFailure as error:
            pytest.skip(f"this kernel cannot: {error.details}")

        def replace() -> None:
            for _ in range(10):
                marks.load_nics(nics, 0xF0, (4,))

        replacing = asyncio.ensure_future(run_inside(descriptor, replace))
        seen = set()
        while not replacing.done():
            seen.add(await run_inside(descriptor, marks.nics_loaded))
        await replacing
    assert seen == {("eth1",)}


@pytest.mark.lab
async def test_backend_is_found_out_at_the_start() -> None:
    before = list(marks._backends)
    marks._backends[:] = ["nft", "iptables"]
    try:
        assert marks._backends == [await marks.detect()]
    finally:
        marks._backends[:] = before


@pytest.mark.lab
async def test_foreign_rules_survive_the_first_load(world: World, backend: marks.Backend) -> None:
    pod = world.pod()
    world.inside(pod, "iptables-legacy", "-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-mark", "0x539")
    try:
        await _load(pod, flush=False)
    except KernelFailure as error:
        pytest.skip(f"this kernel cannot: {error.details}")
    assert "0x539" in world.inside(pod, "iptables-legacy", "-t", "mangle", "-S")


@pytest.mark.lab
async def test_fresh_pod_is_unmarked(world: World) -> None:
    with opened(world.pod()) as descriptor:
        assert not await run_inside(descriptor, marks.loaded)


@pytest.mark.lab
async def test_what_the_kernel_takes_is_remembered(world: World) -> None:
    before = list(marks._backends)
    marks._backends[:] = ["nft", "iptables"]
    try:
        await _load(world.pod(), flush=False)
        assert len(marks._backends) == 1
    finally:
        marks._backends[:] = before


@pytest.mark.unit
def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(marks, "_backends", ["nft", "iptables"])
    with pytest.raises(KernelFailure) as caught:
        marks.load("veth0", 0x1, flush=False)
    assert "nft: [Errno 2] No such file or directory" in caught.value.details
    assert "iptables: [Errno 2] No such file or directory" in caught.value.details


@pytest.mark.unit
def test_both_renderings_speak_of_the_same_link_and_mark() -> None:
    for script in (marks.nft_script("veth0", 0x1), marks.iptables_script("veth0", 0x1)):
        assert "veth0" in script
        assert "0x1" in script
    nics = [("eth1", 0x20), ("eth2", 0x30)]
    for script in (marks.nft_nic_script(nics, 0xF0), marks.iptables_nic_script(nics, 0xF0)):
        assert all(word in script for word in ("eth1", "0x20", "eth2", "0x30"))

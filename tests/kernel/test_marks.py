from __future__ import annotations

from collections.abc import Iterator

import pytest

from spiderpool.errors import KernelFailure
from spiderpool.kernel import marks
from spiderpool.kernel.namespaces import opened, run_inside
from tests.kernel.world import World


@pytest.fixture(params=["nft", "iptables"])
def backend(request: pytest.FixtureRequest) -> Iterator[marks.Backend]:
    chosen: marks.Backend = request.param
    before = list(marks._backends)
    marks._backends[:] = [chosen]
    yield chosen
    marks._backends[:] = before


async def _load(pod: str, *, afresh: bool) -> None:
    with opened(pod) as descriptor:
        await run_inside(descriptor, lambda: marks.load("veth0", 0x1, afresh=afresh))


@pytest.mark.lab
async def test_loading_again_does_not_stack(world: World, backend: marks.Backend) -> None:
    pod = world.pod()
    try:
        await _load(pod, afresh=False)
    except KernelFailure as error:
        pytest.skip(f"this kernel cannot: {error.details}")
    show = ("nft", "list", "ruleset") if backend == "nft" else ("iptables-legacy", "-t", "mangle", "-S")
    once = world.inside(pod, *show)
    await _load(pod, afresh=True)
    assert world.inside(pod, *show) == once
    assert once.count("veth0") == 1
    with opened(pod) as descriptor:
        assert await run_inside(descriptor, marks.loaded)


@pytest.mark.lab
async def test_foreign_rules_survive_the_first_load(world: World, backend: marks.Backend) -> None:
    pod = world.pod()
    world.inside(pod, "iptables-legacy", "-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-mark", "0x539")
    try:
        await _load(pod, afresh=False)
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
        await _load(world.pod(), afresh=False)
        assert len(marks._backends) == 1
    finally:
        marks._backends[:] = before


@pytest.mark.unit
def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(marks, "_backends", ["nft", "iptables"])
    with pytest.raises(KernelFailure) as caught:
        marks.load("veth0", 0x1, afresh=False)
    assert "nft: [Errno 2] No such file or directory" in caught.value.details
    assert "iptables: [Errno 2] No such file or directory" in caught.value.details


@pytest.mark.unit
def test_both_renderings_speak_of_the_same_link_and_mark() -> None:
    for script in (marks.nft_script("veth0", 0x1), marks.iptables_script("veth0", 0x1)):
        assert "veth0" in script
        assert "0x1" in script

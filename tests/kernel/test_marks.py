from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from spiderpool.errors import KernelFailure
from spiderpool.kernel import marks
from spiderpool.kernel.namespaces import opened, run_inside
from spiderpool.kernel.programs import Backend
from tests.kernel.environment import World

T = TypeVar("T")


async def _load(pod: str, *, flush: bool, versions: tuple[int, ...] = (4,)) -> None:
    with opened(pod) as descriptor:
        await run_inside(descriptor, lambda: marks.load("veth0", 0x1, versions, flush=flush))


@pytest.mark.lab
async def test_loading_again_does_not_stack(world: World, backend: Backend) -> None:
    pod = world.pod()
    await _load(pod, flush=False)
    show = ("nft", "list", "ruleset") if backend == "nft" else ("iptables-legacy", "-t", "mangle", "-S")
    once = world.inside(pod, *show)
    await _load(pod, flush=True)
    assert world.inside(pod, *show) == once
    assert once.count("veth0") == 1
    with opened(pod) as descriptor:
        assert 4 in await run_inside(descriptor, marks.loaded)


@pytest.mark.lab
async def test_both_families(world: World, backend: Backend) -> None:
    pod = world.pod()
    await _load(pod, flush=False, versions=(4, 6))
    with opened(pod) as descriptor:
        assert await run_inside(descriptor, marks.loaded) == (4, 6)


@pytest.mark.lab
async def test_marks_by_nic_replace_each_other_and_go(world: World, backend: Backend) -> None:
    show = ("nft", "list", "ruleset") if backend == "nft" else ("iptables-legacy", "-t", "mangle", "-S")
    empty = world.inside(world.node, *show)

    async def inside(work: Callable[[], T]) -> T:
        with opened(world.node) as descriptor:
            return await run_inside(descriptor, work)

    await inside(lambda: marks.load_nics([("eth1", 0x20), ("eth2", 0x30)], 0xF0, (4, 6)))
    assert await inside(marks.nics_loaded) == ("eth1", "eth2")
    for _ in range(2):
        await inside(lambda: marks.load_nics([("eth1", 0x20)], 0xF0, (4, 6)))
    assert await inside(marks.nics_loaded) == ("eth1",)
    for _ in range(2):
        await inside(marks.drop_nics)
    assert await inside(marks.nics_loaded) == ()
    assert world.inside(world.node, *show) == empty


@pytest.mark.lab
async def test_nics_stay_marked_while_their_marks_are_replaced(world: World, backend: Backend) -> None:
    with opened(world.node) as descriptor:
        nics = [("eth1", 0x20)]
        await run_inside(descriptor, lambda: marks.load_nics(nics, 0xF0, (4,)))

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
async def test_backend_is_found_out_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "_backends", ["nft", "iptables"])
    assert marks._backends == [await marks.detect()]


@pytest.mark.lab
async def test_foreign_rules_survive_the_first_load(world: World, backend: Backend) -> None:
    pod = world.pod()
    world.inside(pod, "iptables-legacy", "-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-mark", "0x539")
    await _load(pod, flush=False)
    assert "0x539" in world.inside(pod, "iptables-legacy", "-t", "mangle", "-S")


@pytest.mark.lab
async def test_fresh_pod_is_unmarked(world: World) -> None:
    with opened(world.pod()) as descriptor:
        assert not await run_inside(descriptor, marks.loaded)


@pytest.mark.lab
async def test_what_the_kernel_takes_is_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "_backends", ["nft", "iptables"])
    await _load(world.pod(), flush=False)
    assert len(marks._backends) == 1


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


def _install(directory: Path, program: str, output: str, status: int) -> None:
    """A program that prints and exits, whatever it is asked."""
    path = directory / program
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {status}\n")
    path.chmod(0o755)


BUSY = "Error: Could not process rule: Device or resource busy"
ABSENT = (
    "Error: Could not process rule: No such file or directory",
    "Error: Could not process rule: Operation not supported",
    "netlink: Error: cache initialization failed: Invalid argument",
)
WITH_NICS = "-A SPIDERPOOL-IN -i eth1 -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x20/0xf0"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only programs that `marks` finds, beside the shell's; each family's mangle table is empty."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    for program in ("iptables-legacy-save", "ip6tables-legacy-save", "iptables-legacy-restore"):
        _install(tmp_path, program, "", 0)
    _install(tmp_path, "ip6tables-legacy-restore", "", 0)
    _install(tmp_path, "nft", ABSENT[0], 1)
    return tmp_path


@pytest.mark.unit
@pytest.mark.parametrize("output", ABSENT)
def test_rules_that_do_not_exist_are_dropped_with_success(programs: Path, output: str) -> None:
    _install(programs, "nft", output, 1)
    _install(programs, "iptables-legacy-save", "iptables-save: Cannot initialize: do you need to insmod?", 1)
    (programs / "ip6tables-legacy-save").unlink()
    marks.drop_nics()
    assert marks.nics_loaded() == ()
    assert marks.loaded() == ()


@pytest.mark.unit
def test_a_kernel_without_ipv6_has_no_ipv6_rules(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "_backends", ["iptables"])
    answer = "ip6tables-save v1.8.9 (legacy): Cannot initialize: Address family not supported by protocol"
    _install(programs, "ip6tables-legacy-save", answer, 1)
    _install(programs, "iptables-legacy-save", "-A OUTPUT -j CONNMARK --restore-mark", 0)
    marks.drop_nics()
    assert marks.loaded() == (4,)


@pytest.mark.unit
def test_every_failure_to_drop_rules_is_reported(programs: Path) -> None:
    _install(programs, "nft", BUSY, 1)
    _install(programs, "iptables-legacy-save", "Permission denied (you must be root)", 1)
    _install(programs, "ip6tables-legacy-save", WITH_NICS, 0)
    _install(programs, "ip6tables-legacy-restore", "line 2 failed", 1)
    with pytest.raises(KernelFailure, match="marks by NIC could not be removed") as caught:
        marks.drop_nics()
    for reason in (BUSY, "Permission denied", "line 2 failed"):
        assert reason in caught.value.details


@pytest.mark.unit
def test_marks_are_not_called_absent_when_a_program_fails(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "_backends", ["nft", "iptables"])
    _install(programs, "nft", BUSY, 1)
    for read in (marks.loaded, marks.nics_loaded):
        with pytest.raises(KernelFailure, match="nft has failed"):
            read()


@pytest.mark.unit
def test_jumps_are_not_added_twice_when_the_present_rules_cannot_be_read(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "_backends", ["iptables"])
    _install(programs, "iptables-legacy-save", "Permission denied (you must be root)", 1)
    with pytest.raises(KernelFailure, match="iptables-legacy-save has failed"):
        marks.load_nics([("eth1", 0x20)], 0xF0, (4,))

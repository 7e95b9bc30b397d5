"""What is read of the namespaces of sandboxes: of all on one thread, also where some are gone or are none."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from spiderpool.kernel import sandboxes
from spiderpool.kernel.namespaces import enter, own, run_inside
from spiderpool.kernel.sandboxes import Readings, read_namespaces
from tests.kernel.environment import World


@pytest.mark.lab
async def test_interfaces_with_their_addresses(world: World) -> None:
    one, empty = world.pod("one"), world.pod("empty")
    world.batch(
        Path(one),
        "link add eth0 address 02:00:00:00:00:07 type veth peer name far",
        "address add 10.9.0.7/24 dev eth0",
        "address add 10.9.0.8/24 dev eth0",
        "address add fd00::7/64 dev eth0 nodad",
        "address add 127.0.0.9/8 dev lo",
        "link set eth0 up",
        "link set far up",
    )
    found = await read_namespaces([one, empty])
    assert found[empty] == []
    by_name = {each.name: each for each in found[one] or []}
    assert (sorted(by_name), by_name["eth0"].mac) == (["eth0", "far"], "02:00:00:00:00:07")
    assert sorted(by_name["eth0"].addresses or []) == ["10.9.0.7", "10.9.0.8", "fd00::7"]
    assert by_name["far"].addresses is None, "link-local ones are left out"


@pytest.mark.lab
async def test_what_is_gone_is_left_out_and_what_cannot_be_told_is_unread(world: World, tmp_path: Path) -> None:
    one = world.pod("one")
    ended, beside = f"{one}-of-another", "/proc/self/ns/net"
    nowhere = tmp_path / "empty"
    nowhere.mkdir()
    found = await read_namespaces([ended, one, beside, str(nowhere / "unseen")])
    assert found == {one: [], str(nowhere / "unseen"): None}


@pytest.mark.lab
async def test_the_namespace_of_the_agent_is_no_sandbox(world: World) -> None:
    def work() -> Readings:
        with own() as before:
            readings = sandboxes._read_all([str(world.node)])
            enter(before)
        return readings

    def inside() -> Readings:
        with Path(world.node).open() as file:
            enter(file.fileno())
        return work()

    assert await run_inside(None, inside) == {}


@pytest.mark.lab
async def test_many_take_one_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [world.pod(f"p{number}") for number in range(20)]
    here = Path("/proc/thread-self/ns/net").stat().st_ino
    started: list[str] = []

    class Counted(threading.Thread):
        def start(self) -> None:
            started.append(self.name)
            super().start()

    monkeypatch.setattr(threading, "Thread", Counted)
    found = await read_namespaces(paths)
    assert (len(found), len(started)) == (20, 1)
    assert Path("/proc/thread-self/ns/net").stat().st_ino == here


@pytest.mark.lab
async def test_a_sandbox_with_very_many_addresses_is_named_without_them(world: World) -> None:
    one, other = world.pod("one"), world.pod("other")
    added = (f"address add 10.9.{number // 200}.{number % 200 + 1}/32 dev many" for number in range(sandboxes.MOST + 1))
    world.batch(Path(one), "link add many type veth peer name far", *added)
    assert await read_namespaces([one, other]) == {one: None, other: []}


@pytest.mark.unit
async def test_nothing_to_read() -> None:
    assert await read_namespaces([]) == {}


@pytest.mark.unit
async def test_one_that_makes_the_reading_fail_keeps_no_other_from_being_read(tmp_path: Path) -> None:
    none, unseen = "/run/\0", str(tmp_path / "unseen")
    assert await read_namespaces([none, unseen]) == {none: None, unseen: None}

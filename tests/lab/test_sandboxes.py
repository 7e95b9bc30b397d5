"""Sandboxes have the DELs that containerd was seen to send, also over a restart and a reboot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spiderpool.errors import SpiderpoolError
from spiderpool_lab.cni_runtime import CniFailure, CniRuntime, Sandbox
from spiderpool_lab.sandboxes import Sandboxes
from spiderpool_lab.stand_in import StandIn
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

LIST = '{"cniVersion": "1.0.0", "name": "NAME", "plugins": [{"type": "plugin"}]}'
PLUGIN = """#!/bin/sh
case "$(cat)" in *prevResult*) given=result ;; *) given=nothing ;; esac
echo "$CNI_COMMAND ${CNI_NETNS:+netns} $given" >>"$(dirname "$0")/calls"
[ ! -e "$(dirname "$0")/refuse" ] || exit 1
[ "$CNI_COMMAND" = DEL ] || echo '{"cniVersion": "1.0.0"}'
"""


@pytest.fixture
def runtime(tmp_path: Path) -> CniRuntime:
    (tmp_path / "plugin").write_text(PLUGIN)
    (tmp_path / "plugin").chmod(0o755)
    (tmp_path / "10.conflist").write_text(LIST)
    return CniRuntime(tmp_path, tmp_path, timeout=5.0, seed=1)


def load(runtime: CniRuntime, collection: tuple[float, float] = (0.0, 0.0)) -> Sandboxes:
    """The sandboxes of a kubelet that has just started."""
    return Sandboxes(runtime.executables / "disk", runtime, StandIn(collection=collection))


def sandbox(runtime: CniRuntime) -> Sandbox:
    netns = runtime.executables / "netns"
    netns.touch()
    return Sandbox("default", "web", "uid-1", {}, "c1", netns)


def network(runtime: CniRuntime) -> dict[str, Any]:
    found = runtime.network()
    assert found is not None
    return found


def calls(runtime: CniRuntime) -> list[str]:
    return (runtime.executables / "calls").read_text().splitlines()


def is_empty(runtime: CniRuntime) -> bool:
    return not list((runtime.executables / "disk").iterdir())


@asynccontextmanager
async def collecting(sandboxes: Sandboxes) -> AsyncIterator[None]:
    task = asyncio.create_task(sandboxes.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_three_dels_the_first_with_all_that_is_known(runtime: CniRuntime) -> None:
    sandboxes = load(runtime)
    stored = await sandboxes.start(network(runtime), sandbox(runtime))
    assert stored.is_up
    await sandboxes.stop(stored)
    assert not stored.sandbox.netns.exists()
    assert sandboxes.of("uid-1") == []
    async with collecting(sandboxes):
        await eventually(lambda: is_empty(runtime))
    assert calls(runtime) == ["ADD netns nothing", "DEL netns result", "DEL  nothing", "DEL  nothing"]


async def test_after_a_reboot_del_has_the_result_but_no_namespace(runtime: CniRuntime) -> None:
    stored = await load(runtime).start(network(runtime), sandbox(runtime))
    stored.sandbox.netns.unlink()
    again = load(runtime)
    (found,) = again.of("uid-1")
    assert not found.is_up
    await again.stop(found)
    assert calls(runtime)[-1] == "DEL  result"


async def test_a_restart_keeps_sandboxes_and_forgets_no_removal(runtime: CniRuntime) -> None:
    stored = await load(runtime).start(network(runtime), sandbox(runtime))
    again = load(runtime)
    assert again.of("uid-1") == [stored]
    assert again.uids() == {"uid-1"}
    await again.stop(stored)
    third = load(runtime)
    assert third.uids() == set()
    async with collecting(third):
        await eventually(lambda: is_empty(runtime))


async def test_after_a_failed_add_one_del_whose_failure_is_ignored(runtime: CniRuntime) -> None:
    (runtime.executables / "refuse").touch()
    sandboxes = load(runtime)
    with pytest.raises(SpiderpoolError):
        await sandboxes.start(network(runtime), sandbox(runtime))
    async with collecting(sandboxes):
        await asyncio.sleep(0.6)
    assert calls(runtime) == ["ADD netns nothing", "DEL netns nothing"]
    assert is_empty(runtime)


async def test_an_add_that_was_cut_off_has_its_del_at_the_next_start(runtime: CniRuntime) -> None:
    (runtime.executables / "plugin").write_text("#!/bin/sh\nexec sleep 60\n")
    adding = asyncio.create_task(load(runtime).start(network(runtime), sandbox(runtime)))
    await eventually(lambda: not is_empty(runtime))
    adding.cancel()
    (runtime.executables / "plugin").write_text(PLUGIN)
    again = load(runtime)
    (found,) = again.of("uid-1")
    assert not found.is_up
    await again.stop(found)
    assert calls(runtime) == ["DEL netns nothing"]


async def test_a_list_of_another_name_knows_no_result_and_without_a_list_del_fails(runtime: CniRuntime) -> None:
    sandboxes = load(runtime)
    stored = await sandboxes.start(network(runtime), sandbox(runtime))
    conflist = runtime.configuration / "10.conflist"
    conflist.unlink()
    with pytest.raises(CniFailure, match="not initialized"):
        await sandboxes.stop(stored)
    conflist.write_text(LIST.replace("NAME", "OTHER"))
    await sandboxes.stop(stored)
    assert calls(runtime)[-1] == "DEL netns nothing"


async def test_a_removal_that_fails_is_repeated(runtime: CniRuntime) -> None:
    sandboxes = load(runtime)
    stored = await sandboxes.start(network(runtime), sandbox(runtime))
    await sandboxes.stop(stored)
    (runtime.executables / "refuse").touch()
    async with collecting(sandboxes):
        await eventually(lambda: calls(runtime)[2:] == ["DEL  nothing"] * 2)
        (runtime.executables / "refuse").unlink()
        await eventually(lambda: is_empty(runtime))


def test_times_are_part_of_a_node_s_configuration() -> None:
    times = StandIn(seed=7, deletion=(10, 40))
    assert msgspec.json.decode(msgspec.json.encode(times), type=StandIn) == times

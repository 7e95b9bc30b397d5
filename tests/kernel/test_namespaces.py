from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import threading
from collections import deque
from pathlib import Path

import pytest

from spiderpool.errors import BadNamespace, KernelFailure
from spiderpool.kernel import namespaces
from spiderpool.kernel.namespaces import enter, identity, is_gone, opened, run_inside, socket_in_netns
from tests.kernel.environment import World
from tests.support.eventually import eventually


def _here() -> int:
    return Path("/proc/thread-self/ns/net").stat().st_ino


@pytest.mark.lab
async def test_work_runs_inside_and_we_stay(world: World) -> None:
    before = _here()
    with opened(world.node) as node:
        assert await run_inside(node, _here) == world.node.stat().st_ino
    assert await run_inside(None, _here) == before
    assert _here() == before


@pytest.mark.lab
async def test_many_at_once_each_see_their_own(world: World) -> None:
    pods = [world.pod(f"p{number}") for number in range(20)]

    async def one(path: str) -> bool:
        with opened(path) as descriptor:
            places = await asyncio.gather(*(run_inside(descriptor, _here) for _ in range(5)))
        return set(places) == {Path(path).stat().st_ino}

    before = _here()
    assert all(await asyncio.gather(*(one(path) for path in pods)))
    assert _here() == before
    assert [await run_inside(None, _here) for _ in range(20)] == [before] * 20


@pytest.mark.lab
async def test_socket_stays_where_it_was_created(world: World) -> None:
    with opened(world.node) as node:
        sock = await socket_in_netns(node, socket.AF_INET, socket.SOCK_DGRAM, 0)
    with sock:
        sock.connect(("172.31.207.253", 9))
        assert sock.getsockname()[0] == "172.31.199.183"


@pytest.mark.lab
async def test_error_of_the_work_reaches_the_caller(world: World) -> None:
    with opened(world.node) as node, pytest.raises(ZeroDivisionError):
        await run_inside(node, lambda: 1 // 0)


@pytest.mark.lab
async def test_socket_of_a_caller_that_gave_up_is_closed(world: World) -> None:
    made: list[socket.socket] = []
    go = threading.Event()

    def slow() -> socket.socket:
        go.wait(5)
        made.append(socket.socket())
        return made[0]

    with opened(world.node) as node:
        task = asyncio.create_task(run_inside(node, slow))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    go.set()
    await eventually(lambda: made and made[0].fileno() == -1, "socket is closed")


@pytest.mark.unit
def test_missing_namespace() -> None:
    with pytest.raises(BadNamespace, match="No such file"), opened("/run/netns/no-such"):
        pass


@pytest.mark.unit
def test_file_that_is_no_namespace(tmp_path: Path) -> None:
    path = tmp_path / "cni-1"
    path.touch()
    with pytest.raises(BadNamespace, match="is not a network namespace"), opened(path):
        pass


@pytest.mark.unit
def test_namespace_of_another_type() -> None:
    with pytest.raises(BadNamespace, match="is not a network namespace"), opened("/proc/self/ns/mnt"):
        pass


@pytest.mark.unit
def test_namespace_that_cannot_be_opened_now_is_not_called_missing() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        with pytest.raises(KernelFailure, match="Too many open files"), opened("/proc/self/ns/net"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.unit
def test_namespace_of_a_process_that_ends_meanwhile_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No such file or directory")]

    def open_once_more(_path: str, _flags: int) -> int:
        raise answers.pop(0)

    monkeypatch.setattr(os, "open", open_once_more)
    with pytest.raises(BadNamespace, match="No such file"), opened("/proc/1/ns/net"):
        pass
    answers += [PermissionError(13, "Permission denied")] * 2
    with pytest.raises(KernelFailure, match="Permission denied"), opened("/proc/1/ns/net"):
        pass


@pytest.mark.unit
def test_namespace_that_the_kernel_does_not_let_us_enter() -> None:
    with pytest.raises(KernelFailure, match="cannot enter the network namespace: Bad file descriptor"):
        enter(-1)


@pytest.mark.lab
def test_a_namespace_that_was_removed(world: World) -> None:
    pod = world.pod()
    assert not is_gone(pod)
    world.remove(pod)
    assert is_gone(pod)


@pytest.mark.unit
def test_only_a_folder_that_is_seen_tells_what_is_gone(tmp_path: Path) -> None:
    assert not is_gone(tmp_path / "unseen" / "pod")
    assert not is_gone(tmp_path / "pod")
    assert not is_gone("/proc/0/ns/net")
    (tmp_path / "plain").write_text("")
    assert is_gone(tmp_path / "pod")
    assert not is_gone("/proc/self/ns/net")


@pytest.mark.unit
def test_a_mount_point_alone_does_not_tell_that_its_namespace_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(namespaces, "_reports", deque[float](maxlen=1))
    for name in ("pod", "other"):
        (tmp_path / name).touch()
        assert not is_gone(tmp_path / name)
        assert identity(tmp_path / name) == ""
    assert capsys.readouterr().out.count("HostToContainer") == 1


@pytest.mark.unit
def test_a_folder_that_is_another_one_than_before_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that has been unmounted, or over which another file system is mounted."""
    pod = tmp_path / "pod"
    pod.symlink_to("/proc/self/ns/net")
    assert not is_gone(pod)
    pod.unlink()
    assert is_gone(pod)
    monkeypatch.setitem(namespaces._seen, tmp_path, -1)
    assert not is_gone(pod)


@pytest.mark.lab
def test_the_last_namespace_of_a_folder_is_gone_for_one_who_has_seen_it(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "netns"
    folder.mkdir()
    pod = folder / "pod"
    pod.symlink_to(world.pod())
    assert not is_gone(pod)
    pod.unlink()
    assert is_gone(pod)
    assert not is_gone(tmp_path / "unseen" / "pod")


@pytest.mark.lab
def test_a_process_that_has_ended_has_no_namespace_for_one_who_has_seen_it() -> None:
    process = subprocess.Popen(["sleep", "60"])
    path = f"/proc/{process.pid}/ns/net"
    assert not is_gone(path)
    process.kill()
    process.wait()
    assert is_gone(path)


@pytest.mark.unit
def test_the_folders_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "MOST_FOLDERS", 2)
    monkeypatch.setattr(namespaces, "_seen", {})
    for name in "abc":
        namespaces._remember(Path(name))
    assert list(namespaces._seen) == [Path("b"), Path("c")]


@pytest.mark.lab
def test_which_namespace_is_at_a_path(world: World) -> None:
    pod, other = world.pod(), world.pod("other")
    assert identity(pod) == identity(pod) != identity(other)
    assert (identity("/run/netns/gone"), identity("")) == ("", "")

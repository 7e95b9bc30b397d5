"""The files that tell a pod's containers apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.agent.containers import Containers
from spiderpool.api.cni import PodArgs
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.errors import IOFailure

pytestmark = pytest.mark.unit


def pod(uid: str) -> PodArgs:
    return PodArgs("default", "web", uid)


@pytest.fixture
def containers(tmp_path: Path) -> Containers:
    return Containers(tmp_path / "addressed")


def test_the_last_container_of_an_interface_counts_for_all_agents(tmp_path: Path, containers: Containers) -> None:
    containers.note(pod("u"), "eth0", SandboxTarget("old", ""))
    containers.note(pod("u"), "eth0", SandboxTarget("new", ""))
    containers.note(pod("u"), "net1", SandboxTarget("new", ""))
    another = Containers(tmp_path / "addressed")
    assert [another.of("u", name) for name in ("eth0", "net1", "net2")] == ["new", "new", None]
    assert [another.is_former("u", each) for each in ("old", "new", "")] == [True, False, False]
    assert not another.is_former("unknown", "old")


def test_only_the_container_that_counts_is_forgotten(tmp_path: Path, containers: Containers) -> None:
    containers.note(pod("../u"), "eth0", SandboxTarget("a", ""))
    containers.note(pod("../u"), "net1", SandboxTarget("b", ""))
    containers.forget("../u", "eth0", "b")
    assert containers.of("../u", "eth0") == "a"
    containers.forget("../u", "eth0", "a")
    assert (containers.of("../u", "eth0"), containers.of("../u", "net1")) == (None, "b")
    containers.forget("../u", "net1", "b")
    assert list((tmp_path / "addressed").iterdir()) == []


def test_what_is_not_kept_goes(containers: Containers) -> None:
    for uid in ("a", "b"):
        containers.note(pod(uid), "eth0", SandboxTarget("c", ""))
    containers.keep(lambda each: each.pod_uid == "b")
    assert [containers.of(uid, "eth0") for uid in ("a", "b")] == [None, "c"]


def test_files_that_cannot_be_read_or_written(tmp_path: Path, containers: Containers) -> None:
    containers.note(pod("u"), "eth0", SandboxTarget("c", ""))
    (file,) = (tmp_path / "addressed").iterdir()
    file.write_bytes(b"[")
    assert containers.of("u", "eth0") is None
    containers.keep(lambda _: False)
    assert file.exists(), "its pod may have addresses"
    with pytest.raises(IOFailure, match="cannot be parsed"):
        list(containers.all(strict=True))
    file.unlink()
    file.mkdir()
    with pytest.raises(IOFailure, match="cannot be read"):
        containers.of("u", "eth0")
    others = [f"other-{number}" for number in range(9)]
    for uid in others:
        containers.note(pod(uid), "eth0", SandboxTarget("c", ""))
    assert [type(failure) for failure in containers.keep(lambda _: False)] == [IOFailure]
    assert [containers.of(uid, "eth0") for uid in others] == [None] * 9, "one bad file hinders no other"
    file.rmdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IOFailure, match="cannot be"):
        Containers(tmp_path / "file").note(pod("u"), "eth0", SandboxTarget("c", ""))


def test_the_namespaces_of_present_containers_are_known(containers: Containers) -> None:
    containers.note(pod("u"), "eth0", SandboxTarget("a", "/run/netns/a"))
    containers.note(pod("u"), "net1", SandboxTarget("b", "/run/netns/b"))
    (known,) = containers.all()
    assert (known.namespace, known.pod, known.netns) == ("default", "web", {"a": "/run/netns/a", "b": "/run/netns/b"})
    containers.note(pod("u"), "eth0", SandboxTarget("b", ""))
    (known,) = containers.all()
    assert (known.by_interface, known.netns) == ({"eth0": "b", "net1": "b"}, {"b": "/run/netns/b"})


def test_a_file_of_an_earlier_agent(tmp_path: Path, containers: Containers) -> None:
    containers.note(pod("u"), "eth0", SandboxTarget("a", "/run/netns/a"))
    (file,) = (tmp_path / "addressed").iterdir()
    file.write_text('{"pod_uid": "u", "by_interface": {"eth0": "a"}}')
    (known,) = containers.all()
    assert (known.by_interface, known.namespace, known.netns) == ({"eth0": "a"}, "", {})

"""The sandboxes that a node finds in the bundles of its container runtime."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from spiderpool_lab import container_runtime
from spiderpool_lab.container_runtime import configuration, sandboxes

pytestmark = pytest.mark.unit


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of bundles, empty."""
    monkeypatch.setattr(container_runtime, "BUNDLES", tmp_path)
    return tmp_path


def bundle(folder: Path, container: str, kind: str, network: dict[str, str], *, started: int = 0) -> None:
    notes = {"container-type": kind, "sandbox-namespace": "default", "sandbox-name": "web", "sandbox-uid": "u1"}
    spec = {
        "annotations": {f"io.kubernetes.cri.{key}": value for key, value in notes.items()},
        "linux": {"namespaces": [{"type": "pid"}, *([{"type": "network", **network}] if network else [])]},
    }
    file = folder / container / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps(spec))
    os.utime(file, (started, started))


def test_a_sandbox_is_found_by_its_bundle_and_a_container_is_none(bundles: Path) -> None:
    netns = bundles / "netns"
    netns.touch()
    bundle(bundles, "c1", "sandbox", {"path": str(netns)}, started=7)
    bundle(bundles, "c2", "container", {"path": str(netns)})
    (found,) = sandboxes()
    assert (found.container_id, found.pod, found.uid) == ("c1", "default/web", "u1")
    assert (found.netns, found.started) == (netns, 7)


def test_the_newest_is_last(bundles: Path) -> None:
    for number in (3, 1, 2):
        bundle(bundles, f"c{number}", "sandbox", {}, started=number)
    assert [sandbox.container_id for sandbox in sandboxes()] == ["c1", "c2", "c3"]


def test_a_sandbox_on_the_host_network_or_with_a_removed_namespace_has_none(bundles: Path) -> None:
    bundle(bundles, "host", "sandbox", {})
    bundle(bundles, "gone", "sandbox", {"path": str(bundles / "gone-too")})
    assert [sandbox.netns for sandbox in sandboxes()] == [None, None]


def test_a_bundle_that_is_being_made_or_removed_is_passed_over(bundles: Path) -> None:
    (bundles / "half").mkdir()
    (bundles / "half" / "config.json").write_text('{"annotations": ')
    (bundles / "none").mkdir()
    assert sandboxes() == []


def test_containerd_calls_our_executables_by_our_lists() -> None:
    runtime = tomllib.loads(configuration(Path("/cni/bin"), Path("/cni/net.d")))["plugins"][
        "io.containerd.cri.v1.runtime"
    ]
    assert (runtime["cni"]["bin_dirs"], runtime["cni"]["conf_dir"]) == (["/cni/bin"], "/cni/net.d")

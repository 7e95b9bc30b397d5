"""The stand-in's node has a network if it has a list whose STATUS succeeds, as containerd says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from spiderpool_lab import kubelet
from spiderpool_lab.cni_runtime import CniRuntime
from spiderpool_lab.kubelet import NetworkStatus
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

PLUGIN = """#!/bin/sh
cat >/dev/null
[ -e "$(dirname "$0")/refuse" ] || exit 0
echo '{"cniVersion": "1.1.0", "code": 50, "msg": "plugin not available"}'
exit 1
"""


async def test_status_decides_if_the_list_offers_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet, "_STATUS_INTERVAL", 0.05)
    status = NetworkStatus(CniRuntime(tmp_path, tmp_path))
    assert (status.network(), status.reason) == (None, "cni plugin not initialized")
    (tmp_path / "plugin").write_text(PLUGIN)
    (tmp_path / "plugin").chmod(0o755)
    conflist = tmp_path / "10.conflist"
    offered = {"cniVersion": "1.0.0", "cniVersions": ["1.1.0"], "name": "n", "plugins": [{"type": "plugin"}]}
    conflist.write_text(json.dumps(offered))
    task = asyncio.create_task(status.run())
    await eventually(lambda: status.network() is not None)
    (tmp_path / "refuse").touch()
    await eventually(lambda: "plugin not available" in status.reason)
    assert status.network() is None
    conflist.write_text(json.dumps({**offered, "cniVersions": ["1.0.0"]}))
    await eventually(lambda: not status.reason)
    task.cancel()

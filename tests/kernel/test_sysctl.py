"""Where sysctls are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.kernel import sysctl

pytestmark = pytest.mark.unit


def test_a_container_writes_where_the_hosts_sysctls_are_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, mounted = tmp_path / "own", tmp_path / "mounted"
    for root in (own, mounted):
        (root / "net").mkdir(parents=True)
        (root / "net" / "x").write_text("0")
    monkeypatch.setattr(sysctl, "_ROOT", own)
    monkeypatch.setattr(sysctl, "_OF_HOST", mounted)
    sysctl.write("net/x", "1")
    assert ((own / "net/x").read_text(), (mounted / "net/x").read_text()) == ("0", "1")
    monkeypatch.setattr(sysctl, "_OF_HOST", tmp_path / "none")
    sysctl.write("net/x", "2")
    assert (own / "net/x").read_text() == "2"

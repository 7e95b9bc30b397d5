"""The benchmark of address management, on a few pods: that it measures what it says."""

from __future__ import annotations

import re

import pytest
from bench import ipam

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]


@pytest.mark.full
def test_lost_creates_in_a_shared_pool_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("CHURN_POOL", 32), ("CHURN_HELD", 16), ("CHURN_BATCH", 8), ("CHURN_ROUNDS", 2)):
        monkeypatch.setattr(ipam, name, number)
    with ipam.bench_cluster() as bench:
        claim = ipam.churn(bench)
    assert "16 pods replaced" in claim.what
    found = re.fullmatch(r"\d+/s, (\d+\.\d+) lost creates per ADD, 0 failed", claim.measured)
    assert found, claim.measured
    assert float(found[1]) < 8

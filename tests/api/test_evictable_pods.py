"""Pods with the condition that says whether they serve."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.evictable_pods import EvictablePod

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        (None, False),
        ([{"type": "Ready", "status": "False"}, {"type": "Initialized", "status": "True"}], False),
        ([{"type": "Ready", "status": "True"}], True),
    ],
)
def test_a_pod_is_ready_by_its_condition(conditions: list[dict[str, str]] | None, ready: bool) -> None:
    text = {"metadata": {"name": "web"}, "status": {"phase": "Running", "conditions": conditions}}
    assert msgspec.convert(text, EvictablePod).ready is ready

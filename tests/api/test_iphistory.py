"""SpiderIPHistory: a part of the history of addresses."""

from __future__ import annotations

import pytest

from spiderpool.api.iphistory import IPHistorySpec, SpiderIPHistory
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_the_name_is_the_number() -> None:
    spec = IPHistorySpec("2026-11-29T11:00:00Z", 0, "")
    part = SpiderIPHistory.numbered(7, "5", spec)
    assert (part.name, part.number, part.metadata.resourceVersion) == ("history-000000000007", 7, "5")
    for name in ("mine", "history-", "history-x", "history-²"):
        document = {"metadata": {"name": name}, "spec": {"since": "x", "rows": 0, "data": ""}}
        assert read(document, SpiderIPHistory).number is None
    assert part.KIND.plural == "spideriphistories"

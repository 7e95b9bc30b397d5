"""Provider IDs of Alibaba Cloud, and those of others."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.alibaba.provider_ids import parse_provider_id

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("cn-hangzhou.i-1", ("cn-hangzhou", "i-1")),
        ("alicloud://cn-hangzhou.i-1", ("cn-hangzhou", "i-1")),
        ("ack-hybrid://cn-hangzhou.i-1", None),
        ("cn-hangzhou.i-1.x", None),
        ("cn-hangzhou.", None),
        (".i-1", None),
        ("i-1", None),
        ("kind://docker/kind/kind.control-plane", None),
        ("", None),
    ],
)
def test_region_and_instance(text: str, named: tuple[str, str] | None) -> None:
    assert parse_provider_id(text) == named

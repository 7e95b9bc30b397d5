"""Faults that both kinds of balancers have."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.checking import common_faults
from tests.core.pretend_balancers import options, service

pytestmark = pytest.mark.unit

PORTS = ({"port": 80}, {"port": 53, "protocol": "UDP"})


@pytest.mark.parametrize(
    ("annotations", "fault"),
    [
        ({}, None),
        ({"scheduler": "sch"}, None),
        ({"scheduler": "qch"}, "scheduler: qch is for UDP alone, and the listener of port 80 is tcp"),
        (
            {"scheduler": "tch", "protocol-port": "http:80"},
            "scheduler: tch is not for http, which the listener of port 80 is",
        ),
        ({"additional-resource-tags": ",".join(f"k{n}=v" for n in range(8))}, None),
        (
            {"additional-resource-tags": ",".join(f"k{n}=v" for n in range(9))},
            "additional-resource-tags: a balancer has at most 8 beside ours",
        ),
    ],
)
def test_schedulers_and_tags(annotations: dict[str, str], fault: str | None) -> None:
    found = list(common_faults(service(*PORTS), options("clb", annotations)))
    assert found == ([f"annotation {PREFIX}{fault}"] if fault else [])

"""Faults that both kinds of balancers have."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.checking import common_faults, common_remarks
from tests.core.pretend_balancers import KINDS, options, service

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


@pytest.mark.parametrize("kind", ["clb", "nlb"])
@pytest.mark.parametrize(("value", "words"), [("true", []), ("on", []), ("false", ["false"]), ("off", ["off"])])
def test_servers_whose_pods_end_always_keep_connections(kind: str, value: str, words: list[str]) -> None:
    given = options(kind, {"graceful-shutdown": value})
    found = [*common_remarks(given)]
    assert [text.partition("graceful-shutdown ")[2].split(" ")[0] for text in found] == words
    assert [text for text in KINDS[kind].remarks(service({"port": 80}), given) if "graceful-shutdown" in text] == found
    assert [*common_remarks(options(kind, {}))] == []

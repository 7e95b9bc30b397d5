"""`spiderpoolctl doctor`: what moves away from pools have left."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.cli.doctor.checks_moves import move_findings
from spiderpool.cli.renumbering.marks import MOVING_BY, MOVING_POOL_LABEL, run_mark
from tests.cli.doctor.snapshots import NOW, diagnosed, pool, snapshot

pytestmark = pytest.mark.unit


def marked(by: str | None = None, listed: str = "10.0.0.5", **spec: Any) -> SpiderIPPool:
    found = pool(**spec)
    notes = {POOL_MOVING_ANNOTATION: listed, **({MOVING_BY: by} if by else {})}
    found.metadata = ObjectMeta(name="blue", uid="uid-of-blue", annotations=notes)
    return found


def told(*objects: SpiderIPPool | SpiderReservedIP) -> list[str]:
    pools = tuple(each for each in objects if isinstance(each, SpiderIPPool))
    reserved = tuple(each for each in objects if isinstance(each, SpiderReservedIP))
    installation = replace(snapshot().installation, pools=pools, reserved=reserved)
    return [f"{each.what}; {each.hint}" for each in move_findings(installation, NOW)]


@pytest.mark.parametrize(
    ("left", "what"),
    [
        (marked("resize"), "a resize of pool blue is not over, and nobody goes on with it; run it again, or take"),
        (marked("drain"), "pool blue is marked as drained, and gives addresses; run it again, or take it back"),
        (marked(), "which no command has written; if nobody needs it: kubectl annotate spiderippool blue"),
        (marked(listed="10.0.0"), "of pool blue has no effect: "),
    ],
)
def test_annotations_that_nobody_goes_on_with(left: SpiderIPPool, what: str) -> None:
    (text,) = told(left)
    assert what in text
    assert [each.check for each in diagnosed(left).findings] == ["move-left-over"]


def test_a_pool_that_is_drained_and_one_whose_pods_move_now_are_right() -> None:
    moving = marked("resize")
    moving.metadata.annotations = {**(moving.metadata.annotations or {}), **run_mark(moving, "a/1/x", NOW)}
    assert told(pool(), marked("drain", disable=True), moving) == []
    installation = replace(snapshot().installation, pools=(moving,), reserved=())
    assert len(list(move_findings(installation, NOW + timedelta(minutes=2)))) == 1, "it was killed"


def test_reservations_that_nobody_needs() -> None:
    def kept(labels: dict[str, str] | None) -> SpiderReservedIP:
        return SpiderReservedIP(
            metadata=ObjectMeta(name="moving-blue", labels=labels), spec=ReservedIPSpec(4, ["10.0.0.5"])
        )

    mine = kept({MOVING_POOL_LABEL: "uid-of-blue"})
    unmarked = marked()
    unmarked.metadata.annotations = None
    assert "which is not being resized; spiderpoolctl pool resize blue --undo" in told(mine, unmarked)[0]
    assert "of a pool that does not exist any more; kubectl delete" in told(mine, pool("red"))[0]
    assert told(kept(None), unmarked) == [], "it is somebody else's"
    assert len(told(mine, marked("resize"))) == 1, "of the resize alone"

"""Which addresses may be released, as a story of observations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.core_v1 import Pod, PodIP, PodSpec, PodStatus
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.reclaim import STATIC_POD_ANNOTATION, Doubt, due, is_alive, is_finished, observe, why_orphaned

pytestmark = pytest.mark.unit

DELETED = "2026-01-01T00:00:00Z"


def pod(
    name: str = "web",
    uid: str = "u-1",
    *,
    phase: str = "Running",
    restart: str = "Always",
    reason: str | None = None,
    ips: tuple[str, ...] = (),
    **metadata: Any,
) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, namespace="ns", uid=uid, **metadata),
        spec=PodSpec(nodeName="n", restartPolicy=restart),
        status=PodStatus(phase, reason, [PodIP(ip) for ip in ips]),
    )


def record(address: str = "10.6.0.1", holder: str = "web", uid: str = "u-1", own_uid: str = "r-1") -> SpiderIP:
    return SpiderIP(
        metadata=ObjectMeta(name=address, uid=own_uid),
        spec=IPSpec(f"{address}/24", "p", "n", "ns", holder, uid, "eth0"),
    )


@pytest.mark.parametrize(
    ("each", "alive", "finished"),
    [
        (pod(), True, False),
        (pod(phase="Pending"), True, False),
        (pod(deletionTimestamp=DELETED), False, False),
        (pod(phase="Succeeded"), True, False),
        (pod(phase="Succeeded", restart="OnFailure"), False, True),
        (pod(phase="Succeeded", restart="Never"), False, True),
        (pod(phase="Failed"), True, False),
        (pod(phase="Failed", restart="OnFailure"), True, False),
        (pod(phase="Failed", restart="Never"), False, True),
        (pod(phase="Failed", reason="Evicted"), False, True),
        (pod(phase="Failed", restart="Never", deletionTimestamp=DELETED), False, True),
    ],
)
def test_alive_and_finished(each: Pod, alive: bool, finished: bool) -> None:
    assert is_alive(each) is alive
    assert is_finished(each) is finished


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (None, "does not exist"),
        (pod(), None),
        (pod(deletionTimestamp=DELETED), None),
        (pod(phase="Failed", restart="Never", ips=("10.6.0.1",)), "has finished"),
        (pod(uid="u-2"), "another one of the same name"),
        (pod(uid="u-2", ips=("10.6.0.1",)), None),
        (pod(uid="u-2", ips=("10.6.0.9",)), "another one"),
        (pod(uid="u-2", annotations={STATIC_POD_ANNOTATION: "u-1"}), None),
    ],
)
def test_why_an_address_has_no_holder(now: Pod | None, reason: str | None) -> None:
    why = why_orphaned(record(), now)
    assert (why is None) if reason is None else (why is not None and reason in why)


def test_a_live_pod_that_reports_the_address_keeps_it_whatever_the_record_says() -> None:
    stranger = pod("stranger", "u-9", ips=("fd00::1", "10.6.0.1"))
    assert observe([record()], [stranger], {}, 0) == {}
    finished = pod("stranger", "u-9", phase="Succeeded", restart="Never", ips=("10.6.0.1",))
    assert list(observe([record()], [finished], {}, 0)) == ["r-1"]


def test_two_observations_a_grace_period_apart() -> None:
    first = observe([record()], [], {}, 10.0)
    assert due(first, 10.0, 0.0) == []
    second = observe([record()], [], first, 14.9)
    assert due(second, 14.9, 5.0) == []
    third = observe([record()], [], second, 15.0)
    assert [doubt.ip.name for doubt in due(third, 15.0, 5.0)] == ["10.6.0.1"]


def test_one_contrary_observation_starts_anew() -> None:
    first = observe([record()], [], {}, 0.0)
    contrary = observe([record()], [pod()], first, 5.0)
    assert contrary == {}
    assert due(observe([record()], [], contrary, 10.0), 10.0, 5.0) == []


def test_a_new_record_of_the_same_address_does_not_inherit_the_doubt() -> None:
    first = observe([record()], [], {}, 0.0)
    second = observe([record(own_uid="r-2")], [], first, 10.0)
    assert due(second, 10.0, 5.0) == []


def test_the_oldest_doubt_is_due_first() -> None:
    doubts = {uid: Doubt(record(own_uid=uid), "", since) for uid, since in (("b", 2.0), ("a", 1.0), ("c", 9.0))}
    assert [doubt.since for doubt in due(doubts, 10.0, 5.0)] == [1.0, 2.0]


SIGHTS = st.lists(st.tuples(st.floats(0.1, 20), st.booleans()), min_size=1, max_size=12)


@given(SIGHTS, st.floats(0, 30))
def test_nothing_is_due_unless_every_sight_of_a_grace_period_shares_the_doubt(
    sights: list[tuple[float, bool]], grace: float
) -> None:
    now, alive_at = 0.0, -1.0
    doubts: dict[str, Doubt] = {}
    first_doubt: float | None = None
    for step, alive in sights:
        now += step
        doubts = observe([record()], [pod()] if alive else [], doubts, now)
        if alive:
            alive_at, first_doubt = now, None
        elif first_doubt is None:
            first_doubt = now
        if due(doubts, now, grace):
            assert first_doubt is not None
            assert alive_at < first_doubt < now
            assert now - first_doubt >= grace

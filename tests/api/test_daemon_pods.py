"""Why a pod of a daemon is not ready."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spiderpool.api.daemon_pods import DaemonPod

pytestmark = pytest.mark.unit


def pod(**status: Any) -> DaemonPod:
    return msgspec.json.decode(json.dumps({"metadata": {"name": "a"}, "status": status}), type=DaemonPod)


def container(name: str = "agent", **fields: Any) -> dict[str, Any]:
    return {"name": name, "ready": False} | fields


def test_ready_is_its_condition() -> None:
    assert pod(conditions=[{"type": "Ready", "status": "True"}]).ready
    assert not pod(conditions=[{"type": "Ready", "status": "False"}]).ready
    assert not pod().ready


def test_a_container_that_waits_says_why() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    assert pod(containerStatuses=[container(state=waiting)]).state == "container agent: ImagePullBackOff: no such image"


def test_a_container_that_fails_again_and_again_says_how_it_ended() -> None:
    last = {"terminated": {"reason": "Error", "message": "another agent runs"}}
    found = container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=last, restartCount=7)
    assert pod(containerStatuses=[found]).state == "container agent: CrashLoopBackOff, 7 restarts: another agent runs"


def test_the_end_without_words_has_its_reason() -> None:
    last = {"terminated": {"reason": "OOMKilled"}}
    found = container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=last)
    assert pod(containerStatuses=[found]).state == "container agent: CrashLoopBackOff: OOMKilled"


def test_init_containers_come_first_and_those_that_wait_for_them_say_nothing() -> None:
    init = container("init", state={"terminated": {"reason": "Error"}})
    waits = container(state={"waiting": {"reason": "PodInitializing"}})
    assert pod(initContainerStatuses=[init], containerStatuses=[waits]).state == "container init: Error"


def test_without_containers_the_pod_speaks() -> None:
    assert pod(phase="Pending").state == "Pending"
    assert pod(phase="Failed", reason="Evicted").state == "Evicted"
    assert pod().state == "it was not started yet"

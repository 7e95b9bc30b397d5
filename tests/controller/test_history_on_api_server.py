"""The history of addresses from its writers to its reader, through a real API server, a killed leader and a restart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from spiderpool.cli.main import cli
from spiderpool.errors import SpiderpoolError
from spiderpool_lab.control_plane import ControlPlane
from tests.conftest import own_control_plane
from tests.controller.conftest import Running, start_controller, wait

pytestmark = pytest.mark.control_plane

RECORD = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIP
metadata: {{name: {address}, labels: {{ipam.spidernet.io/node: n1}}}}
spec: {{address: {address}/16, pool: p70, node: n1, namespace: shop, pod: {pod}, podUID: u-{pod}, interface: eth0}}
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own: its controllers are killed."""
    with own_control_plane(tmp_path_factory.mktemp("history")) as plane:
        yield plane


class Controllers:
    """Replicas that are started one after the other."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self._plane = plane
        self._directory = directory
        self.running: list[Running] = []

    def start(self) -> Running:
        """One more, which stands by while another leads."""
        name = f"replica-{len(self.running)}"
        started = start_controller(
            self._plane,
            self._directory / name,
            SPIDERPOOL_POD_NAME=name,
            SPIDERPOOL_HISTORY_INTERVAL_SECONDS="1",
            SPIDERPOOL_GC_IP_ENABLED="false",
            SPIDERPOOL_LEADER_DURATION="4",
            SPIDERPOOL_LEADER_RENEW_DEADLINE="3",
            SPIDERPOOL_LEADER_RETRY_PERIOD="1",
        )
        self.running.append(started)
        wait(started, lambda: started.is_ready, "not ready")
        return started


@pytest.fixture
def controllers(plane: ControlPlane, tmp_path: Path) -> Iterator[Controllers]:
    made = Controllers(plane, tmp_path)
    try:
        yield made
    finally:
        for each in made.running:
            each.kill()


def hold(plane: ControlPlane, address: str, pod: str) -> None:
    plane.kubectl("create", "-f", "-", input=RECORD.format(address=address, pod=pod))


def release(plane: ControlPlane, address: str) -> None:
    plane.kubectl("delete", "spiderip", address)


def rows(plane: ControlPlane) -> int:
    items = json.loads(plane.kubectl("get", "spideriphistories", "-o", "json"))["items"]
    return sum(each["spec"]["rows"] for each in items)


def run(plane: ControlPlane, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--kubeconfig", str(plane.admin_kubeconfig)])


def told(plane: ControlPlane, *words: str) -> list[Any]:
    result = run(plane, "history", *words, "-o", "json")
    assert result.exit_code == 0, result.output
    return [(each["pod"], each["address"], each["ended_by"] is None) for each in json.loads(result.stdout)["items"]]


def test_who_had_an_address_is_told_once_it_has_another_pod(plane: ControlPlane, controllers: Controllers) -> None:
    leader = controllers.start()
    hold(plane, "10.70.0.1", "web-1")
    wait(leader, lambda: rows(plane) == 1, "the beginning is not written")
    release(plane, "10.70.0.1")
    hold(plane, "10.70.0.1", "web-2")
    wait(leader, lambda: rows(plane) == 3, "the end and the next beginning are not written")
    had, has = ("shop/web-1", "10.70.0.1", False), ("shop/web-2", "10.70.0.1", True)
    assert told(plane, "address", "10.70.0.1") == [had, has]


@pytest.mark.full
def test_the_history_outlives_pods_a_killed_leader_and_a_restart(plane: ControlPlane, controllers: Controllers) -> None:
    first = controllers.start()
    hold(plane, "10.70.0.1", "web-1")
    hold(plane, "10.70.0.2", "web-2")
    wait(first, lambda: rows(plane) == 2, "the beginnings are not written")
    second = controllers.start()
    time.sleep(1.1)  # times are seconds
    while_held = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    time.sleep(1.1)
    release(plane, "10.70.0.1")
    wait(first, lambda: rows(plane) == 3, "the end is not written")
    first.kill()
    release(plane, "10.70.0.2")  # nobody leads
    hold(plane, "10.70.0.2", "web-9")
    hold(plane, "10.70.0.3", "web-3")
    wait(second, lambda: rows(plane) == 6, "the second leader does not go on")
    assert told(plane, "address", "10.70.0.2") == [
        ("shop/web-2", "10.70.0.2", False),
        ("shop/web-9", "10.70.0.2", True),
    ]
    second.stop()
    third = controllers.start()
    hold(plane, "10.70.0.4", "web-4")
    wait(third, lambda: rows(plane) == 7, "the third leader does not go on, or doubles")
    _ask(plane, while_held)


def _ask(plane: ControlPlane, while_held: str) -> None:
    assert told(plane, "pod", "shop/web-1") == [("shop/web-1", "10.70.0.1", False)]
    assert [pod for pod, _, _ in told(plane, "node", "n1")][:2] == ["shop/web-1", "shop/web-2"]
    assert len(told(plane, "node", "n1")) == 5
    found = json.loads(run(plane, "who", "10.70.0.1", "--at", while_held, "-o", "json").stdout)
    assert (found["state"], found["holders"][0]["pod"]) == ("held", "shop/web-1")
    now = run(plane, "who", "10.70.0.1", "--at", "-0s")
    assert "State:    held by nobody" in now.stdout
    assert "Before:   shop/web-1 on n1, until " in now.stdout
    early = run(plane, "who", "10.70.0.1", "--at", "-300d")
    assert early.exit_code == 1
    assert "the history begins at " in early.stdout


def test_who_may_not_read_it_is_told(plane: ControlPlane) -> None:
    account = str(plane.service_account_kubeconfig("default", "default"))
    result = CliRunner().invoke(cli, ["history", "node", "n1", "--kubeconfig", account])
    assert "SpiderIPHistory objects may not be read" in result.stderr
    assert "the history may not be read" in result.stdout
    assert result.exit_code == 1


def test_the_controllers_account_may_write_it_and_an_agents_may_not(plane: ControlPlane) -> None:
    account = plane.service_account_kubeconfig("kube-system", "spiderpool-controller")
    result = CliRunner().invoke(cli, ["history", "node", "n1", "--kubeconfig", str(account)])
    assert "may not be read" not in result.stderr.replace("Pod", "")
    allowed = {"get", "list", "create", "update", "delete"}
    for name, verbs in (("spiderpool-controller", allowed), ("spiderpool-agent", set()), ("spiderpool-cloud", set())):
        for verb in (*allowed, "patch", "watch"):
            assert _may(plane, name, verb) == (verb in verbs), (name, verb)


def _may(plane: ControlPlane, account: str, verb: str) -> bool:
    user = f"--as=system:serviceaccount:kube-system:{account}"
    try:
        return plane.kubectl("auth", "can-i", verb, "spideriphistories", user).strip() == "yes"
    except SpiderpoolError:
        return False

"""Waiting for the nodes when an installation is removed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from spiderpool.controller import removal
from spiderpool.kube.client import Client
from spiderpool_lab.control_plane import ControlPlane
from tests.support.eventually import wait_until

pytestmark = pytest.mark.control_plane

NAME = "cleans-nodes"
DAEMON_SET = f"""
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: {NAME}, namespace: default}}
spec:
  selector: {{matchLabels: {{app: {NAME}}}}}
  template:
    metadata: {{labels: {{app: {NAME}}}}}
    spec:
      nodeSelector: {{only: {NAME}}}
      tolerations: [{{operator: Exists}}]
      containers: [{{name: c, image: i}}]
"""
NODE = f"{{apiVersion: v1, kind: Node, metadata: {{name: {NAME}, labels: {{only: {NAME}}}}}}}"


@pytest.fixture
def daemon_set(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    control_plane.apply(DAEMON_SET)
    yield control_plane
    control_plane.kubectl("delete", "daemonset", NAME, "-n", "default", "--wait=false")
    control_plane.kubectl("delete", "node", NAME, "--ignore-not-found")


async def waited(plane: ControlPlane) -> float:
    """Seconds until the wait was over."""
    begun = time.monotonic()
    async with Client.load(plane.admin_kubeconfig) as client:
        await removal.nodes_are_clean(client, "default", NAME)
    return time.monotonic() - begun


async def test_without_nodes_there_is_nothing_to_wait_for(
    daemon_set: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "PAUSE", 0.1)
    assert await waited(daemon_set) < removal.TIMEOUT / 4


async def test_a_node_that_does_not_answer_is_given_up(
    daemon_set: ControlPlane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon_set.apply(NODE)
    desired = ("get", "daemonset", NAME, "-n", "default", "-o", "jsonpath={.status.desiredNumberScheduled}")
    wait_until(lambda: daemon_set.kubectl(*desired) == "1", "a pod is wanted", timeout=20.0)
    monkeypatch.setattr(removal, "PAUSE", 0.1)
    monkeypatch.setattr(removal, "TIMEOUT", 1.0)
    assert await waited(daemon_set) >= 1.0
    assert "nodes keep what is installed" in capsys.readouterr().out

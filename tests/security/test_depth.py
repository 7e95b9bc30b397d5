"""A user stores an object that is nested 3,000 levels deep: managedFields that come with a pod."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from spiderpool.api.core_v1 import Pod
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from tests.support.eventually import eventually

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(90)]

PODS = "/api/v1/namespaces/default/pods"


def _pod(name: str, depth: int) -> str:
    fields = '{"f:metadata":' * depth + "{}" + "}" * depth
    entry = f'{{"manager":"x","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{fields}}}'
    spec = json.dumps({"containers": [{"name": "c", "image": "none"}], "nodeName": "nowhere"})
    head = f'{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","managedFields":[{entry}]}}'
    return f'{head},"spec":{spec}}}'


async def test_it_keeps_nobody_from_reading_pods(control_plane: ControlPlane, tmp_path: Path) -> None:
    """Neither in a list, nor in a watch, nor the pod itself."""

    def create(name: str, depth: int) -> None:
        (tmp_path / name).write_text(_pod(name, depth))
        control_plane.kubectl("create", "--raw", PODS, "-f", tmp_path / name)

    names = {f"{kind}-{when}" for kind in ("deep", "plain") for when in ("before", "after")}
    async with Client.load(control_plane.admin_kubeconfig) as client:
        pods = Informer(client, Pod)
        task: asyncio.Task[None] | None = None
        try:
            for name in ("deep-before", "plain-before"):
                create(name, 3000 if name.startswith("deep") else 1)
            task = asyncio.create_task(pods.run())
            await pods.synced(10)
            for name in ("deep-after", "plain-after"):
                create(name, 3000 if name.startswith("deep") else 1)
            await eventually(lambda: all(pods.get(f"default/{name}") for name in names), "all pods are known")
            assert (await client.get(Pod, "deep-before", "default")).spec.nodeName == "nowhere"
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            control_plane.kubectl("delete", "pods", *names, "--force", "--grace-period=0", "--ignore-not-found")

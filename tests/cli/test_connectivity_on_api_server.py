"""`spiderpoolctl connectivity test` against a real API server: what it makes and removes, also when it is ended."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from spiderpool.api.core_v1 import Namespace, Pod
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.connection import Cluster
from spiderpool.cli.connectivity import objects
from spiderpool.cli.connectivity.objects import ProbeFrame, ProbeSite
from spiderpool.cli.connectivity.run import remove
from spiderpool.kube.client import Client, Forbidden, Invalid
from spiderpool_lab.control_plane import ControlPlane
from tests.support.eventually import eventually
from tests.support.probing_kubelet import ProbingKubelet

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(240)]

PATIENCE = 60.0
NETWORK = """
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: probed, namespace: default}
spec:
  config: '{"cniVersion": "1.0.0", "name": "any", "type": "ipvlan", "master": "eth1", "ipam": {"type": "spiderpool"}}'
"""
NO_HOST_NETWORK = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-host-network}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  validations: [{expression: "!(has(object.spec.hostNetwork) && object.spec.hostNetwork)", message: no host network}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-host-network}
spec: {policyName: no-host-network, validationActions: [Deny]}
"""
POOL = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: probed}
spec: {subnet: 10.97.0.0/24, ipVersion: 4, ips: [10.97.0.1-10.97.0.9], nodeName: [p1, p2], default: true}
"""
OPTIONS = ["--image", "none", "--networks", "default/probed", "--nodes", "p1", "--nodes", "p2"]
"""Addresses in 127.0.0.0/8 are no endpoints of a Service: these questions are left out."""
NO_SERVICES = [word for topic in ("cluster-ip", "node-port", "dns") for word in ("--without", topic)]


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[Client]:
    control_plane.apply(NETWORK, POOL)
    async with Client.load(control_plane.admin_kubeconfig) as client:
        yield client
    control_plane.kubectl("delete", "spiderippool,net-attach-def", "-n", "default", "probed")


@pytest.fixture
async def nodes(client: Client, tmp_path: Path) -> AsyncIterator[list[ProbingKubelet]]:
    """Two nodes."""
    async with AsyncExitStack() as stack:
        found = []
        for number in (1, 2):
            directory = tmp_path / f"p{number}"
            directory.mkdir()
            found.append(ProbingKubelet(client, f"p{number}", directory, f"127.77.{number}"))
            await stack.enter_async_context(found[-1].running())
        yield found


async def start(plane: ControlPlane, *words: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    options = ["--kubeconfig", str(plane.admin_kubeconfig), *words]
    command = [sys.executable, "-m", "spiderpool.cli.main", "connectivity", "test", *options]
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, preexec_fn=_has_terminal)


def _has_terminal() -> None:
    """Let a hangup end the process, which `nohup` keeps from all that it starts."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


async def run(plane: ControlPlane, *words: str) -> tuple[int, str, str]:
    process = await start(plane, *words)
    async with asyncio.timeout(2 * PATIENCE):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def namespaces(client: Client) -> list[str]:
    return [each.name for each in await client.list(Namespace, labels=objects.LIFETIME)]


async def test_pods_are_made_answer_each_other_and_are_removed(
    control_plane: ControlPlane, client: Client, nodes: list[ProbingKubelet]
) -> None:
    """The programs of one node listen a while after its pods run: no question goes out before."""
    nodes[1].listens_after = 5.0
    code, output, errors = await run(control_plane, *OPTIONS, *NO_SERVICES, "-o", "json")
    found = json.loads(output)
    assert (code, found["failed"]) == (0, False), (output, errors)
    assert "questions failed; they are asked once more" not in errors
    assert max(each for node in nodes for each in node.asked_lines) < 40  # a look reads the end of a log
    assert "6 pods on 2 nodes take 4 of pool probed (leaves 5)" in errors
    topics = {each["topic"] for each in found["rows"]}
    assert topics == {"address", "pod-same-node", "pod-other-node", "pod-to-node", "node-to-pod"}
    assert await namespaces(client) == []
    assert not any(each.pods for each in nodes)


async def test_what_fails_is_named_with_what_to_look_at(
    control_plane: ControlPlane, client: Client, nodes: list[ProbingKubelet]
) -> None:
    """No kube-proxy serves here."""
    words = [*OPTIONS, "--addresses-per-network", "1", "--without", "dns", "--without", "node-port"]
    code, output, _ = await run(control_plane, *words)
    assert code == 1
    assert "questions failed: all of them about ClusterIP" in output
    assert "! ClusterIP: look at kube-proxy on node p1" in output
    assert await namespaces(client) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_an_interrupted_test_removes_what_it_made(
    control_plane: ControlPlane, client: Client, nodes: list[ProbingKubelet], number: int, status: int
) -> None:
    for each in nodes:
        each.starts_pods = False
    process = await start(control_plane, *OPTIONS)

    async def made() -> bool:
        found = await namespaces(client)
        return bool(found) and len(await client.list(Pod, found[0])) == 6

    await eventually(made, "its pods are there", timeout=PATIENCE)
    process.send_signal(number)
    async with asyncio.timeout(2 * PATIENCE):
        _, errors = await process.communicate()
    assert process.returncode == status, errors
    assert b"Traceback" not in errors
    assert await namespaces(client) == []


async def put_namespace(client: Client, name: str, seconds: int) -> Namespace:
    labels = {objects.LIFETIME: str(seconds)}
    return await client.create(Namespace(metadata=ObjectMeta(name=name, labels=labels)))


@pytest.mark.full
async def test_leftovers_are_removed_by_the_next_test_once_their_time_is_over(
    control_plane: ControlPlane, client: Client, nodes: list[ProbingKubelet]
) -> None:
    await put_namespace(client, f"{objects.PREFIX}0d", 0)
    await put_namespace(client, f"{objects.PREFIX}1d", 600)
    await put_namespace(client, "with-the-label-alone", 0)
    try:
        refused = await run(control_plane, *OPTIONS, "--addresses-per-network", "5")
        assert (refused[0], await namespaces(client)) == (1, [f"{objects.PREFIX}1d", "with-the-label-alone"])
        code, output, _ = await run(control_plane, "--clean-up")
        assert (code, output) == (0, f"removed: {objects.PREFIX}1d\n")
        assert await namespaces(client) == ["with-the-label-alone"]
    finally:
        await client.delete(Namespace, "with-the-label-alone")
    assert "no pod of network default/probed" in refused[2]


@pytest.mark.full
async def test_a_policy_that_forbids_the_host_network_costs_the_questions_of_nodes_alone(
    control_plane: ControlPlane, client: Client, nodes: list[ProbingKubelet]
) -> None:
    control_plane.apply(NO_HOST_NETWORK)
    try:

        async def is_forbidden() -> bool:
            host = objects.pod(ProbeFrame("default", "none", 1024, "", 60), ProbeSite("tried", "p1", ""))
            with suppress(Invalid, Forbidden):
                await client.create(host, is_dry=True)
                return False
            return True

        await eventually(is_forbidden, "the policy holds", timeout=PATIENCE)
        code, output, errors = await run(control_plane, *OPTIONS, *NO_SERVICES, "-o", "json")
        found = json.loads(output)
        assert (code, [each for each in found["rows"] if not each["ok"]]) == (1, []), errors
        assert {each["topic"] for each in found["rows"]} == {"address", "pod-same-node", "pod-other-node"}
        (problem,) = found["problems"]
        assert "no host network" in problem
        assert "--without pod-to-node --without node-to-pod" in problem
        without = [word for topic in ("pod-to-node", "node-to-pod") for word in ("--without", topic)]
        assert (await run(control_plane, *OPTIONS, *NO_SERVICES, *without))[0] == 0
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            control_plane.kubectl("delete", kind, "no-host-network")


async def test_a_namespace_of_the_same_name_that_was_made_since_stays(client: Client) -> None:
    made = await put_namespace(client, f"{objects.PREFIX}2d", 0)
    try:
        earlier = Namespace(metadata=ObjectMeta(name=made.name, uid="00000000-0000-0000-0000-000000000000"))
        assert await remove(Cluster(client, 5.0), [earlier])
        assert (await client.get(Namespace, made.name)).terminating is False
    finally:
        await client.delete(Namespace, made.name)

"""Fuzzer of the agent's CNI endpoint: sends bytes, JSON and variables, from random bytes to almost valid calls.

Checks that every call gets a valid CNI answer, that the agent does not crash and that it leaks nothing: sandbox
files, links, locks, file descriptors, threads, memory. Calls are reproducible by a seed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spiderpool.api.cni import CNICall, frame_call
from spiderpool.api.ip import RELEASE_ANNOTATION
from spiderpool_lab import chart, namespaces
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.fuzzing.mutation import mutated
from tests.support.local_agent import AgentOptions, LocalAgent, exchange

NODE = "fuzz-1"
PODS = 4
WORKERS = 4
CALL_TIMEOUT = 30.0
"""Seconds that a call may take."""
RELEASE_TIMEOUT = 20.0
"""Seconds within which the agent must have released file descriptors and threads after the last call."""
MEMORY_GROWTH_MAX = 64 << 20
"""Bytes by which the agent's memory may grow, for the buffers of the largest calls."""

MANIFESTS = """
apiVersion: v1
kind: Node
metadata: {name: fuzz-1}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: fuzz}
spec: {default: true, subnet: 10.66.0.0/16, ips: [10.66.1.1-10.66.1.9], ipVersion: 4, gateway: 10.66.255.254}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: fuzz, namespace: default}
spec:
  config: |
    {"cniVersion": "1.0.0", "name": "fuzz", "plugins": [
      {"type": "macvlan", "master": "eth0", "ipam": {"type": "spiderpool"}},
      {"type": "coordinator", "mode": "auto", "overlayPodCIDR": ["10.67.0.0/16"], "serviceCIDR": ["10.68.0.0/16"]}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: fuzz-{number}}}
spec: {{nodeName: fuzz-1, terminationGracePeriodSeconds: 0, containers: [{{name: c, image: none}}]}}
"""
NODE_LINKS = (
    "link add eth0 type veth peer name port",
    "address add 10.66.0.1/16 dev eth0",
    "link set eth0 up",
    "link set port up",
)

PREVIOUS = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": "/run/netns/x"}],
    "ips": [{"address": "10.66.1.1/16", "gateway": "10.66.255.254", "interface": 0}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.66.255.254"}],
    "dns": {},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "spiderpool-attach": {"cniVersion": "1.1.0", "name": "spiderpool", "type": "spiderpool-attach"},
    "spiderpool": {"cniVersion": "1.1.0", "name": "n", "type": "x", "ipam": {"type": "spiderpool"}},
    "coordinator": {
        "cniVersion": "1.1.0",
        "name": "n",
        "type": "coordinator",
        "mode": "auto",
        "serviceCIDR": ["10.68.0.0/16"],
        "overlayPodCIDR": [],
        "policyRoutes": [{"dst": "10.0.0.0/8", "gw": "10.66.0.9"}],
        "txQueueLen": 5,
        "vethMTU": 1500,
        "prevResult": PREVIOUS,
    },
}
COMMANDS = ("ADD", "ADD", "DEL", "DEL", "CHECK", "GC", "STATUS", "VERSION", "add", "", "ADD\n", "🕷")


@dataclass(slots=True)
class FuzzResult:
    """Number of calls, and the rules that were violated."""

    calls: int = 0
    codes: dict[int, int] = field(default_factory=dict)  # CNI error code, 0 for success → answers
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Usage:
    """Resources of the agent's process; ``memory`` is resident, in bytes."""

    descriptors: int
    threads: int
    memory: int


@dataclass(frozen=True)
class Target:
    """An agent in its own network namespace, and pods that it can attach."""

    agent: LocalAgent
    node: Path
    pods: dict[str, str]  # name → UID
    sandboxes: dict[str, Path]  # name of the pod → network namespace

    def files(self) -> list[str]:
        """Names of the agent's sandbox files."""
        folders = (self.agent.socket.parent / name for name in ("sandboxes", "chained"))
        return [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]

    def links(self) -> list[str]:
        """Names of the links in the node's namespace."""
        output = namespaces.run_tool(["ip", "-n", self.node.name, "-json", "link"])
        return sorted(link["ifname"] for link in json.loads(output))

    def usage(self) -> Usage:
        """What the agent's process uses now."""
        process = Path(f"/proc/{self.agent.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        resident = int(status["VmRSS"].split()[0]) << 10
        return Usage(len(list((process / "fd").iterdir())), int(status["Threads"]), resident)


def random_body(rng: random.Random, target: Target) -> bytes:
    """The body of a call: a valid call with some changes, or random bytes."""
    if rng.random() < 0.15:
        return rng.randbytes(rng.choice((0, 1, 2, 40, 3000)))
    plugin = rng.choice(tuple(CONFIGS))
    framed = frame_call(CNICall(plugin, _environment(rng, target), _stdin(rng, plugin)))
    match rng.random():
        case share if share < 0.05:
            return framed[: rng.randrange(len(framed))]
        case share if share < 0.10:
            return framed.replace(b"\0", rng.choice((b"", b"\0\0", b"=\0")), rng.randrange(1, 4))
        case share if share < 0.15:
            place = rng.randrange(len(framed))
            return framed[:place] + rng.randbytes(3) + framed[place + 1 :]
        case _:
            return framed


def _environment(rng: random.Random, target: Target) -> dict[str, str]:
    """The variables of a call, some of them replaced or missing. CNI_NETNS never is a foreign network namespace."""
    pod = rng.choice(tuple(target.pods))
    arguments = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_UID={target.pods[pod]}"
    invalid = {
        "CNI_CONTAINERID": ("", ".", "-", "../x", "a/b", "c" * 5000, "é"),
        "CNI_NETNS": ("", "/no/such/place", "/proc/self/ns/net", "/dev/null", "/tmp", "/no/" + "x" * 5000, "relative"),
        "CNI_IFNAME": ("", "lo", "..", "eth 0", "a/b", "sixteen-letters-", "net1", "veth0"),
        "CNI_ARGS": ("", ";", "=", "a=b", "IgnoreUnknown=2;a=b", "K8S_POD_NAME=x", arguments + "=", "x" * 9000),
    }
    environment = {
        "CNI_COMMAND": rng.choice(COMMANDS),
        "CNI_CONTAINERID": f"container{rng.randrange(3)}{pod}",
        "CNI_NETNS": str(target.sandboxes[pod]),
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": arguments,
        "CNI_PATH": "/no/such/folder",
    }
    for key, values in invalid.items():
        if rng.random() < 0.12:
            environment[key] = rng.choice(values)
    if rng.random() < 0.1:
        del environment[rng.choice(tuple(environment))]
    return environment


def _stdin(rng: random.Random, plugin: str) -> bytes:
    config: Any = json.loads(json.dumps(CONFIGS[plugin]))
    if rng.random() < 0.5:
        listed = [{"containerID": f"container{number}fuzz-0", "ifname": "eth0"} for number in range(rng.randrange(3))]
        config["cni.dev/valid-attachments"] = listed
    for _ in range(rng.choice((0, 0, 1, 2, 5))):
        config = mutated(config, rng)
    text = json.dumps(config, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    match rng.random():
        case share if share < 0.03:
            return b"[" * 50_000
        case share if share < 0.06:
            return text + rng.choice((b"}", b"\0", b"\xff", text))
        case share if share < 0.07:
            return text + b" " * (2 << 20)
        case _:
            return text


def violation(status: int, answer: bytes) -> str:
    """Why an answer violates the CNI specification, in words; empty if it is a result, empty or an error document."""
    try:
        document = json.loads(answer) if answer else {}
    except ValueError:
        return f"status {status} without JSON: {answer[:200]!r}"
    if status == 200:
        return "" if isinstance(document, dict) else f"a result that is no object: {answer[:200]!r}"
    if not isinstance(document, dict) or not {"cniVersion", "code", "msg"} <= document.keys():
        return f"status {status} without a CNI error: {answer[:200]!r}"
    if document["code"] == 999:
        return f"an internal error: {document['msg']}"
    return "" if document["msg"] and isinstance(document["code"], int) else f"an error without words: {document}"


async def run_fuzz(target: Target, *, seed: int, count: int | None = None, seconds: float = 0.0) -> FuzzResult:
    """Make ``count`` calls, or calls for ``seconds``, several at a time; then detach all pods and look for leaks."""
    result, rng = FuzzResult(), random.Random(seed)
    await _call(target, result, frame_call(_deletion(target, "fuzz-0", "container0")))
    before = target.usage()
    deadline = time.monotonic() + seconds

    def is_unfinished() -> bool:
        return result.calls < count if count is not None else time.monotonic() < deadline

    async def work() -> None:
        while is_unfinished():
            await _call(target, result, random_body(rng, target))

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    await _check_leaks(target, result, before)
    return result


async def _call(target: Target, result: FuzzResult, content: bytes) -> None:
    result.calls += 1
    try:
        async with asyncio.timeout(CALL_TIMEOUT):
            status, answer = await exchange(target.agent.socket, content)
    except (OSError, TimeoutError) as error:
        result.violations.append(f"no answer to {content[:300]!r}: {error!r}")
        return
    problem = violation(status, answer)
    if problem:
        result.violations.append(f"{problem} to {content[:1500]!r}")
    code = json.loads(answer).get("code", 0) if answer and not problem else 0
    result.codes[code] = result.codes.get(code, 0) + 1


def _deletion(
    target: Target, pod: str, container: str, plugin: str = "spiderpool-attach", name: str = "eth0"
) -> CNICall:
    arguments = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_UID={target.pods[pod]}"
    environment = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": container,
        "CNI_NETNS": str(target.sandboxes[pod]),
        "CNI_IFNAME": name,
        "CNI_ARGS": arguments,
    }
    return CNICall(plugin, environment, json.dumps(CONFIGS[plugin]).encode())


def _chained(target: Target) -> Iterator[tuple[str, str]]:
    """Container IDs and interface names that the agent recorded for calls of the coordinator plugin."""
    for path in (target.agent.socket.parent / "chained").glob("*.json"):
        record = json.loads(path.read_bytes())
        yield from ((record["container_id"], interface["name"]) for interface in record["interfaces"])


async def _check_leaks(target: Target, result: FuzzResult, before: Usage) -> None:
    """Call DEL for every container, which hangs if a lock is still held, then GC; then look for leaks."""
    for pod in target.pods:
        for number in range(3):
            await _call(target, result, frame_call(_deletion(target, pod, f"container{number}{pod}")))
    for container, name in list(_chained(target)):
        pod = next((pod for pod in target.pods if container.endswith(pod)), "fuzz-0")
        await _call(target, result, frame_call(_deletion(target, pod, container, "coordinator", name)))
    config = json.dumps(CONFIGS["spiderpool-attach"] | {"cni.dev/valid-attachments": []}).encode()
    await _call(target, result, frame_call(CNICall("spiderpool-attach", {"CNI_COMMAND": "GC"}, config)))
    if files := target.files():
        result.violations.append(f"files of sandboxes are left: {files}")
    if (links := target.links()) != ["eth0", "lo", "port"]:
        result.violations.append(f"links are left on the node: {links}")
    await _check_usage(target, result, before)


async def _check_usage(target: Target, result: FuzzResult, before: Usage) -> None:
    """Wait until descriptors and threads are released. Up to one connection per worker to the API server may stay."""
    deadline = time.monotonic() + RELEASE_TIMEOUT
    while True:
        usage = target.usage()
        if usage.descriptors <= before.descriptors + WORKERS and usage.threads <= before.threads + 1:
            break
        if time.monotonic() > deadline:
            result.violations.append(f"descriptors and threads: {before} → {usage}")
            break
        await asyncio.sleep(0.1)
    if usage.memory > before.memory + MEMORY_GROWTH_MAX:
        result.violations.append(f"memory grew from {before.memory >> 20} to {usage.memory >> 20} MiB")


@contextmanager
def fuzz_target(plane: ControlPlane, processes: Processes, directory: Path) -> Iterator[Target]:
    """An agent in a network namespace with one ENI, and pods for it. Everything is removed at the end."""
    created: list[Path] = []  # network namespaces

    def namespace(name: str) -> Path:
        path = namespaces.create(f"{directory.name}-{name}")
        created.append(path)
        return path

    names = [f"fuzz-{number}" for number in range(PODS)]
    try:
        node = namespace("node")
        namespaces.ip_batch(NODE_LINKS, netns=node.name)
        plane.apply(MANIFESTS, *(POD.format(number=number) for number in range(PODS)))
        uids = {name: plane.kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid}") for name in names}
        agent = _agent(plane, processes, directory, node)
        yield Target(agent, node, uids, {name: namespace(name) for name in names})
    finally:
        for name in (f"agent-{NODE}", "fuzz-forward"):
            processes.stop(name)
        for path in created:
            namespaces.delete(path)
        plane.kubectl("delete", "pods", *names, "--force", "--grace-period=0", "--wait=false", "--ignore-not-found")
        for kind in ("spiderippool/fuzz", "net-attach-def/fuzz", f"node/{NODE}"):
            plane.kubectl("delete", kind, "--ignore-not-found")
        _release_all(plane)


def _release_all(plane: ControlPlane) -> None:
    """Delete the records of addresses, as somebody who answers for it."""
    for record in json.loads(plane.kubectl("get", "spiderips", "-o", "json"))["items"]:
        name, uid = record["metadata"]["name"], record["metadata"]["uid"]
        plane.kubectl("annotate", "spiderip", name, f"{RELEASE_ANNOTATION}={uid}")
        plane.kubectl("delete", "spiderip", name)


def _agent(plane: ControlPlane, processes: Processes, directory: Path, node: Path) -> LocalAgent:
    server = plane.server.removeprefix("https://")
    arguments = ["--netns", node.name, "--listen", server, "--to", server]
    processes.start("fuzz-forward", [sys.executable, "-m", "spiderpool_lab.forward", *arguments])
    environment = {"MULTUS_CLUSTER_NETWORK": "default/fuzz", "SPIDERPOOL_LOG_LEVEL": "error"}
    agent = LocalAgent(plane, processes, directory, NODE, AgentOptions(environment=environment, netns=node))
    agent.start()
    return agent


@contextmanager
def fuzz_cluster() -> Iterator[Target]:
    """A control plane and a fuzz target on it."""
    with tempfile.TemporaryDirectory(prefix="spiderpool-fuzz-") as name:
        directory = Path(name)
        processes = Processes(directory / "processes")
        plane = ControlPlane(directory / "plane", processes)
        try:
            plane.start()
            plane.apply(*chart.definitions(), *chart.requirements())
            plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
            with fuzz_target(plane, processes, directory) as target:
                yield target
        finally:
            plane.stop()
            processes.stop_all()


def run(seconds: float, seed: int) -> int:
    """Fuzz an agent of its own and print the result; exit status 1 if a rule was violated."""
    with fuzz_cluster() as target:
        result = asyncio.run(run_fuzz(target, seed=seed, seconds=seconds))
    codes = ", ".join(f"{code or 'success'}: {count}" for code, count in sorted(result.codes.items()))
    print(f"agent        {result.calls:8} calls; answers by code: {codes}; {len(result.violations)} findings")
    print("".join(f"    {each}\n" for each in result.violations[:20]), end="", flush=True)
    return 1 if result.violations else 0

"""Anything at all on the agent's CNI endpoint: bytes, JSON and variables, from nonsense to almost right.

Every call gets a valid CNI answer, the agent lives on, and in the end nothing is left: no file of a sandbox, no link,
no lock that is held, no descriptor, no thread. The calls follow a seed.
"""

from __future__ import annotations

import argparse
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

from tests.support.local_agent import LocalAgent, exchange

from spiderpool.api.cni import CNICall, frame_call
from spiderpool_lab import namespaces
from spiderpool_lab.cluster import CHART
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes

NODE = "fuzz-1"
PODS = 4
WORKERS = 4
LIMIT = 30.0
"""Seconds that any call may take."""
SETTLE = 20.0
"""Seconds within which what the calls have used must be free again."""
GROWTH = 64 << 20
"""Bytes by which the agent's memory may grow: buffers of the largest calls, not calls that are kept."""

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
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1 << 70, 1e300, "", "x", "0", "\0", "\u202e", "é" * 300, "../../etc", "10.0.0.0/8"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": [{}]}}, ["10.0.0.0/33"], "9.9.9", "0.1.0", "eth0", -(1 << 63)),
)
KEYS = ("cniVersion", "name", "type", "ipam", "prevResult", "runtimeConfig", "args", "capabilities", "dns", "x", "")
COMMANDS = ("ADD", "ADD", "DEL", "DEL", "CHECK", "GC", "STATUS", "VERSION", "add", "", "ADD\n", "🕷")


@dataclass(slots=True)
class Fuzzed:
    """What was asked and what was wrong with the answers."""

    calls: int = 0
    codes: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """An agent in a namespace of its own, and pods that it can attach."""

    agent: LocalAgent
    node: Path
    pods: dict[str, str]
    """UIDs by name."""
    sandboxes: dict[str, Path]
    """Namespaces by name."""

    def files(self) -> list[str]:
        """Names of the files that tell of sandboxes."""
        folders = (self.agent.socket.parent / name for name in ("sandboxes", "chained"))
        return [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]

    def links(self) -> list[str]:
        """Names of the node's links."""
        shown = namespaces.run_tool(["ip", "-n", self.node.name, "-json", "link"])
        return sorted(each["ifname"] for each in json.loads(shown))

    def usage(self) -> tuple[int, int, int]:
        """Descriptors, threads and bytes of memory of the agent."""
        process = Path(f"/proc/{self.agent.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        resident = int(status["VmRSS"].split()[0]) << 10
        return len(list((process / "fd").iterdir())), int(status["Threads"]), resident


def body(chance: random.Random, target: Target) -> bytes:
    """What a caller might send: a call that is right but for some changes, or something else altogether."""
    if chance.random() < 0.15:
        return chance.randbytes(chance.choice((0, 1, 2, 40, 3000)))
    plugin = chance.choice(tuple(CONFIGS))
    framed = frame_call(CNICall(plugin, _environment(chance, target), _stdin(chance, plugin)))
    match chance.random():
        case share if share < 0.05:
            return framed[: chance.randrange(len(framed))]
        case share if share < 0.10:
            return framed.replace(b"\0", chance.choice((b"", b"\0\0", b"=\0")), chance.randrange(1, 4))
        case share if share < 0.15:
            place = chance.randrange(len(framed))
            return framed[:place] + chance.randbytes(3) + framed[place + 1 :]
        case _:
            return framed


def _environment(chance: random.Random, target: Target) -> dict[str, str]:
    """The variables of a pod's call, most of the time; never a namespace that is not ours."""
    pod = chance.choice(tuple(target.pods))
    arguments = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_UID={target.pods[pod]}"
    strange = {
        "CNI_CONTAINERID": ("", ".", "-", "../x", "a/b", "c" * 5000, "é"),
        "CNI_NETNS": ("", "/no/such/place", "/proc/self/ns/net", "/dev/null", "/tmp", "/no/" + "x" * 5000, "relative"),
        "CNI_IFNAME": ("", "lo", "..", "eth 0", "a/b", "sixteen-letters-", "net1", "veth0"),
        "CNI_ARGS": ("", ";", "=", "a=b", "IgnoreUnknown=2;a=b", "K8S_POD_NAME=x", arguments + "=", "x" * 9000),
    }
    right = {
        "CNI_COMMAND": chance.choice(COMMANDS),
        "CNI_CONTAINERID": f"container{chance.randrange(3)}{pod}",
        "CNI_NETNS": str(target.sandboxes[pod]),
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": arguments,
        "CNI_PATH": "/no/such/folder",
    }
    for key, values in strange.items():
        if chance.random() < 0.12:
            right[key] = chance.choice(values)
    if chance.random() < 0.1:
        del right[chance.choice(tuple(right))]
    return right


def _stdin(chance: random.Random, plugin: str) -> bytes:
    config: Any = json.loads(json.dumps(CONFIGS[plugin]))
    if chance.random() < 0.5:
        listed = [
            {"containerID": f"container{number}fuzz-0", "ifname": "eth0"} for number in range(chance.randrange(3))
        ]
        config["cni.dev/valid-attachments"] = listed
    for _ in range(chance.choice((0, 0, 1, 2, 5))):
        config = _changed(chance, config)
    text = json.dumps(config, ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass")
    match chance.random():
        case share if share < 0.03:
            return b"[" * 50_000
        case share if share < 0.06:
            return text + chance.choice((b"}", b"\0", b"\xff", text))
        case share if share < 0.07:
            return text + b" " * (2 << 20)
        case _:
            return text


def _changed(chance: random.Random, value: Any) -> Any:
    """A document in which one place holds something else."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice((*value, chance.choice(KEYS)))
        return value | {key: _changed(chance, value.get(key))}
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        return [*value[:place], _changed(chance, value[place]), *value[place + 1 :]]
    return chance.choice(VALUES)


def fault(status: int, answer: bytes) -> str:
    """What is wrong with an answer: a result, nothing, or an error document, as the specification wants it."""
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


async def play(target: Target, *, seed: int, count: int | None = None, seconds: float = 0.0) -> Fuzzed:
    """So many calls, or calls for so long; several at a time. Afterwards all that is left is taken away and counted."""
    done, chance = Fuzzed(), random.Random(seed)
    await _call(target, done, frame_call(_deletion(target, "fuzz-0", "container0")))
    before = target.usage()
    deadline = time.monotonic() + seconds

    def wanted() -> bool:
        return done.calls < count if count is not None else time.monotonic() < deadline

    async def work() -> None:
        while wanted():
            await _call(target, done, body(chance, target))

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    await _close(target, done, before)
    return done


async def _call(target: Target, done: Fuzzed, content: bytes) -> None:
    done.calls += 1
    try:
        async with asyncio.timeout(LIMIT):
            status, answer = await exchange(target.agent.socket, content)
    except (OSError, TimeoutError) as error:
        done.wrong.append(f"no answer to {content[:300]!r}: {error!r}")
        return
    wrong = fault(status, answer)
    if wrong:
        done.wrong.append(f"{wrong} to {content[:1500]!r}")
    code = json.loads(answer).get("code", 0) if answer and not wrong else 0
    done.codes[code] = done.codes.get(code, 0) + 1


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
    """Containers and interfaces that the plugin coordinator has served, by whatever names the calls gave them."""
    for path in (target.agent.socket.parent / "chained").glob("*.json"):
        record = json.loads(path.read_bytes())
        yield from ((record["container_id"], each["name"]) for each in record["interfaces"])


async def _close(target: Target, done: Fuzzed, before: tuple[int, int, int]) -> None:
    """DEL of every container, which also shows that no lock is held; then GC; then nothing may be left."""
    for pod in target.pods:
        for number in range(3):
            await _call(target, done, frame_call(_deletion(target, pod, f"container{number}{pod}")))
    for container, name in list(_chained(target)):
        pod = next((pod for pod in target.pods if container.endswith(pod)), "fuzz-0")
        await _call(target, done, frame_call(_deletion(target, pod, container, "coordinator", name)))
    config = json.dumps(CONFIGS["spiderpool-attach"] | {"cni.dev/valid-attachments": []}).encode()
    await _call(target, done, frame_call(CNICall("spiderpool-attach", {"CNI_COMMAND": "GC"}, config)))
    if files := target.files():
        done.wrong.append(f"files of sandboxes are left: {files}")
    if (links := target.links()) != ["eth0", "lo", "port"]:
        done.wrong.append(f"links are left on the node: {links}")
    await _settled(target, done, before)


async def _settled(target: Target, done: Fuzzed, before: tuple[int, int, int]) -> None:
    deadline = time.monotonic() + SETTLE
    while True:
        descriptors, threads, memory = target.usage()
        if descriptors <= before[0] + WORKERS and threads <= before[1] + 1:  # connections to the API server are kept
            break
        if time.monotonic() > deadline:
            done.wrong.append(f"descriptors {before[0]} → {descriptors}, threads {before[1]} → {threads}")
            break
        await asyncio.sleep(0.1)
    if memory > before[2] + GROWTH:
        done.wrong.append(f"memory grew from {before[2] >> 20} to {memory >> 20} MiB")


@contextmanager
def target(plane: ControlPlane, processes: Processes, directory: Path) -> Iterator[Target]:
    """An agent in a namespace that holds an ENI and nothing else of this machine."""
    made: list[Path] = []

    def namespace(name: str) -> Path:
        path = namespaces.create(f"{directory.name}-{name}")
        made.append(path)
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
        for path in made:
            namespaces.delete(path)
        plane.kubectl("delete", "pods", *names, "--force", "--grace-period=0", "--wait=false", "--ignore-not-found")
        for kind in ("spiderippool/fuzz", "net-attach-def/fuzz", f"node/{NODE}"):
            plane.kubectl("delete", kind, "--ignore-not-found")
        plane.kubectl("delete", "spiderips", "--all")


def _agent(plane: ControlPlane, processes: Processes, directory: Path, node: Path) -> LocalAgent:
    server = plane.server.removeprefix("https://")
    words = ["--netns", node.name, "--listen", server, "--to", server]
    processes.start("fuzz-forward", [sys.executable, "-m", "spiderpool_lab.forward", *words])
    environment = {"MULTUS_CLUSTER_NETWORK": "default/fuzz", "SPIDERPOOL_LOG_LEVEL": "error"}
    kubeconfig = plane.service_account_kubeconfig("kube-system", "spiderpool-agent")
    agent = LocalAgent(kubeconfig, processes, directory, NODE, netns=node, environment=environment)
    agent.start()
    return agent


@contextmanager
def world() -> Iterator[Target]:
    """A control plane and a target on it."""
    with tempfile.TemporaryDirectory(prefix="spiderpool-fuzz-") as name:
        directory = Path(name)
        processes = Processes(directory / "processes")
        plane = ControlPlane(directory / "plane", processes)
        try:
            plane.start()
            plane.apply(*sorted(CHART.glob("crds/*.yaml")), *sorted(CHART.glob("templates/*-rbac.yaml")))
            plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
            with target(plane, processes, directory) as one:
                yield one
        finally:
            plane.stop()
            processes.stop_all()


def main() -> int:
    """Play for a minute, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"fuzzing the agent's CNI endpoint for {options.seconds:.0f} s, seed {options.seed}", flush=True)
    with world() as one:
        done = asyncio.run(play(one, seed=options.seed, seconds=options.seconds))
    codes = ", ".join(f"{code or 'success'}: {count}" for code, count in sorted(done.codes.items()))
    print(f"{done.calls} calls; answers by code: {codes}")
    print("\n".join(done.wrong[:20]) or "every answer was valid, nothing was left")
    return 1 if done.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""A node in namespaces of this machine on which pods are attached: NICs, a real agent, the reference plugins."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from spiderpool.api.core_v1 import Pod
from spiderpool.api.nad import STATUS_ANNOTATION
from spiderpool.api.spidernode import SpiderNode
from spiderpool.controller.network_status import NetworkStatusReconciler
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from spiderpool_lab import executable, namespaces
from spiderpool_lab.binaries import cni_plugins
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.agent.runtime import Container, Json, Runtime
from tests.kernel.environment import World
from tests.kernel.questions import ETH0, NET1
from tests.support.eventually import eventually, wait_until
from tests.support.local_agent import AgentOptions, LocalAgent

NODE = "n1"
PATIENCE = 10.0
BOTH = "enableIPv4: true\nenableIPv6: true"

SERVICES = ["10.233.0.0/18", "fd00:10::/108"]
COORDINATOR: Json = {
    "type": "coordinator",
    "mode": "auto",
    "serviceCIDR": SERVICES,
    "overlayPodCIDR": ["10.233.64.0/18"],
    "hijackCIDR": ["169.254.0.0/16", "fd00:20::/108"],
    "tunePodRoutes": True,
}
ATTACH: Json = {"cniVersion": "1.0.0", "name": "spiderpool", "plugins": [{"type": "spiderpool-attach"}]}
NEWEST: Json = ATTACH | {"cniVersion": "1.1.0"}

NETWORKS = "k8s.v1.cni.cncf.io/networks"
FIRST = "v1.multus-cni.io/default-network"


def ipam(*pools: str) -> Json:
    """An IPAM block that names pools, IPv4 before IPv6."""
    keys = ("default_ipv4_ippool", "default_ipv6_ippool")
    return {"type": "spiderpool"} | {key: [pool] for key, pool in zip(keys, pools, strict=False)}


def macvlan(master: str, *pools: str) -> Json:
    """The plugin macvlan; ours when the agent makes the network, else the reference one."""
    return {"type": "macvlan", "master": master, "mode": "bridge", "ipam": ipam(*pools)}


def network(name: str, *plugins: Json, version: str = "0.4.0") -> Json:
    """A network configuration list."""
    return {"cniVersion": version, "name": name, "plugins": list(plugins)}


class AttachingNode:
    """One node, its agent and its container runtime. What was made with it goes with :meth:`clear`."""

    def __init__(self, plane: ControlPlane, world: World, directory: Path) -> None:
        self.plane = plane
        self.world = world
        self.processes = Processes(directory / "processes")
        self._directory = directory
        bin_dir = directory / "bin"
        bin_dir.mkdir()
        for plugin in cni_plugins().iterdir():
            (bin_dir / plugin.name).symlink_to(plugin)
        self._bin_dir = bin_dir
        self._executable = executable.build(directory)
        self.connect()
        self.agent = self._made_agent({})
        self.runtime = Runtime(world.node, bin_dir, self.agent.socket)
        self.kept: set[str] = set()  # bridges of the reference plugin, which leaves them

    def _made_agent(self, environment: dict[str, str]) -> LocalAgent:
        return LocalAgent(
            self.plane,
            self.processes,
            self._directory,
            NODE,
            AgentOptions(BOTH, self._environment() | environment, self.world.node),
        )

    def _environment(self) -> dict[str, str]:
        return {
            "SPIDERPOOL_INSTALL_CNI": "true",
            "SPIDERPOOL_CNI_BIN_DIR": str(self._bin_dir),
            "SPIDERPOOL_CNI_CONF_DIR": str(self._directory / "net.d"),
            "SPIDERPOOL_CNI_EXECUTABLE": str(self._executable),
            "MULTUS_CLUSTER_NETWORK": "default/first",
            "SPIDERPOOL_LOG_LEVEL": "info",
        }

    def connect(self) -> None:
        """The API server listens on the machine's loopback: let it be found on the node's too."""
        server = self.plane.server.removeprefix("https://")
        words = ["--netns", self.world.node.name, "--listen", server, "--to", server]
        self.processes.start("forward", [sys.executable, "-m", "spiderpool_lab.forward", *words])

    def disconnect(self) -> None:
        """The node loses the API server."""
        self.processes.stop("forward")

    def start_again(self, **environment: str) -> None:
        """End the agent as a crash does, and start it, with additions to its environment."""
        self.agent.kill()
        self.agent = self._made_agent(environment)
        self.agent.start()

    def clear(self) -> None:
        """Take away whatever a test has left, and wait until all addresses are free."""
        self.runtime.collect(NEWEST, [])
        while left := [name for name in self.links(self.world.node) if name not in ("eth0", "eth1")]:
            self.world.ip(self.world.node, "link", "delete", left[0])
        wait_until(lambda: self.records() == {}, "release of all addresses", timeout=PATIENCE)

    def delete_pods(self) -> None:
        """Delete all pods at once; their sandboxes stay."""
        self.plane.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=true")

    def end_pods(self) -> set[str]:
        """Delete all pods, and clear; returns what was left of them before that."""
        self.delete_pods()
        left = {*self.files(), *self.host_side()} - self.kept
        self.clear()
        return left

    def stop(self) -> None:
        """End all processes."""
        self.processes.stop_all()

    def pool(self, name: str, subnet: str, ips: str, gateway: str = "", **more: Any) -> None:
        """Make a pool that is used where it is named."""
        spec: Json = {"subnet": subnet, "ips": [ips], "ipVersion": 6 if ":" in subnet else 4}
        spec |= more | ({"gateway": gateway} if gateway else {})
        self.plane.apply(json.dumps(_object("spiderpool.spidernet.io/v2beta1", "SpiderIPPool", name, spec=spec)))

    def network(self, name: str, *plugins: Json, version: str = "0.4.0", namespace: str = "default") -> None:
        """Make a NetworkAttachmentDefinition."""
        config = json.dumps(network(name, *plugins, version=version))
        kind = "NetworkAttachmentDefinition"
        made = _object("k8s.cni.cncf.io/v1", kind, name, spec={"config": config})
        made["metadata"]["namespace"] = namespace
        self.plane.apply(json.dumps(made))

    def pod(self, name: str, **annotations: Any) -> Container:
        """Make a pod of the node, by annotations ``first`` and ``networks``, and a sandbox for it."""
        keys = {"first": FIRST, "networks": NETWORKS}
        texts = {
            keys.get(key, key): each if isinstance(each, str) else json.dumps(each) for key, each in annotations.items()
        }
        spec = {"nodeName": NODE, "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "none"}]}
        pod = _object("v1", "Pod", name, spec=spec)
        pod["metadata"]["annotations"] = texts
        self.plane.kubectl("create", "-f", "-", input=json.dumps(pod))
        return self.sandbox(name)

    def sandbox(self, name: str, *, detections: int = 0) -> Container:
        """A new sandbox of a pod. Duplicates of its IPv6 addresses are looked for so many times, a second each."""
        uid = self.plane.kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid}")
        netns = self.world.pod(f"{name}{time.monotonic_ns() % 100000}")
        transmits = Path("/proc/sys/net/ipv6/conf/default/dad_transmits")
        namespaces.call_in(Path(netns), lambda: transmits.write_text(str(detections)))
        return Container(netns, name, uid)

    def at(self, netns: str, container: Container) -> Container:
        """The container with its namespace at a path where a former one was."""
        self.world.rename(container.netns, netns)
        return replace(container, netns=netns)

    def remove(self, container: Container) -> None:
        """The namespace of a sandbox goes before its interfaces are taken away."""
        self.world.remove(container.netns)

    def end(self, *names: str) -> None:
        """Remove pods at once."""
        self.plane.kubectl("delete", "pod", *names, "--force", "--grace-period=0", "--wait=true")

    def records(self) -> dict[str, str]:
        """The interface by address of all SpiderIPs."""
        items = json.loads(self.plane.kubectl("get", "spiderips", "-o", "json"))["items"]
        return {each["spec"]["address"].partition("/")[0]: each["spec"]["interface"] for each in items}

    def files(self) -> list[str]:
        """Names of the files that tell of sandboxes."""
        folders = (self.agent.socket.parent / folder for folder in ("sandboxes", "chained"))
        return [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]

    def links(self, netns: str | Path) -> list[str]:
        """Names of the links of a namespace, without the loopback."""
        shown = json.loads(self.world.ip(netns, "-json", "link"))
        return [each["ifname"] for each in shown if each["ifname"] != "lo"]

    def addresses(self, netns: str | Path, link: str) -> list[str]:
        """Addresses of a link that other machines can use."""
        shown = json.loads(self.world.ip(netns, "-json", "address", "show", "dev", link))
        return [each["local"] for one in shown for each in one.get("addr_info", ()) if each["scope"] == "global"]

    def defaults(self, netns: str | Path, version: int = 4) -> list[str]:
        """Links of the default routes in ``main``."""
        shown = json.loads(self.world.ip(netns, "-json", f"-{version}", "route", "show", "default") or "[]")
        return [each["dev"] for each in shown]

    def host_side(self) -> list[str]:
        """What the node holds of pods: links beyond its own, and routes of table 500."""
        links = [name for name in self.links(self.world.node) if name not in ("eth0", "eth1")]
        shown = [self.world.inside(self.world.node, "ip", f"-{v}", "route", "show", "table", "all") for v in (4, 6)]
        return links + [line for text in shown for line in text.splitlines() if "table 500" in line]

    def status(self, pod: str) -> list[Json]:
        """A pod's network-status, as the controller writes it with its rights."""
        kubeconfig = self.plane.service_account_kubeconfig("kube-system", "spiderpool-controller")
        found: list[Json] = json.loads(asyncio.run(_status_written(kubeconfig, pod)))
        return found


def _object(version: str, kind: str, name: str, **more: Any) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


async def _status_written(kubeconfig: Path, pod: str) -> str:
    try:
        return await _status(kubeconfig, pod)
    finally:
        await asyncio.sleep(0.1)  # connections with TLS are closed a moment after their client


async def _status(kubeconfig: Path, pod: str) -> str:
    async with Client.load(kubeconfig) as client:
        accounts, pods = Informer(client, SpiderNode), Informer(client, Pod)
        reconciler = NetworkStatusReconciler(client, accounts, pods)
        tasks = [asyncio.create_task(each.run()) for each in (accounts, pods, reconciler)]

        async def written() -> str | None:
            return ((await client.get(Pod, pod, "default")).metadata.annotations or {}).get(STATUS_ANNOTATION)

        try:
            return await eventually(written, f"network-status of {pod}", timeout=PATIENCE) or ""
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def attaching_node(plane: ControlPlane, directory: Path) -> Iterator[AttachingNode]:
    """A node with NICs eth0 and eth1, a pool of one address for each family of both, and the network
    ``first`` that the agent makes itself.
    """
    world = World()
    node: AttachingNode | None = None
    try:
        world.build()
        world.widen()
        node = AttachingNode(plane, world, directory)
        for nic, nets in (("eth0", ETH0), ("eth1", NET1)):
            for version, net in nets.items():
                subnet = {("eth0", 4): "172.31.192.0/20", ("eth1", 4): "192.168.0.0/24"}.get((nic, version))
                subnet = subnet or net.router.replace("::253", "::/64")
                node.pool(f"{nic}-v{version}", subnet, net.pod, net.router)
        plane.apply(json.dumps(_object("v1", "Node", NODE)))  # pods of a Node that does not exist are removed
        node.network("first", macvlan("eth0", "eth0-v4", "eth0-v6"), COORDINATOR)
        node.agent.start()
        yield node
    finally:
        if node is not None:
            node.stop()
        world.destroy()
        plane.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
        plane.kubectl("delete", "spiderippools,spiderips,net-attach-def,nodes", "--all")

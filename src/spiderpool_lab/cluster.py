"""A whole cluster on one machine: control plane, our controller, the cloud's network, nodes with our agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import yaml

from spiderpool.errors import IOFailure, NotReady
from spiderpool_lab import binaries, cloud, executable, internet, namespaces, probes, reservations
from spiderpool_lab.cloud import LabCloud
from spiderpool_lab.control_plane import NODE_HOST, NODE_PORT, NODE_SERVER, ControlPlane
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.machines import Machines
from spiderpool_lab.node import ClusterServices
from spiderpool_lab.ports import free_ports
from spiderpool_lab.probes import Answer, TrafficProbe
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import WALKTHROUGH, Topology

SOURCE_TREE = Path(__file__).parents[2]
CHART = SOURCE_TREE / "charts" / "spiderpool"
OUR_NAMESPACE = "kube-system"
DEFAULT_NETWORK = f"{OUR_NAMESPACE}/ipvlan-eth0"
CONTROLLER, FORWARDER, CLOUD = "spiderpool-controller", "forwarder", "spiderpool-cloud"
EXAMPLE = SOURCE_TREE / "examples" / "alibaba-cloud"
SETTINGS = EXAMPLE / "settings.yaml"
"""The ConfigMap whose settings agents, controller and spiderpool-cloud have."""
CLOUD_PERIOD = "5"
"""Seconds between two looks of spiderpool-cloud at servers and ENIs."""
POLL = 0.3
"""Seconds between two looks at what is waited for: a look by kubectl costs what is waited for a part of the machine."""
DISCOVERY_INTERVAL = "10"
"""Seconds between two readings of a server's ENIs."""

Say = Callable[[str], None]


def state_directory(name: str) -> Path:
    """Where the lab of a name keeps its files (XDG base directory specification)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "spiderpool" / "lab" / name


def _quiet(_: str) -> None:
    return None


class LabCluster:
    """One lab. With ``detached`` it outlives the process that starts it; :meth:`down` takes it away entirely.

    With ``discovery`` pools and networks are made from what the servers' ENIs have, and nodes wait for the cloud; else
    somebody writes them, and the servers' identities. ``spare`` free addresses are kept on every ENI; 0: none are.
    An object made for the name of a running lab can use it and take it down.
    """

    def __init__(
        self,
        name: str,
        *,
        topology: Topology = WALKTHROUGH,
        detached: bool = False,
        discovery: bool = False,
        spare: int = 0,
        say: Say = _quiet,
    ) -> None:
        self.name = name
        self.discovery = discovery
        self.spare = spare
        self.directory = state_directory(name)
        self.say = say
        self.processes = Processes(self.directory / "processes", detached=detached)
        self.plane = ControlPlane(self.directory / "control-plane", self.processes, dual_stack=True)
        self.fabric = Fabric(topology, name, directory=self.directory)
        self.cloud = LabCloud(self.fabric, self.processes, self.directory / "cloud")
        self.machines = Machines(self.fabric, self.processes, self.directory / "nodes")
        self._health: dict[str, int] = {}

    @property
    def is_up(self) -> bool:
        """Whether a lab of this name has left processes, running or killed."""
        return bool(self.processes.names())

    def up(self, *, agent_env: dict[str, str] | None = None) -> None:
        """Bring everything up and wait until all nodes are Ready. What a killed run left is removed first.

        Raises BadConfig with the remedy if a lab of this name is up: it stays as it is.
        """
        self.reserve()
        self._clear()
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start(agent_env or {})
        except BaseException as error:
            if isinstance(error, Exception):
                self.keep_logs()
            self.down()
            raise

    @property
    def logs(self) -> dict[str, Path]:
        """What every process has printed, by file name without its suffix: of a node's with the node before it."""
        files = [*self.directory.glob("processes/*.log"), *self.directory.glob("nodes/*/*.log")]
        return {f"{file.parent.name}-{file.stem}".removeprefix("processes-"): file for file in sorted(files)}

    def keep_logs(self) -> None:
        """To be called before :meth:`down` after a failure: the logs of this time take the place of any earlier."""
        kept = self.directory.parent.with_name("failed") / self.name
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for name, file in self.logs.items():
            shutil.copyfile(file, kept / f"{name}.log")
        self.say(f"logs are kept in {kept}")

    def reserve(self) -> None:
        """Reserve the lab's name on this machine. Raises BadConfig with the remedy if a lab of that name is up."""
        self.fabric.reserve()

    def down(self) -> None:
        """Take everything down; nothing happens if nothing is up.

        Raises BadConfig if the lab of this name that is up has another state folder: it stays as it is.
        """
        self.fabric.check_ours()
        self._clear()
        reservations.release_ports(self.processes.directory)
        self.fabric.down()

    def _clear(self) -> None:
        """End every process of the lab and remove its namespaces and files."""
        self.machines.stop()
        self.processes.stop(FORWARDER)
        self.processes.stop(CONTROLLER)
        self.processes.stop(CLOUD)
        self.processes.stop(internet.NAME)
        self.cloud.stop()
        self.plane.stop()
        self.processes.stop_all()
        self.fabric.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    def objects(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Objects as the API server shows them, by kubectl."""
        listed: list[dict[str, Any]] = json.loads(self.plane.kubectl("get", kind, "-o", "json", *arguments))["items"]
        return listed

    def probe(self, place: str, asked: Sequence[TrafficProbe]) -> list[Answer]:
        """Ask probes from a node or its pods, or from the internet."""
        if place != internet.NAME:
            return self.machines.client(place).probe(asked)
        netns = namespaces.path(self.fabric.internet)
        return asyncio.run(probes.run_all([(probe, netns) for probe in asked]))

    def wait_for(self, what: str, condition: Callable[[], object], timeout: float) -> None:
        """Poll a condition. Raises NotReady naming ``what`` after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise NotReady(f"{what}: not within {timeout:.0f} s")
            time.sleep(POLL)

    def start_controller(self) -> None:
        """Start our controller on loopback, under its own service account, without waiting."""
        (webhook,) = free_ports(1, self.processes.directory)
        environment = {
            "SPIDERPOOL_WEBHOOK_HOST": "127.0.0.1",
            "SPIDERPOOL_WEBHOOK_PORT": str(webhook),
            "SPIDERPOOL_WEBHOOK_URL": f"https://127.0.0.1:{webhook}",
            "SPIDERPOOL_GC_INTERVAL_SECONDS": "2",
        }
        self._start_daemon(CONTROLLER, "spiderpool.controller.main", environment)

    def start_cloud_controller(self) -> None:
        """Start spiderpool-cloud, under its own service account, without waiting.

        The cloud must serve. It has keys as a server has those of its role: nothing secret is handed to it here.
        """
        environment = {
            "CLOUD_PROVIDER": "alibaba",  # also where agents and controller are to know of none
            "SPIDERPOOL_CLOUD_NODE_PERIOD_SECONDS": CLOUD_PERIOD,
            "SPIDERPOOL_CLOUD_ADDRESS_PERIOD_SECONDS": CLOUD_PERIOD,
        }
        self._start_daemon(CLOUD, "spiderpool.cloudcontroller.main", environment | self.cloud.access())

    def _start_daemon(self, name: str, module: str, more: dict[str, str]) -> None:
        """One of our daemons on the host, with the rights of its service account."""
        (health,) = free_ports(1, self.processes.directory)
        environment = {
            "KUBECONFIG": str(self.plane.service_account_kubeconfig(OUR_NAMESPACE, name)),
            "SPIDERPOOL_POD_NAMESPACE": OUR_NAMESPACE,
            "SPIDERPOOL_POD_NAME": f"{name}-{self.name}",  # one that is started again takes back its own Lease
            "SPIDERPOOL_CONFIG": str(self._configuration),
            "SPIDERPOOL_HEALTH_PORT": str(health),
        }
        self.processes.start(name, [sys.executable, "-m", module], env=environment | more)
        self._health[name] = health

    def _start(self, agent_env: dict[str, str]) -> None:
        self.say("the cloud's network: two vSwitches that drop what is not registered")
        self.fabric.up()
        self._start_internet()
        self.say("the cloud: metadata service, API, load balancers")
        self.cloud.start(self._features)
        self.say("control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler")
        self.plane.start()
        self.plane.apply(*sorted(CHART.glob("crds/*.yaml")), *sorted(CHART.glob("templates/*-rbac.yaml")))
        self.say("spiderpool-controller, spiderpool-cloud")
        self._configuration.write_text(yaml.safe_dump(self._settings()))
        self.start_controller()
        self.wait_for("the cloud serves", lambda: self.cloud.is_ready, 30)
        self.start_cloud_controller()
        self._start_forwarder()
        nodes = ", ".join(node.name for node in self.fabric.topology.nodes)
        self.say(f"nodes {nodes} ({self.fabric.backend.value}): spiderpool-agent, kube-proxy, kubelet stand-in")
        self.machines.services = self._services(agent_env)
        self.machines.start()
        for daemon in self._health:
            self.wait_for(f"{daemon} is ready", partial(self._is_ready, daemon), 60)
        self.say("waiting until the nodes are Ready")
        self.wait_for("nodes are Ready", self._nodes_are_ready, 90)

    @property
    def _features(self) -> list[str]:
        """What spiderpool-cloud does for the cluster, as its policies name it."""
        return ["nodes", "balancers", *(["addresses"] if self.spare else [])]

    def _settings(self) -> dict[str, Any]:
        """Those of the walkthrough, with what this lab has of its own."""
        settings: dict[str, Any] = yaml.safe_load(yaml.safe_load(SETTINGS.read_text())["data"]["conf.yml"])
        settings["cloud"]["clusterID"] = self.name
        settings["cloud"]["loadBalancers"]["vpcID"] = cloud.LAB_VPC.identity
        if not self.discovery:
            del settings["cloud"]["provider"]
        if self.spare:
            limits = {"minFreeAddresses": self.spare, "maxFreeAddresses": 2 * self.spare}
            settings["cloud"]["alibaba"] = {"assign": True, **limits}
        return settings

    @property
    def _configuration(self) -> Path:
        return self.directory / "conf.yml"

    def _start_internet(self) -> None:
        command = [sys.executable, "-m", "spiderpool_lab.internet", "--netns", self.fabric.internet]
        self.processes.start(internet.NAME, command)

    def _start_forwarder(self) -> None:
        listen, to = f"{NODE_HOST}:{NODE_PORT}", self.plane.server.removeprefix("https://")
        arguments = ["--netns", self.fabric.management, "--listen", listen, "--to", to]
        self.processes.start(FORWARDER, [sys.executable, "-m", "spiderpool_lab.forward", *arguments])

    def _services(self, agent_env: dict[str, str]) -> dict[str, ClusterServices]:
        agent = self.plane.service_account_kubeconfig(OUR_NAMESPACE, "spiderpool-agent", server=NODE_SERVER)
        proxy = self.plane.kubeconfig("system:kube-proxy", server=NODE_SERVER)
        shim = executable.build(self.directory)
        environment = {
            "SPIDERPOOL_CONFIG": str(self._configuration),
            "SPIDERPOOL_CNI_EXECUTABLE": str(shim),
            "SPIDERPOOL_TUNE_NODE": "true",
            "SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS": DISCOVERY_INTERVAL,
            "MULTUS_CLUSTER_NETWORK": DEFAULT_NETWORK,
        }
        return {
            node.name: ClusterServices(
                kubelet_kubeconfig=str(
                    self.plane.kubeconfig(f"system:node:{node.name}", ["system:nodes"], server=NODE_SERVER)
                ),
                proxy_kubeconfig=str(proxy),
                kube_proxy=str(binaries.find("kube-proxy")),
                agent_kubeconfig=str(agent),
                external_cloud=self.discovery,
                agent_env=environment | agent_env,
            )
            for node in self.fabric.topology.nodes
        }

    def _is_ready(self, daemon: str) -> bool:
        if self.processes.pid(daemon) is None:
            raise IOFailure(f"{daemon} has ended: {self.processes.log(daemon).read_text()[-2000:]}")
        connection = HTTPConnection("127.0.0.1", self._health[daemon], timeout=2)
        try:
            connection.request("GET", "/v1/runtime/readiness")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _nodes_are_ready(self) -> bool:
        ready = [node for node in self.objects("nodes") if _has_condition(node, "Ready") and not _taints(node)]
        return len(ready) == len(self.fabric.topology.nodes)


@contextlib.contextmanager
def temporary(name: str, *, agent_env: dict[str, str] | None = None, **options: Any) -> Iterator[LabCluster]:
    """A cluster that is down again when the context ends."""
    cluster = LabCluster(name, **options)
    cluster.up(agent_env=agent_env)
    try:
        yield cluster
    finally:
        cluster.down()


def _has_condition(obj: dict[str, Any], kind: str) -> bool:
    conditions = obj.get("status", {}).get("conditions", [])
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)


def _taints(node: dict[str, Any]) -> list[Any]:
    taints: list[Any] = node["spec"].get("taints", [])
    return taints

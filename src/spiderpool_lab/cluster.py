"""A whole cluster on one machine: control plane, the cloud and its network, nodes, and our daemons on all of them."""

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

import msgspec
import yaml

from spiderpool.errors import BadConfig, IOFailure, NotReady, SpiderpoolError
from spiderpool_lab import (
    binaries,
    chart,
    chart_release,
    cloud,
    cni_calls,
    executable,
    frames,
    images,
    internet,
    namespaces,
    node_disk,
    probes,
    reservations,
)
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.chart_release import GC_INTERVAL, ChartRelease, EarlierVersion, lab_values
from spiderpool_lab.cloud import LabCloud
from spiderpool_lab.container_runtime import ContainerRuntime
from spiderpool_lab.control_plane import NODE_HOST, NODE_PORT, NODE_SERVER, ControlPlane
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.frames import DroppedFrame
from spiderpool_lab.machines import Machines, NodeHardware
from spiderpool_lab.node import ClusterServices, ProxyMode, RealKubelet
from spiderpool_lab.ports import free_ports
from spiderpool_lab.probes import Answer, TrafficProbe
from spiderpool_lab.processes import Processes
from spiderpool_lab.product import images as product_images
from spiderpool_lab.stand_in import StandIn
from spiderpool_lab.topology import WALKTHROUGH, NodeKind, Topology

SOURCE_TREE = Path(__file__).parents[2]
OUR_NAMESPACE = "kube-system"
_AGENT = (OUR_NAMESPACE, "spiderpool-agent", NODE_SERVER)
"""The service account of agents, and the server by which they reach the API server."""
DEFAULT_NETWORK = f"{OUR_NAMESPACE}/ipvlan-eth0"
CONTROLLER, CLOUD = "spiderpool-controller", "spiderpool-cloud"
FORWARDER, CLOUD_FORWARDER = "forwarder", "cloud-forwarder"
CLOUD_PORT = 8443
"""Port by which nodes reach the cloud's API, which listens on the machine's loopback only."""
EXAMPLE = SOURCE_TREE / "examples" / "alibaba-cloud"
COREDNS = Path(__file__).with_name("coredns.yaml")
SETTINGS = EXAMPLE / "settings.yaml"
"""The ConfigMap with the settings of agents, controller and spiderpool-cloud."""
CLOUD_PERIOD = "5"
"""Seconds between two reconciliations of servers and ENIs by spiderpool-cloud."""
POLL_INTERVAL = 0.3
"""Seconds between two evaluations of a condition. Most run kubectl, which takes CPU from what we wait for."""
DISCOVERY_INTERVAL = "10"
"""Seconds between two reads of a server's ENIs by its agent."""
ERROR_TAIL = 2000
"""Characters of a log that an error quotes."""

READY_TIMEOUT = {NodeKind.REAL: 300, NodeKind.FAST: 90}
"""Seconds until all nodes are Ready. On a busy machine the import of an image takes half a second for each megabyte."""
_KUBELETS = {NodeKind.REAL: "kubelet, containerd", NodeKind.FAST: "kubelet stand-in"}

Progress = Callable[[str], None]
"""Called with a sentence at each step."""


def state_directory(name: str) -> Path:
    """The folder with the files of a lab (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "spiderpool" / "lab" / name


class LabOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a lab is brought up.

    With ``detached`` it outlives the process that starts it. With ``discovery`` pools and networks are made from what
    the servers' ENIs have, and Nodes wait for spiderpool-cloud; without, both have to be written, and the providerIDs.
    ``spare`` free addresses are kept on every ENI; with 0 spiderpool-cloud assigns none. Real nodes
    have the ``images`` of these names. ``stand_in`` are the times of the stand-in
    of fast ones. With ``recorded`` every node records its CNI calls (:mod:`spiderpool_lab.cni_calls`).
    With ``by_chart``, on real nodes, the product is installed there by its chart (:mod:`spiderpool_lab.chart_release`);
    else its daemons are processes of the machine and of the nodes, which tests can end and restart. With ``earlier``
    that version is installed first, and nodes have its images too. ``values`` of the chart, and after them ``sets``
    (``key=value``), change what the lab sets; without ``by_chart`` as far as they are settings in conf.yml.
    With ``startup_taint`` nodes are registered with the taint that the controller removes; not with ``earlier``, whose
    controller may know none.
    """

    topology: Topology = WALKTHROUGH
    detached: bool = False
    discovery: bool = False
    spare: int = 0
    proxy_mode: ProxyMode = "iptables"
    nodes: NodeKind = NodeKind.FAST
    hardware: NodeHardware = NodeHardware(memory="2G")
    images: tuple[str, ...] = images.DEMO
    stand_in: StandIn = StandIn()
    recorded: bool = False
    by_chart: bool = False
    earlier: EarlierVersion | None = None
    values: dict[str, Any] = {}
    sets: tuple[str, ...] = ()
    startup_taint: bool = False


def _no_progress(_: str) -> None:
    return None


class LabCluster:
    """One lab. An object made for the name of a running lab can use it and take it down."""

    def __init__(self, name: str, options: LabOptions | None = None, *, progress: Progress = _no_progress) -> None:
        options = options or LabOptions()
        if options.startup_taint and options.earlier:
            raise BadConfig("startup_taint: the controller of an earlier version may not remove it, so leave one out")
        self.name = name
        self.discovery = options.discovery
        self.spare = options.spare
        self.proxy_mode = options.proxy_mode
        self.nodes = options.nodes
        self.images = options.images
        self._options = options
        self.directory = state_directory(name)
        self.progress = progress
        self.processes = Processes(self.directory / "processes", detached=options.detached)
        self.fabric = Fabric(options.topology, name, backend=_backend(options.nodes), directory=self.directory)
        server = options.topology.control_plane
        self.plane = ControlPlane(
            self.directory / "control-plane",
            self.processes,
            dual_stack=True,
            netns=self.fabric.management,
            address=server.enis[0].address if server else NODE_HOST,
        )
        self.plane.audit = True
        self.release = ChartRelease(self.plane, self.processes, self.directory / "release")
        self.release.sets = chart_release.sets(options.values, options.sets)
        self.cloud = LabCloud(self.fabric, self.processes, self.directory / "cloud")
        self.machines = Machines(self.fabric, self.processes, self.directory / "nodes", hardware=options.hardware)
        self.health_ports: dict[str, int] = {}
        """Daemon of the machine → port of loopback with its probes and metrics."""

    def check_values(self) -> None:
        """Raise BadConfig where the chart refuses the values of the lab's user; nothing is made for that."""
        self._chosen_settings()

    @property
    def is_up(self) -> bool:
        """Whether processes of a lab of this name are recorded, running or killed."""
        return bool(self.processes.names())

    def up(self, *, agent_env: dict[str, str] | None = None) -> None:
        """Bring everything up and wait until all nodes are Ready. What a killed run left is removed first.

        Raises BadConfig with the remedy if a lab of this name is up: it stays as it is.
        """
        self.prepare()
        try:
            self._start(agent_env or {})
        except BaseException as error:
            if isinstance(error, Exception):
                self.keep_logs()
            self.down()
            raise

    @property
    def logs(self) -> dict[str, Path]:
        """The log of every process, by name; a node's processes are named ``<node>-<process>``."""
        files = [*self.directory.glob("processes/*.log"), *self.directory.glob("nodes/*/*.log")]
        return {f"{file.parent.name}-{file.stem}".removeprefix("processes-"): file for file in sorted(files)}

    def keep_logs(self) -> None:
        """Copy the logs to where :meth:`down` leaves them, in place of those of an earlier failure."""
        target = self.directory.parent.with_name("failed") / self.name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name, file in self.logs.items():
            shutil.copyfile(file, target / f"{name}.log")
        if self._options.by_chart:
            with contextlib.suppress(SpiderpoolError):  # the API server may be what does not work
                (target / "daemons.log").write_text(self.release.logs())
        self.progress(f"logs are kept in {target}")

    def reserve(self) -> None:
        """Reserve the lab's name on this machine. Raises BadConfig with the remedy if a lab of that name is up."""
        self.fabric.reserve()

    def prepare(self) -> None:
        """Reserve the name as `reserve` does, remove what a killed run left, and create the state folder."""
        self.reserve()
        self._clear()
        self.directory.mkdir(parents=True, exist_ok=True)

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
        self.processes.stop(CLOUD_FORWARDER)
        self.processes.stop(CONTROLLER)
        self.processes.stop(CLOUD)
        self.processes.stop(internet.NAME)
        self.processes.stop(frames.NAME)
        self.cloud.stop()
        self.plane.stop()
        self.processes.stop_all()
        self.fabric.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    def objects(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Objects as the API server shows them, by kubectl."""
        listed: list[dict[str, Any]] = json.loads(self.plane.kubectl("get", kind, "-o", "json", *arguments))["items"]
        return listed

    def probe(self, place: str, traffic: Sequence[TrafficProbe]) -> list[Answer]:
        """Send probes from a node or its pods, or from the internet; answers in the order of the probes."""
        if place != internet.NAME:
            return self.machines.client(place).probe(traffic)
        netns = namespaces.path(self.fabric.internet)
        return asyncio.run(probes.run_all([(probe, netns) for probe in traffic]))

    def wait_for(self, what: str, condition: Callable[[], object], timeout: float) -> None:
        """Poll a condition. Raises NotReady naming ``what`` after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise NotReady(f"{what}: not within {timeout:.0f} s")
            time.sleep(POLL_INTERVAL)

    def install(self, *arguments: str, version: EarlierVersion | None = None) -> None:
        """Install the product by its chart, and wait until its pods are ready. ``arguments`` are of helm."""
        self.wait_for("the cloud serves", lambda: self.cloud.is_ready, 30)
        for node in self.fabric.topology.nodes:
            self._wait_until_registered(node.name)
        authority = self.cloud.config.authority.read_bytes()
        self.release.install(self._chosen_values(), authority, self.progress, *arguments, version=version)
        self.progress("waiting until its pods are ready")
        self.release.wait()

    def start_controller(self, **variables: str) -> None:
        """Start our controller on loopback, under its own service account, without waiting.

        ``variables`` are added to its environment.
        """
        (webhook,) = free_ports(1, self.processes.directory)
        url = f"https://127.0.0.1:{webhook}"
        self.plane.admit_webhook_url(url)
        environment = {
            "SPIDERPOOL_WEBHOOK_HOST": "127.0.0.1",
            "SPIDERPOOL_WEBHOOK_PORT": str(webhook),
            "SPIDERPOOL_WEBHOOK_URL": url,
            "SPIDERPOOL_GC_INTERVAL_SECONDS": GC_INTERVAL,
            "SPIDERPOOL_REMOVE_STARTUP_TAINT": str(self._options.startup_taint).lower(),
        }
        self._start_daemon(CONTROLLER, "spiderpool.controller.main", environment | variables)

    def start_cloud_controller(self) -> None:
        """Start spiderpool-cloud, under its own service account, without waiting.

        The cloud must serve. The daemon gets its keys from a metadata service, as on a server with a role.
        """
        environment = {
            "CLOUD_PROVIDER": "alibaba",  # also without discovery, where the settings name no provider
            "SPIDERPOOL_CLOUD_NODE_PERIOD_SECONDS": CLOUD_PERIOD,
            "SPIDERPOOL_CLOUD_ADDRESS_PERIOD_SECONDS": CLOUD_PERIOD,
        }
        self._start_daemon(CLOUD, "spiderpool.cloudcontroller.main", environment | self.cloud.access())

    def _start_daemon(self, name: str, module: str, extra_environment: dict[str, str]) -> None:
        """Start one of our daemons on this machine, with the rights of its service account."""
        health = self.health_ports.get(name) or free_ports(1, self.processes.directory)[0]
        environment = {
            "KUBECONFIG": str(self.plane.service_account_kubeconfig(OUR_NAMESPACE, name)),
            "SPIDERPOOL_POD_NAMESPACE": OUR_NAMESPACE,
            "SPIDERPOOL_POD_NAME": f"{name}-{self.name}",  # keeps its Lease over a restart
            "SPIDERPOOL_CONFIG": str(self._configuration),
            "SPIDERPOOL_HEALTH_PORT": str(health),
        }
        self.processes.start(name, [sys.executable, "-m", module], env=environment | extra_environment)
        self.health_ports[name] = health

    def _start(self, agent_env: dict[str, str]) -> None:
        self.progress("the cloud's network: two vSwitches that drop what is not registered")
        self.fabric.up()
        self._start_recorder()
        self._start_internet()
        self.progress("the cloud: metadata service, API, load balancers")
        self.cloud.start(self._features, servers_have_role=self._options.by_chart)
        self.progress("control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler")
        self.plane.start()
        if self.nodes is NodeKind.REAL:
            self.plane.apply(COREDNS)
        self._start_forwarders()
        if self._options.by_chart:
            self._start_nodes(agent_env)
            self.install(version=self._options.earlier)
        else:
            self.plane.apply(*chart.definitions(), *chart.requirements())
            self._start_controllers()
            self._start_nodes(agent_env)
            self._admit_agents()
            for daemon in self.health_ports:
                self.wait_for(f"{daemon} is ready", partial(self._is_ready, daemon), 60)
        self.progress("waiting until the nodes are Ready")
        self.wait_for("nodes are Ready", self._nodes_are_ready, READY_TIMEOUT[self.nodes])

    def _start_controllers(self) -> None:
        self.progress("spiderpool-controller, spiderpool-cloud")
        self._configuration.write_text(yaml.safe_dump(self._chosen_settings()))
        self.start_controller()
        self.wait_for("the cloud serves", lambda: self.cloud.is_ready, 30)
        self.start_cloud_controller()

    def _start_nodes(self, agent_env: dict[str, str]) -> None:
        nodes = ", ".join(node.name for node in self.fabric.topology.nodes)
        agent = "" if self._options.by_chart else "spiderpool-agent, "
        self.progress(f"nodes {nodes} ({self.fabric.backend.value}): {agent}kube-proxy, {_KUBELETS[self.nodes]}")
        self.machines.services = self._services(agent_env)
        self.machines.start()

    def _values(self) -> dict[str, Any]:
        """The chart's values for what `_settings` has."""
        described = {**self._settings()["cloud"], "discovery": self.discovery}
        periods = {
            "SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS": DISCOVERY_INTERVAL,
            "SPIDERPOOL_CLOUD_NODE_PERIOD_SECONDS": CLOUD_PERIOD,
            "SPIDERPOOL_CLOUD_ADDRESS_PERIOD_SECONDS": CLOUD_PERIOD,
        }
        values = lab_values(described, f"https://{NODE_HOST}:{CLOUD_PORT}", periods)
        if self._options.startup_taint:
            values["spiderpoolController"]["removeStartupTaint"] = True
        return values

    def _chosen_values(self) -> dict[str, Any]:
        """The chart's values, with those of the lab's user."""
        return chart.merged(self._values(), self._options.values)

    def _chosen_settings(self) -> dict[str, Any]:
        """The settings of daemons that are processes. Raises BadConfig where the chart refuses the user's values."""
        if not (self._options.values or self._options.sets):
            return self._settings()
        return chart.settings(self._chosen_values(), self.release.sets)

    @property
    def _features(self) -> list[str]:
        """The features of spiderpool-cloud that the cluster uses, as its RAM policies name them."""
        return ["nodes", "balancers", *(["addresses"] if self.spare else [])]

    def _settings(self) -> dict[str, Any]:
        """The settings of the walkthrough, changed to this lab's options."""
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

    def dropped_frames(self) -> list[DroppedFrame]:
        """The last frames that the cloud dropped, oldest first; known milliseconds after they are counted."""
        return frames.read(self._dropped)

    @property
    def _dropped(self) -> Path:
        return self.directory / "dropped-frames.json"

    def _start_recorder(self) -> None:
        arguments = ["--netns", self.fabric.vpc, "--file", str(self._dropped)]
        self.processes.start(frames.NAME, [sys.executable, "-m", "spiderpool_lab.frames", *arguments])

    def _start_internet(self) -> None:
        command = [sys.executable, "-m", "spiderpool_lab.internet", "--netns", self.fabric.internet]
        self.processes.start(internet.NAME, command)

    def _start_forwarders(self) -> None:
        """Let nodes reach the API server and the cloud's API."""
        self._start_forwarder(FORWARDER, NODE_PORT, self.plane.server.removeprefix("https://"))
        self._start_forwarder(CLOUD_FORWARDER, CLOUD_PORT, f"127.0.0.1:{self.cloud.config.openapi_port}")

    def _start_forwarder(self, name: str, port: int, to: str) -> None:
        arguments = ["--netns", self.fabric.management, "--listen", f"0.0.0.0:{port}", "--to", to]
        self.processes.start(name, [sys.executable, "-m", "spiderpool_lab.forward", *arguments])

    def _services(self, agent_env: dict[str, str]) -> dict[str, ClusterServices]:
        proxy = self.plane.kubeconfig("system:kube-proxy", server=NODE_SERVER)
        shim = executable.build(self.directory)
        if self._options.recorded:
            shim = executable.build_recorder(shim, cni_calls.RECORDS)
        real = self._real_kubelet() if self.nodes is NodeKind.REAL else None
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
                agent_kubeconfig=(
                    None if self._options.by_chart else str(self.plane.service_account_file(*_AGENT, node.name))
                ),
                external_cloud=self.discovery,
                startup_taint=self._options.startup_taint,
                proxy_mode=self.proxy_mode,
                real=real,
                stand_in=self._options.stand_in,
                agent_env=environment | agent_env,
            )
            for node in self.fabric.topology.nodes
        }

    def _admit_agents(self) -> None:
        """Give the agent of each node its token as soon as there is the Node."""
        for node in self.fabric.topology.nodes:
            self._wait_until_registered(node.name)
            self.plane.service_account_kubeconfig(*_AGENT, node=node.name)

    def _wait_until_registered(self, node: str) -> None:
        self.wait_for(f"node {node} is registered", partial(self._is_registered, node), READY_TIMEOUT[self.nodes])

    def _is_registered(self, node: str) -> bool:
        return any(each["metadata"]["name"] == node for each in self.objects("nodes"))

    def _real_kubelet(self) -> RealKubelet:
        return RealKubelet(
            kubelet=str(binaries.find("kubelet")),
            client_ca=str(self.plane.authority),
            disk=str(node_disk.prepare(self._archives())),
            runtime=ContainerRuntime(str(binaries.find("containerd")), str(binaries.find("containerd-shim-runc-v2"))),
        )

    def _archives(self) -> list[Path]:
        """The archives of all images that the nodes need."""
        earlier = self._options.earlier.archives if self._options.earlier else ()
        ours = product_images.archives() if self._options.by_chart else ()
        return [*images.archives(self.images), *ours, *earlier]

    def _is_ready(self, daemon: str) -> bool:
        if self.processes.pid(daemon) is None:
            raise IOFailure(f"{daemon} has ended: {self.processes.log(daemon).read_text()[-ERROR_TAIL:]}")
        connection = HTTPConnection("127.0.0.1", self.health_ports[daemon], timeout=2)
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
def temporary(
    name: str, options: LabOptions | None = None, *, agent_env: dict[str, str] | None = None
) -> Iterator[LabCluster]:
    """A cluster that is up while the context lasts."""
    cluster = LabCluster(name, options)
    cluster.up(agent_env=agent_env)
    try:
        yield cluster
    finally:
        cluster.down()


def _backend(nodes: NodeKind) -> NodeBackend | None:
    """Real nodes need a kernel of their own each: containers would share ours, and kubelets its cgroups."""
    return NodeBackend.UML if nodes is NodeKind.REAL else None


def _has_condition(obj: dict[str, Any], kind: str) -> bool:
    conditions = obj.get("status", {}).get("conditions", [])
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def _taints(node: dict[str, Any]) -> list[Any]:
    taints: list[Any] = node["spec"].get("taints", [])
    return taints

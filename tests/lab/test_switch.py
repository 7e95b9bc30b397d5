"""Twenty Services change hands and come back while clients on the internet send requests: none is lost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import msgspec
import pytest
import yaml

from spiderpool_lab import facts, namespaces
from spiderpool_lab.cloud import LAB_VPC, PUBLIC
from spiderpool_lab.cluster import CLOUD, LabCluster, LabOptions, temporary
from spiderpool_lab.probes import TrafficProbe
from spiderpool_lab.switching import clients
from spiderpool_lab.switching.clients import ServiceRequests, ServiceTraffic
from spiderpool_lab.switching.holdings import BalancerHolding
from spiderpool_lab.switching.services import EVERYWHERE, LOCAL, SERVICES, SOMEWHERE, VSWITCH, ZONE_MAPS
from spiderpool_lab.switching.stage import ServicesOfPlane, SwitchStage
from spiderpool_lab.topology import VSwitch, enlarged
from tests.lab.names import lab_name

pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.timeout(1800)]

PATIENCE = 240
"""Seconds for what takes a few on a machine that has nothing else to do."""
FLOW = 15
"""Answered requests to each Service between two steps of the switch, at least."""
CLIENTS = "clients"
SECOND_ZONE = VSwitch("vsw9", "192.168.9.0/24", "192.168.9.253", zone="cn-hangzhou-h")
"""A network balancer is in two zones."""
APPLICATION = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{v1.multus-cni.io/default-network: kube-system/ipvlan-eth0}}
    spec:
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {{matchLabels: {{app: {name}}}}}
      containers:
      - name: web
        image: web
        ports:
        - {{name: http, containerPort: 80}}
        - {{name: dns-tcp, containerPort: 53}}
        - {{name: dns, containerPort: 53, protocol: UDP}}
"""
LOOKS = {"slb:DescribeVServerGroups": False, "nlb:ListListeners": True}
"""Action by which our controller looks at a balancer → whether it is for network ones."""

COLUMNS = (
    "custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,FINALIZERS:.metadata.finalizers,"
    r"BALANCER:.metadata.labels.service\.k8s\.alibaba/loadbalancer-id"
)
OF_SERVERS = {
    "slb:AddVServerGroupBackendServers",
    "slb:SetVServerGroupAttribute",
    "nlb:AddServersToServerGroup",
    "nlb:UpdateServerGroupServersAttribute",
}
"""Actions that add servers or change their weights."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    """A cluster whose spiderpool-cloud serves no load balancers, with two applications."""
    topology = enlarged(20)
    topology = msgspec.structs.replace(topology, vswitches=(*topology.vswitches, SECOND_ZONE))
    values = {"cloud": {"loadBalancers": {"enabled": False}}}
    with temporary(lab_name("switch"), LabOptions(topology=topology, discovery=True, values=values)) as cluster:
        cluster.wait_for("networks", lambda: len(cluster.objects("spidermultusconfigs", "-A")) == 2, PATIENCE)
        cluster.plane.apply(
            APPLICATION.format(name=EVERYWHERE, replicas=2), APPLICATION.format(name=SOMEWHERE, replicas=1)
        )
        cluster.wait_for("the applications run", lambda: len(facts.running_pods(cluster)) == 3, PATIENCE)
        yield cluster


class Traffic:
    """The clients on the internet, and what they have counted."""

    def __init__(self, cluster: LabCluster, held: dict[str, BalancerHolding]) -> None:
        self._cluster = cluster
        self._file = cluster.directory / "clients.json"
        self._requests = cluster.directory / "requests.json"
        self._services = [ServiceRequests(each.name, self._probes(held[each.name], each.office)) for each in SERVICES]

    def _probes(self, held: BalancerHolding, office: bool) -> list[TrafficProbe]:
        """A request to each listener at each address: public ones, or private ones by a leased line."""
        client, _ = self._cluster.fabric.topology.internet.client
        found = [each for each in held.addresses if (ip_address(each) in ip_network(PUBLIC)) != office]
        listeners = [key.lower().split("/") for key in held.listeners]
        return [
            TrafficProbe(
                kind="http" if protocol == "tcp" else protocol,  # type: ignore[arg-type]
                target=address,
                port=int(port),
                bind=client,
                count=1,
                timeout=clients.TIMEOUT,
            )
            for address in found
            for protocol, port in listeners
        ]

    def start(self) -> None:
        """Send requests; the internet has routes to the private addresses, as by a leased line."""
        topology, fabric = self._cluster.fabric.topology, self._cluster.fabric
        private = {one.target for each in self._services for one in each.requests}
        private = {each for each in private if ip_address(each) not in ip_network(PUBLIC)}
        router = ip_interface(topology.internet.cloud[0]).ip
        namespaces.ip_batch([f"route add {each}/32 via {router}" for each in private], netns=fabric.internet)
        self._cluster.wait_for("every listener answers", self._all_answer, PATIENCE)
        self._requests.write_bytes(msgspec.json.encode(self._services))
        words = ["--netns", fabric.internet, "--requests", str(self._requests), "--file", str(self._file)]
        self._cluster.processes.start(CLIENTS, [sys.executable, "-m", "spiderpool_lab.switching.clients", *words])
        self._cluster.wait_for("requests flow", self._file.exists, PATIENCE)

    def _all_answer(self) -> bool:
        probes = [one for each in self._services for one in each.requests]
        return all(map(clients.is_answered, self._cluster.probe("internet", probes)))

    def seen(self) -> dict[str, ServiceTraffic]:
        """What the clients have counted by now."""
        assert self._cluster.processes.pid(CLIENTS) is not None
        return clients.read(self._file)

    def flow(self) -> None:
        """Wait until more requests to each Service were answered."""
        before = self.seen()

        def flows() -> bool:
            now = self.seen()
            return all(now[name].answered >= former.answered + FLOW for name, former in before.items())

        self._cluster.wait_for("requests flow on", flows, PATIENCE)

    def stop(self) -> dict[str, ServiceTraffic]:
        """End the clients, and return what became of each request."""
        self._cluster.processes.stop(CLIENTS, timeout=2 * clients.TIMEOUT)
        return clients.read(self._file)


def set_controller(cluster: LabCluster, *, serves: bool) -> None:
    """Restart spiderpool-cloud with `cloud.loadBalancers.enabled`."""
    file: Path = cluster.directory / "conf.yml"
    settings = yaml.safe_load(file.read_text())
    settings["cloud"]["loadBalancers"]["enabled"] = serves
    file.write_text(yaml.safe_dump(settings))
    cluster.processes.stop(CLOUD)
    cluster.start_cloud_controller()


def take_over(cluster: LabCluster, stage: SwitchStage) -> None:
    """Have our controller serve, and wait until it has looked at as many balancers of each kind as there are."""
    before = stage.admin.calls()["counts"]
    set_controller(cluster, serves=True)
    wanted = {action: sum(each.is_network == network for each in SERVICES) for action, network in LOOKS.items()}

    def looked() -> bool:
        counts = stage.admin.calls()["counts"]
        return all(counts.get(action, 0) - before.get(action, 0) >= number for action, number in wanted.items())

    cluster.wait_for("our controller has looked at every balancer", looked, PATIENCE)


def differences(before: dict[str, BalancerHolding], later: dict[str, BalancerHolding]) -> list[str]:
    """The Services, and which parts of their balancers are others than before."""
    return [f"{name}: {text.split(': ')[1]}" for name, held in before.items() for text in held.changes(later[name])]


def test_services_of_all_kinds_go_there_and_back(cluster: LabCluster) -> None:
    stage = SwitchStage(
        ServicesOfPlane(cluster.plane), cluster.cloud.admin, cluster_id=cluster.name, vpc=LAB_VPC.identity
    )
    stage.create({ZONE_MAPS: "cn-hangzhou-i:vsw0,cn-hangzhou-h:vsw9", VSWITCH: "vsw0"})
    scaled = {
        each.name for each in SERVICES if each.app == EVERYWHERE and (each.pods or each.spec.items() >= LOCAL.items())
    }
    cluster.wait_for(
        "Services have endpoints",
        lambda: all(list(served.servers(port)) for served in stage.served() for port in served.ports),
        PATIENCE,
    )
    assert len(stage.serve_by_other()) > len(SERVICES)
    stage.set_at_console()
    assert stage.serve_by_other() == []
    before = stage.holdings()
    listed = cluster.plane.kubectl("get", "services", "-A", "-o", COLUMNS)
    assert {line.split()[1] for line in listed.splitlines() if "service.k8s.alibaba/" in line} == set(before)
    traffic = Traffic(cluster, before)
    traffic.start()
    try:
        traffic.flow()
        stage.new_changes()

        take_over(cluster, stage)
        traffic.flow()
        assert stage.new_changes() == {"slb:TagResources": 1}
        assert differences(before, stage.holdings()) == ["clb-named: tags"]
        cluster.plane.kubectl("scale", f"deployment/{EVERYWHERE}", "--replicas=3")
        cluster.wait_for(
            "our controller adds a new pod",
            lambda: {name for name, held in stage.holdings().items() if held.servers != before[name].servers} == scaled,
            PATIENCE,
        )
        traffic.flow()
        assert stage.new_changes().keys() <= OF_SERVERS

        set_controller(cluster, serves=False)
        assert stage.unmarked() == []
        assert stage.serve_by_other() == []
        cluster.plane.kubectl("label", "services", "--all-namespaces", "--all", "service.beta.kubernetes.io/hash-")
        assert len(stage.unmarked()) == len(SERVICES)
        assert stage.serve_by_other() == []
        assert stage.unmarked() == []
        traffic.flow()
        later = stage.holdings()
    finally:
        counted = traffic.stop()
        for name, seen in counted.items():
            print(f"{name}: {seen.sent} sent, {seen.lost} lost, {seen.longest:.2f} s at most {seen.latest}")
    assert {*differences(before, later)} == {"clb-named: tags", *(f"{name}: servers" for name in scaled)}
    assert {name: seen.latest for name, seen in counted.items() if seen.lost} == {}

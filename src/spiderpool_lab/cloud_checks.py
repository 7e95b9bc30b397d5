"""What the walkthrough asks of the cloud's own services: who is which server, load balancers, one address more.

Load balancers are asked from the internet. An address is registered as somebody does it at the cloud's console.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from spiderpool_lab import facts, internet
from spiderpool_lab.alibaba.dataplane import SOURCE
from spiderpool_lab.alibaba.metadata import ADDRESS as METADATA
from spiderpool_lab.checks import Check, Question, ask
from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.facts import PodFact
from spiderpool_lab.probes import Answer, TrafficProbe
from spiderpool_lab.topology import LabNode
from spiderpool_lab.walkthrough import Environment, internet_client, pod_asker

TCP_SERVICE, HTTP_SERVICE, IPV6_SERVICE = "tcp-service", "http-service", "lb-ipv6"
"""The Services of examples/alibaba-cloud/load-balancers.yaml and load-balancer-ipv6.yaml."""
PORTS = {TCP_SERVICE: 999, HTTP_SERVICE: 80}
BEHIND = "test-app-2"
"""The application that they lead to."""
GROWING = "test-app-5"
"""The application of examples/alibaba-cloud/growth.yaml."""


# --- who is which server


def provider_id(cluster: LabCluster, node: LabNode) -> str:
    """Region and instance as a server reads them from the metadata service."""
    pages = ("region-id", "instance-id")
    asked = [TrafficProbe(kind="http", target=METADATA, path=f"/latest/meta-data/{page}") for page in pages]
    return ".".join(answer.body for answer in cluster.probe(node.name, asked))


def identities(cluster: LabCluster) -> Iterator[Check]:
    """Every Node names its server as the cloud does; with discovery the rest that kubelets wait for is there, too."""
    servers = {server["name"]: server for server in cluster.cloud.console.state()["instances"]}
    for node in cluster.objects("nodes"):
        name, spec = node["metadata"]["name"], node["spec"]
        wanted = f"{servers[name]['zone'].rpartition('-')[0]}.{servers[name]['identity']}"
        yield _equal("providerID is region and instance", name, spec.get("providerID", ""), wanted)
        if cluster.discovery:
            labels = {key: node["metadata"]["labels"].get(key) for key in _labels(servers[name])}
            yield _equal("zone and type of the server are labels", name, labels, _labels(servers[name]))
            yield _equal("no taint waits for the cloud", name, spec.get("taints", []), [])


def _labels(server: dict[str, Any]) -> dict[str, str]:
    return {
        "topology.kubernetes.io/zone": server["zone"],
        "node.kubernetes.io/instance-type": server["instance_type"],
    }


def _equal(topic: str, question: str, found: object, wanted: object) -> Check:
    return Check(topic, question, found == wanted, f"{found}" if found == wanted else f"{found}, not {wanted}")


# --- load balancers


def external_addresses(cluster: LabCluster) -> dict[str, str]:
    """Where the Services are reached from the internet, as far as they have a load balancer."""
    found = {each["metadata"]["name"]: each["status"].get("loadBalancer", {}) for each in cluster.objects("services")}
    return {name: status["ingress"][0]["ip"] for name, status in found.items() if status.get("ingress")}


def knock(cluster: LabCluster) -> dict[str, Answer]:
    """What a client on the internet is answered by each load balancer, by the URL that it asks for."""
    client, _ = cluster.fabric.topology.internet.client
    found = {name: address for name, address in external_addresses(cluster).items() if name in PORTS}
    asked = [TrafficProbe(kind="http", target=found[name], port=PORTS[name], bind=client) for name in found]
    answers = cluster.probe(internet.NAME, asked)
    return {f"http://{probe.target}:{probe.port}": answer for probe, answer in zip(asked, answers, strict=True)}


def balancers_serve(cluster: LabCluster) -> bool:
    """Whether both are there, answer, and have found every node to be well."""
    answers = knock(cluster).values()
    return len(answers) == len(PORTS) and all(answer.status == 200 for answer in answers) and _all_well(cluster)


def _all_well(cluster: LabCluster) -> bool:
    """As the cloud describes their health; it does not look at servers behind HTTP, unless told to."""
    console, nodes = cluster.cloud.console, len(cluster.fabric.topology.nodes)
    for balancer in console.state()["clbs"]:
        told = console.perform("slb", "DescribeHealthStatus", LoadBalancerId=balancer["identity"])
        servers = told["BackendServers"]["BackendServer"]
        well = [each for each in servers if each["ServerHealthStatus"] == "normal" or each["Protocol"] == "http"]
        if len(well) != nodes:
            return False
    return True


def load_balancers(cluster: LabCluster, world: Environment) -> Iterator[Question]:
    """The internet reaches every pod: by TCP seen as itself, by HTTP as the balancer, which says for whom it asks."""
    client, addresses = internet_client(world.topology), external_addresses(cluster)
    pods = frozenset(pod.key for pod in world.pods if pod.app == BEHIND)
    for name, port in PORTS.items():
        asked = client.asks(f"internet → {name}:{port}, every pod, HTTP 200", "http", addresses[name], port)
        expected = replace(asked.expected, by=pods, status=200)
        if name == TCP_SERVICE:
            yield replace(asked, expected=replace(expected, seen_as=client.addresses))
        else:
            forwarded = replace(expected, seen_as=frozenset({SOURCE}), forwarded_for=client.addresses)
            yield replace(asked, expected=forwarded)


def ipv6_event(cluster: LabCluster) -> str:
    """The Event that tells why the Service with IPv6 alone has no load balancer; empty while there is none."""
    selector = f"involvedObject.kind=Service,involvedObject.name={IPV6_SERVICE}"
    events = cluster.objects("events", f"--field-selector={selector}")
    return next((each["message"] for each in events if "ServerGroupNotSupportIpv6" in each["message"]), "")


def ipv6_refused(cluster: LabCluster) -> Iterator[Check]:
    """The reason is told, and the cloud was not even asked."""
    told = ipv6_event(cluster)
    yield Check("IPv6 alone: an Event names ServerGroupNotSupportIpv6", IPV6_SERVICE, bool(told), told)
    asked = [action for action in cluster.cloud.console.calls()["counts"] if action.startswith("nlb:Create")]
    yield _equal("IPv6 alone: nothing is made in the cloud", IPV6_SERVICE, asked, [])


# --- one address more


@dataclass(frozen=True, slots=True)
class Growth:
    """Addresses, IPv4 first, that the cloud has registered on an ENI beyond those of the topology."""

    eni: str
    addresses: tuple[str, str]


def register(cluster: LabCluster) -> Growth:
    """Register one more address of each family on the first ENI of the first node."""
    console, mac = cluster.cloud.console, cluster.fabric.topology.nodes[0].enis[0].mac
    eni = next(each["identity"] for each in console.state()["enis"] if each["mac"] == mac)
    sent = {"NetworkInterfaceId": eni}
    ipv4 = console.perform("ecs", "AssignPrivateIpAddresses", SecondaryPrivateIpAddressCount="1", **sent)
    ipv6 = console.perform("ecs", "AssignIpv6Addresses", Ipv6AddressCount="1", **sent)
    (first,) = ipv4["AssignedPrivateIpAddressesSet"]["PrivateIpSet"]["PrivateIpAddress"]
    (second,) = ipv6["Ipv6Sets"]["Ipv6Address"]
    return Growth(eni, (first, second))


def refusal(cluster: LabCluster) -> str:
    """What the pod says that finds no address; empty while none does."""
    mine = (each for each in cluster.objects("events") if each["involvedObject"]["name"].startswith(GROWING))
    return next((each["message"] for each in mine if "5 of 5 addresses in use" in each["message"]), "")


def growing_pods(cluster: LabCluster) -> list[PodFact]:
    """Its pods that run."""
    return facts.pods(cluster, f"--selector=app={GROWING}", "--field-selector=status.phase=Running")


def grown(cluster: LabCluster, growth: Growth) -> Iterator[Check]:
    """The new addresses are held by pods, by which they reach what is beyond their node."""
    pods = growing_pods(cluster)
    for address in growth.addresses:
        holders = [str(pod) for pod in pods if address in pod.addresses]
        yield Check("a pod has the new address", address, bool(holders), ", ".join(holders) or "none")
    yield from ask(cluster, (question for pod in pods for question in _beyond(cluster, pod)))


def _beyond(cluster: LabCluster, pod: PodFact) -> Iterator[Question]:
    topology = cluster.fabric.topology
    for target in (*topology.nodes[-1].enis[0].own, *topology.internet.server):
        yield pod_asker(pod).asks("pods on the grown ENI → other node, internet", "ping", target)

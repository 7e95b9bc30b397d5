"""The walkthrough's checks of the cloud's own services: providerIDs, load balancers, and one more address on an ENI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from spiderpool_lab import facts, internet
from spiderpool_lab.alibaba.dataplane import SOURCE
from spiderpool_lab.alibaba.metadata import ADDRESS as METADATA
from spiderpool_lab.checks import Check, CheckResult, run_checks
from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.facts import PodFact
from spiderpool_lab.probes import Answer, TrafficProbe
from spiderpool_lab.topology import LabNode
from spiderpool_lab.walkthrough import Environment, internet_source, pod_source

TCP_SERVICE, HTTP_SERVICE, IPV6_SERVICE = "tcp-service", "http-service", "lb-ipv6"
"""The Services of examples/alibaba-cloud/load-balancers.yaml and load-balancer-ipv6.yaml."""
PORTS = {TCP_SERVICE: 999, HTTP_SERVICE: 80}
BACKEND_APP = "test-app-2"
"""The application behind these Services."""
GROWING_APP = "test-app-5"
"""The application of examples/alibaba-cloud/growth.yaml."""


# --- providerIDs


def provider_id(cluster: LabCluster, node: LabNode) -> str:
    """``<region>.<instance>`` of a server, read on it from the metadata service."""
    pages = ("region-id", "instance-id")
    probes = [TrafficProbe(kind="http", target=METADATA, path=f"/latest/meta-data/{page}") for page in pages]
    return ".".join(answer.body for answer in cluster.probe(node.name, probes))


def check_identities(cluster: LabCluster) -> Iterator[CheckResult]:
    """Check the providerID of every Node, and with discovery its labels and that no taint is left."""
    servers = {server["name"]: server for server in cluster.cloud.admin.state()["instances"]}
    for node in cluster.objects("nodes"):
        name, spec = node["metadata"]["name"], node["spec"]
        expected = f"{servers[name]['zone'].rpartition('-')[0]}.{servers[name]['identity']}"
        yield _equal("providerID is region and instance", name, spec.get("providerID", ""), expected)
        if cluster.discovery:
            labels = {key: node["metadata"]["labels"].get(key) for key in _labels(servers[name])}
            yield _equal("zone and type of the server are labels", name, labels, _labels(servers[name]))
            yield _equal("no taint waits for the cloud", name, spec.get("taints", []), [])


def _labels(server: dict[str, Any]) -> dict[str, str]:
    return {
        "topology.kubernetes.io/zone": server["zone"],
        "node.kubernetes.io/instance-type": server["instance_type"],
    }


def _equal(topic: str, text: str, found: object, expected: object) -> CheckResult:
    return CheckResult(topic, text, found == expected, f"{found}" if found == expected else f"{found}, not {expected}")


# --- load balancers


def external_addresses(cluster: LabCluster) -> dict[str, str]:
    """Service → address of its load balancer, for those that have one."""
    services = cluster.objects("services")
    statuses = {service["metadata"]["name"]: service["status"].get("loadBalancer", {}) for service in services}
    return {name: status["ingress"][0]["ip"] for name, status in statuses.items() if status.get("ingress")}


def request_balancers(cluster: LabCluster) -> dict[str, Answer]:
    """URL of each load balancer → its answer to a client on the internet."""
    client, _ = cluster.fabric.topology.internet.client
    found = {name: address for name, address in external_addresses(cluster).items() if name in PORTS}
    probes = [TrafficProbe(kind="http", target=found[name], port=PORTS[name], bind=client) for name in found]
    answers = cluster.probe(internet.NAME, probes)
    return {f"http://{probe.target}:{probe.port}": answer for probe, answer in zip(probes, answers, strict=True)}


def balancers_serve(cluster: LabCluster) -> bool:
    """Whether all load balancers exist, answer, and have found every node healthy."""
    answers = request_balancers(cluster).values()
    return len(answers) == len(PORTS) and all(answer.status == 200 for answer in answers) and _all_healthy(cluster)


def _all_healthy(cluster: LabCluster) -> bool:
    """Whether the cloud describes all backends as healthy. Those of HTTP have no health check, and count as healthy."""
    admin, nodes = cluster.cloud.admin, len(cluster.fabric.topology.nodes)
    for balancer in admin.state()["clbs"]:
        health = admin.call("slb", "DescribeHealthStatus", LoadBalancerId=balancer["identity"])
        servers = health["BackendServers"]["BackendServer"]
        healthy = [
            server for server in servers if server["ServerHealthStatus"] == "normal" or server["Protocol"] == "http"
        ]
        if len(healthy) != nodes:
            return False
    return True


def load_balancers(cluster: LabCluster, environment: Environment) -> Iterator[Check]:
    """The internet reaches every pod: by TCP seen as itself, by HTTP as the balancer, with X-Forwarded-For."""
    client, addresses = internet_source(environment.topology), external_addresses(cluster)
    pods = frozenset(pod.key for pod in environment.pods if pod.app == BACKEND_APP)
    for name, port in PORTS.items():
        check = client.check(f"internet → {name}:{port}, every pod, HTTP 200", "http", addresses[name], port)
        expected = replace(check.expected, answered_by=pods, status=200)
        if name == TCP_SERVICE:
            yield replace(check, expected=replace(expected, seen_as=client.addresses))
        else:
            forwarded = replace(expected, seen_as=frozenset({SOURCE}), forwarded_for=client.addresses)
            yield replace(check, expected=forwarded)


def pods_to_load_balancers(cluster: LabCluster, environment: Environment) -> Iterator[Check]:
    """Every pod reaches every pod behind a load balancer by its address, although the policy is Local.

    With kube-proxy in mode ipvs, those of its own node. They see the client, or its node.
    """
    addresses = external_addresses(cluster)
    for pod in environment.pods:
        node = environment.topology.node(pod.node)
        own = frozenset(address for eni in node.enis for address in eni.own_addresses)
        served_by = [each for each in environment.pods if each.app == BACKEND_APP]
        keys = {each.key for each in served_by if cluster.proxy_mode == "iptables" or each.node == pod.node}
        for name, port in PORTS.items():
            check = pod_source(pod).check(
                f"pod → {name}:{port} by its load balancer's address", "http", addresses[name], port
            )
            expected = replace(check.expected, answered_by=frozenset(keys), status=200, seen_as=pod.addresses | own)
            yield replace(check, expected=expected)


def ipv6_event(cluster: LabCluster) -> str:
    """The Event that says why the Service with IPv6 alone has no load balancer; empty while there is none."""
    selector = f"involvedObject.kind=Service,involvedObject.name={IPV6_SERVICE}"
    events = cluster.objects("events", f"--field-selector={selector}")
    return next((event["message"] for event in events if "ServerGroupNotSupportIpv6" in event["message"]), "")


def check_ipv6_refused(cluster: LabCluster) -> Iterator[CheckResult]:
    """Check that an Event names the reason, and that nothing was created in the cloud."""
    message = ipv6_event(cluster)
    yield CheckResult("IPv6 alone: an Event names ServerGroupNotSupportIpv6", IPV6_SERVICE, bool(message), message)
    created = [action for action in cluster.cloud.admin.calls()["counts"] if action.startswith("nlb:Create")]
    yield _equal("IPv6 alone: nothing is made in the cloud", IPV6_SERVICE, created, [])


# --- one more address


@dataclass(frozen=True, slots=True)
class Growth:
    """Addresses, IPv4 first, that the cloud has registered on an ENI beyond those of the topology."""

    eni: str
    addresses: tuple[str, str]


def register(cluster: LabCluster) -> Growth:
    """Register one more address of each family on the first ENI of the first node, as a user at the console."""
    admin, mac = cluster.cloud.admin, cluster.fabric.topology.nodes[0].enis[0].mac
    eni = next(eni["identity"] for eni in admin.state()["enis"] if eni["mac"] == mac)
    target = {"NetworkInterfaceId": eni}
    ipv4 = admin.call("ecs", "AssignPrivateIpAddresses", SecondaryPrivateIpAddressCount="1", **target)
    ipv6 = admin.call("ecs", "AssignIpv6Addresses", Ipv6AddressCount="1", **target)
    (first,) = ipv4["AssignedPrivateIpAddressesSet"]["PrivateIpSet"]["PrivateIpAddress"]
    (second,) = ipv6["Ipv6Sets"]["Ipv6Address"]
    return Growth(eni, (first, second))


def refusal_event(cluster: LabCluster) -> str:
    """The Event of a pod of the growing application that finds no address; empty while there is none."""
    events = cluster.objects("events")
    messages = (event["message"] for event in events if event["involvedObject"]["name"].startswith(GROWING_APP))
    return next((message for message in messages if "5 of 5 addresses in use" in message), "")


def growing_pods(cluster: LabCluster) -> list[PodFact]:
    """The running pods of the growing application."""
    return facts.running_pods(cluster, f"--selector=app={GROWING_APP}")


def check_growth(cluster: LabCluster, growth: Growth) -> Iterator[CheckResult]:
    """Check that pods have the new addresses, and that the application's pods reach targets beyond their node."""
    pods = growing_pods(cluster)
    for address in growth.addresses:
        holders = [str(pod) for pod in pods if address in pod.addresses]
        yield CheckResult("a pod has the new address", address, bool(holders), ", ".join(holders) or "none")
    yield from run_checks(cluster, (check for pod in pods for check in _beyond_node(cluster, pod)))


def _beyond_node(cluster: LabCluster, pod: PodFact) -> Iterator[Check]:
    topology = cluster.fabric.topology
    for target in (*topology.nodes[-1].enis[0].own_addresses, *topology.internet.server):
        yield pod_source(pod).check("pods on the grown ENI → other node, internet", "ping", target)

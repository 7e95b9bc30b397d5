"""What the walkthrough asks about the cloud's own services: who is which server, load balancers, one address more.

Load balancers are asked from the internet. An address is registered as somebody does it at the cloud's console.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from spiderpool.lab import facts
from spiderpool.lab.alibaba.dataplane import SOURCE
from spiderpool.lab.checks import Check, Question, ask
from spiderpool.lab.cluster import Cluster
from spiderpool.lab.facts import PodFact
from spiderpool.lab.topology import Card
from spiderpool.lab.walkthrough import World, internet_client, pod_asker

TCP_SERVICE, HTTP_SERVICE, IPV6_SERVICE = "tcp-service", "http-service", "lb-ipv6"
"""The Services of examples/alibaba-cloud/load-balancers.yaml and load-balancer-ipv6.yaml."""
PORTS = {TCP_SERVICE: 999, HTTP_SERVICE: 80}
GROWING = "test-app-5"
"""The application of examples/alibaba-cloud/growth.yaml."""
WAITED = 60.0
"""Seconds within which a pool follows the cloud."""


# --- who is which server


def identities(cluster: Cluster) -> Iterator[Check]:
    """Every Node names its server as the cloud does; what was to be initialised is."""
    state = cluster.cloud.console.state()
    servers = {server["name"]: server for server in state["instances"]}
    for node in cluster.objects("nodes"):
        name, spec = node["metadata"]["name"], node["spec"]
        server = servers[name]
        wanted = f"{server['zone'].rpartition('-')[0]}.{server['identity']}"
        yield _equal("providerID is region and instance", name, spec.get("providerID", ""), wanted)
        if cluster.discovery:
            labels = {key: node["metadata"]["labels"].get(key, "") for key in _labels(server)}
            yield _equal("zone and type of the server are labels", name, str(labels), str(_labels(server)))
            yield Check("no taint waits for the cloud", name, not spec.get("taints"), str(spec.get("taints", "")))


def _labels(server: dict[str, Any]) -> dict[str, str]:
    return {
        "topology.kubernetes.io/zone": server["zone"],
        "node.kubernetes.io/instance-type": server["instance_type"],
    }


def _equal(topic: str, question: str, found: str, wanted: str) -> Check:
    return Check(topic, question, found == wanted, found if found == wanted else f"{found or 'nothing'}, not {wanted}")


# --- load balancers


def external_addresses(cluster: Cluster) -> dict[str, str]:
    """Where the Services are reached from the internet, as far as they have a load balancer."""
    found = {}
    for service in cluster.objects("services"):
        ingress = service["status"].get("loadBalancer", {}).get("ingress", [])
        found.update({service["metadata"]["name"]: each["ip"] for each in ingress if "ip" in each})
    return found


def balancers_serve(cluster: Cluster) -> bool:
    """Whether both load balancers have servers, and each has found them to be well or does not ask."""
    state = cluster.cloud.console.state()
    nodes = len(cluster.fabric.topology.nodes)
    return len(external_addresses(cluster)) == len(PORTS) == sum(
        len(group["backends"]) == nodes for group in state["clb_groups"]
    )


def load_balancers(cluster: Cluster, world: World) -> Iterator[Question]:
    """The internet reaches every pod: by TCP it is seen itself, by HTTP the balancer is, which names it in a header."""
    client, addresses = internet_client(world.topology), external_addresses(cluster)
    pods = frozenset(pod.key for pod in world.pods if pod.app == "test-app-2")
    for name, port in PORTS.items():
        asked = client.asks(f"internet → {name}:{port}", "http", addresses[name], port)
        expected = replace(asked.expected, by=pods, status=200)
        seen = client.addresses if name == TCP_SERVICE else frozenset({SOURCE})
        named = frozenset() if name == TCP_SERVICE else client.addresses
        yield replace(asked, expected=replace(expected, seen_as=seen, forwarded_for=named))


def ipv6_event(cluster: Cluster) -> str:
    """The Event that tells why the Service with IPv6 alone has no load balancer; empty until there is one."""
    selector = f"involvedObject.kind=Service,involvedObject.name={IPV6_SERVICE}"
    events = cluster.objects("events", f"--field-selector={selector}")
    return next((each["message"] for each in events if "ServerGroupNotSupportIpv6" in each["message"]), "")


def refused(cluster: Cluster) -> Iterator[Check]:
    """The cloud was not even asked for a load balancer with IPv6 servers."""
    told = ipv6_event(cluster)
    yield Check("IPv6 alone: an Event names ServerGroupNotSupportIpv6", IPV6_SERVICE, bool(told), told)
    asked = [action for action in cluster.cloud.console.calls()["counts"] if action.startswith("nlb:Create")]
    yield Check("IPv6 alone: nothing is made in the cloud", IPV6_SERVICE, not asked, ", ".join(asked))


# --- one address more


@dataclass(frozen=True, slots=True)
class Growth:
    """Addresses of both families that the cloud has registered on a card beyond those of the topology."""

    card: Card
    identity: str
    addresses: tuple[str, str]


def register(cluster: Cluster) -> Growth:
    """Register one more address of each family on the first card of the first node."""
    node = cluster.fabric.topology.nodes[0]
    card = node.cards[0]
    console = cluster.cloud.console
    identity = next(each["identity"] for each in console.state()["cards"] if each["mac"] == card.mac)
    sent = {"NetworkInterfaceId": identity}
    ipv4 = console.perform("ecs", "AssignPrivateIpAddresses", SecondaryPrivateIpAddressCount="1", **sent)
    ipv6 = console.perform("ecs", "AssignIpv6Addresses", Ipv6AddressCount="1", **sent)
    (first,) = ipv4["AssignedPrivateIpAddressesSet"]["PrivateIpSet"]["PrivateIpAddress"]
    (second,) = ipv6["Ipv6Sets"]["Ipv6Address"]
    return Growth(card, identity, (first, second))


def take_back(cluster: Cluster, growth: Growth) -> None:
    """Take the addresses off the card again."""
    console, sent = cluster.cloud.console, {"NetworkInterfaceId": growth.identity}
    console.perform("ecs", "UnassignPrivateIpAddresses", **sent, **{"PrivateIpAddress.1": growth.addresses[0]})
    console.perform("ecs", "UnassignIpv6Addresses", **sent, **{"Ipv6Address.1": growth.addresses[1]})


def grown(cluster: Cluster, growth: Growth) -> Iterator[Check]:
    """All three pods run, one by the new addresses, by which it reaches what is beyond its node."""
    pods = facts.pods(cluster, f"--selector=app={GROWING}", "--field-selector=status.phase=Running")
    held = {address: pod for pod in pods for address in pod.addresses}
    for address in growth.addresses:
        yield Check("a pod holds the new address", address, address in held, ", ".join(sorted(held)))
    yield from ask(cluster, (question for pod in pods for question in _beyond(cluster, pod)))


def _beyond(cluster: Cluster, pod: PodFact) -> Iterator[Question]:
    topology = cluster.fabric.topology
    for target in (*topology.nodes[-1].cards[0].own, *topology.internet.server):
        yield pod_asker(pod).asks("pods on the grown card → other node, internet", "ping", target)


def refusal(cluster: Cluster) -> str:
    """What a pod says that found no address; empty while none does."""
    events = json.loads(cluster.plane.kubectl("get", "events", "-o", "json"))["items"]
    mine = (each for each in events if each["involvedObject"]["name"].startswith(GROWING))
    return next((each["message"] for each in mine if "5 of 5 addresses in use" in each["message"]), "")

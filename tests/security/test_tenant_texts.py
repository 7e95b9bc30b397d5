"""Users fill the annotations of their pods and Namespaces, and the configurations of their networks, to the last byte.

The agent and the controller read them on the event loop that all pods share.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from spiderpool.api.cni import IPAMConfig
from spiderpool.api.core_v1 import Node, Pod, Service
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION, NADSpec, NetworkAttachmentDefinition
from spiderpool.api.subnet import IP_NUMBER_ANNOTATION, RECLAIM, SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.controller.cidr_detection import ClusterCIDRs, flag_networks, kubeadm_networks
from spiderpool.core import annotations as ours
from spiderpool.core.admission.multusconfig import _json_object
from spiderpool.core.admission.pod_injection import InjectionRequest, NewPod, network_selector, with_nic_resources
from spiderpool.core.cloud.eni_pools import RELEASING_ANNOTATION, UNREGISTERED_ANNOTATION, releasing
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.printing import service_dry_run
from spiderpool.core.cloud.preallocation import ASSIGNED_ANNOTATION, assigned_of, releasing_of
from spiderpool.core.ipam import hints
from spiderpool.core.ipam.candidates import allocation_plan
from spiderpool.core.ipam.endpoints import _custom_routes, _has_clean_gateway
from spiderpool.core.ipam.pod_context import AddressPolicy, InterfaceNetworks, InterfaceRequest, PodContext
from spiderpool.core.ipam.selection import select
from spiderpool.core.ipam.unused_annotations import unused_interfaces
from spiderpool.core.network.chains import read_network
from spiderpool.core.network.coordinator import requested_default_route
from spiderpool.core.network.pod_networks import MOST_NETWORKS, first_network, further_networks
from spiderpool.errors import BadConfig, SpiderpoolError
from tests.core.pretend_balancers import CONFIGURATION, HTTP, KINDS, service

pytestmark = pytest.mark.unit

LIMIT = 256 * 1024
"""Bytes of all annotations of an object: TotalAnnotationSizeLimitB in apimachinery/pkg/api/validation."""
MOST_SECONDS = 0.5
"""Of CPU. The slowest takes 0.1 on an idle machine, thrice that on a busy one; what is quadratic takes 10 and more."""


def filled(begin: str, part: str, end: str = "", join: str = ",") -> str:
    number = (LIMIT - len(begin) - len(end)) // (len(part) + len(join))
    return begin + join.join([part] * number) + end


SHAPES = {
    "arrays within one another": "[" * (LIMIT // 2) + "]" * (LIMIT // 2),
    "objects within one another": '{"ipv4":' * (LIMIT // 9) + "1" + "}" * (LIMIT // 9),
    "open arrays": "[" * LIMIT,
    "empty arrays": filled("[", "[]", "]"),
    "a text of brackets": '"' + "[{" * (LIMIT // 2 - 1) + '"',
    "empty objects": filled("[", "{}", "]"),
    "numbers": filled("[", "1", "]"),
    "one long number": "9" * LIMIT,
    "a long sum": "+" + "9" * (LIMIT - 1),
    "names": filled("[", '"a"', "]"),
    "short form": filled("", "a"),
    "commas": "," * LIMIT,
    "at signs": "@" * LIMIT,
    "slashes": "/" * LIMIT,
    "blanks": " " * LIMIT,
    "quotes": '"' * LIMIT,
    "escapes": '"' + "\\u0061" * (LIMIT // 6 - 1) + '"',
    "keys": "{" + ",".join(f'"K{number}":{number}' for number in range(LIMIT // 16)) + "}",
    "one key": filled("{", '"ipv4":[]', "}"),
    "entries": filled("[", '{"interface":"eth0","ipv4":["a"]}', "]"),
    "pools": filled('{"ipv4":[', '"*"', "]}"),
    "a long pattern": '{"ipv4":["' + "[a-z]*" * (LIMIT // 6 - 4) + '"]}',
    "routes": filled("[", '{"dst":"1.1.1.0/24","gw":"1.1.1.1"}', "]"),
    "networks": filled("[", '{"name":"a"}', "]"),
    "addresses": filled('[{"name":"a","ips":[', '"10.1.1.1"', "]}]"),
    "gateways": filled('[{"name":"a","default-route":[', '"::"', "]}]"),
    "assigned": filled('{"eni":[', '"10.1.1.1"', "]}"),
    "plugins": filled('{"cniVersion":"1.0.0","name":"a","plugins":[', '{"type":"a"}', "]}"),
    "a boolean": "true",
    "null": "null",
    "a number": "1",
    "a text": '"a"',
    "nothing": "",
    "no end": '{"ipv4":["a"',
    "two documents": "{}{}",
    "a number beyond floats": "[1e999999]",
    "a number of many digits": '{"id":' + "9" * 5000 + "}",
    "a fraction of many digits": "0." + "9" * (LIMIT - 2),
    "half of a character": '["\\ud800"]',
    "half of a character in a name": '[{"name":"\\udc00","ipv4":["\\udc00"]}]',
    "zeros": "\0" * LIMIT,
    "digits of another script": "\u0663" * (LIMIT // 2),
    "a mark of the byte order": "\ufeff{}",
    "marks on letters": "a" + "\u0301" * (LIMIT // 2 - 1),
    "letters that grow in lower case": "\u0130" * (LIMIT // 2),
    "lists in place of names": '[{"name":[],"ipv4":[[]],"interface":{}}]',
    "names in place of lists": '{"ipv4":"a","enis":"b","eni":"c"}',
    "addresses with zones": filled("", "fe80::1%" + "z" * 100),
    "IPv6 addresses": filled("", "fd00:0000:0000:0000:0000:0000:0000:0001"),
    "addresses of a subnet": ",".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(LIMIT // 15)),
    "IPv6 addresses of a subnet": ",".join(f"fd00::{n:x}" for n in range(0, LIMIT, 20)),
    "ranges": filled("", "0.0.0.0-255.255.255.255"),
    "lines": "\n" * LIMIT,
    "YAML within itself": "a: &a [x]\n" + "".join(f"b{n}: &b{n} [{', '.join(['*a'] * 9)}]\n" for n in range(999)),
    "a YAML date": "networking: 2001-99-99",
    "YAML tags": "networking: !!python/object/apply:os.system [true]",
    "YAML lists": filled("", "-", "", " "),
    "YAML keys": filled("? ", "? a", "", " "),
    "options": filled('{"type":"macvlan","master":"eth0","x":{', '"a":{}', "}}"),
}


def _pod_networks(text: str) -> object:
    return further_networks({NETWORKS_ANNOTATION: text}, "default")


def _injected(text: str) -> object:
    metadata = ObjectMeta(name="p", annotations={NETWORKS_ANNOTATION: text, DEFAULT_NETWORK_ANNOTATION: text})
    return with_nic_resources(NewPod(metadata=metadata), "default", "kube-system", [])


def _nad(text: str) -> object:
    metadata = ObjectMeta(name="n", namespace="default")
    return read_network("default/n", NetworkAttachmentDefinition(metadata=metadata, spec=NADSpec(config=text)))


def _of_node(text: str) -> object:
    return assigned_of(Node(metadata=ObjectMeta(name="n", annotations={ASSIGNED_ANNOTATION: text})))


def _node(text: str) -> Node:
    return Node(metadata=ObjectMeta(name="n", annotations={ASSIGNED_ANNOTATION: text}))


def _pool(text: str, subnet: str) -> SpiderIPPool:
    annotations = {RELEASING_ANNOTATION: text, UNREGISTERED_ANNOTATION: text}
    status = IPPoolStatus(compressedRanges=text)
    return SpiderIPPool(metadata=ObjectMeta(name="p", annotations=annotations), spec=IPPoolSpec(subnet), status=status)


def _endpoint(text: str) -> object:
    pod = Pod(metadata=ObjectMeta(name="p", annotations={ours.ROUTES: text, ours.POOLS: text}))
    return _custom_routes(pod), _has_clean_gateway(pod, "eth0")


def _told(text: str) -> object:
    keys = (ours.DEFAULT_ROUTE_NIC, ours.POOLS, SUBNETS_ANNOTATION, SUBNET_ANNOTATION)
    return [[*unused_interfaces({key: text}, [f"net{number}" for number in range(33)])] for key in keys]


READERS: dict[str, Callable[[str], object]] = {
    "ippool": lambda text: ours.interface_pools({ours.POOL: text}, "eth0"),
    "ippools": lambda text: ours.all_interface_pools({ours.POOLS: text}),
    "subnet": lambda text: ours.all_interface_subnets({SUBNET_ANNOTATION: text}),
    "subnets": lambda text: ours.all_interface_subnets({SUBNETS_ANNOTATION: text}),
    "routes": lambda text: ours.custom_routes({ours.ROUTES: text}),
    "pools of a Namespace": lambda text: ours.namespace_pools(dict.fromkeys(ours.NAMESPACE_POOLS.values(), text)),
    "number of addresses": lambda text: ours.ip_number({IP_NUMBER_ANNOTATION: text}),
    "reclaim": lambda text: ours.reclaims_pool({RECLAIM: text}),
    "default route": lambda text: requested_default_route({ours.DEFAULT_ROUTE_NIC: text}),
    "networks": _pod_networks,
    "first network": lambda text: first_network({DEFAULT_NETWORK_ANNOTATION: text}, None, "default"),
    "injection": _injected,
    "configuration of a network": _nad,
    "customCNI": _json_object,
    "addresses of a Node": _of_node,
    "addresses that a pool gives back": lambda text: releasing_of(_pool(text, "10.0.0.0/8")),
    "IPv4 addresses that a pool leaves out": lambda text: releasing(_pool(text, "10.0.0.0/8")),
    "IPv6 addresses that a pool leaves out": lambda text: releasing(_pool(text, "fd00::/64")),
    "hint of a pool": lambda text: hints.read(_pool(text, "10.0.0.0/8"), 4),
    "endpoint": _endpoint,
    "annotations without effect": _told,
    "injection by a label": lambda text: network_selector(InjectionRequest("key", text)),
    "kubeadm": kubeadm_networks,
    "flags": lambda text: flag_networks(text.split("\n")),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reader", READERS)
def test_the_largest_text_holds_the_event_loop_for_a_moment_only(reader: str, shape: str) -> None:
    fastest = min(_seconds(READERS[reader], SHAPES[shape]) for _ in range(2))
    assert fastest < MOST_SECONDS


def _seconds(read: Callable[[str], object], text: str) -> float:
    begin = time.thread_time()
    with contextlib.suppress(SpiderpoolError):
        read(text)
    return time.thread_time() - begin


@pytest.mark.parametrize(
    "text", [",".join(["a"] * 33), "[" + ",".join(f'{{"name":"a","interface":"e{n}"}}' for n in range(33)) + "]"]
)
def test_a_pod_has_so_many_networks(text: str) -> None:
    with pytest.raises(BadConfig, match=f"annotation {NETWORKS_ANNOTATION} names 33 networks; at most 32"):
        _pod_networks(text)
    assert len(further_networks({NETWORKS_ANNOTATION: ",".join(["a"] * MOST_NETWORKS)}, "default")) == MOST_NETWORKS


def _entry(number: int, **more: Any) -> str:
    return str({"ipv4": [f"p{n}" for n in range(number)], **more}).replace("'", '"')


@pytest.mark.parametrize(
    ("reader", "text", "complaint"),
    [
        ("ippool", _entry(257), "ippool holds 257 names; at most 256"),
        ("ippool", '{"ipv4": ["' + "a" * 254 + '"]}', "ippool holds a name of 254 characters; at most 253"),
        ("ippools", "[" + ",".join([_entry(1)] * 34) + "]", "ippools of the pod has 34 entries; at most 33"),
        ("routes", "[" + ",".join(['{"dst":"::/0","gw":"::1"}'] * 257) + "]", "routes of the pod has 257 entries"),
        ("networks", '[{"name":"a","ips":[' + ",".join(['"::1"'] * 33) + "]}]", "33 addresses; at most 32"),
    ],
)
def test_what_is_more_than_any_pod_needs_is_refused_by_name(reader: str, text: str, complaint: str) -> None:
    with pytest.raises(BadConfig, match=complaint):
        READERS[reader](text)


def test_the_configuration_of_kubeadm_is_read() -> None:
    text = "apiVersion: kubeadm.k8s.io/v1beta4\nnetworking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/12}\n"
    assert kubeadm_networks(text) == ClusterCIDRs(("10.244.0.0/16",), ("10.96.0.0/12",))


OF_BALANCERS = {
    "words": filled("", "a"),
    "numbers": filled("", "1"),
    "ports": filled("", "tcp:80"),
    "one long number": "9" * LIMIT,
    "tags": filled("", "k=v"),
    "equal signs": "=" * LIMIT,
}


@pytest.mark.parametrize("text", OF_BALANCERS)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_service_holds_the_event_loop_for_a_moment_only(kind: str, text: str) -> None:
    """Each annotation of a load balancer, as full as it may be."""
    table = KINDS[kind].annotations
    for suffix in table.known:
        full = service(HTTP, annotations={f"{table.prefix}{suffix}": OF_BALANCERS[text]}, type="LoadBalancer")

        def read(_: str, full: Service = full) -> object:
            return service_dry_run(full, KINDS[kind], BackendSnapshot((), (), {}), CONFIGURATION)

        assert min(_seconds(read, "") for _ in range(2)) < MOST_SECONDS, suffix


INTERFACES = ("eth0", *(f"net{number}" for number in range(1, 33)))


@pytest.mark.parametrize(("names", "pattern"), [(256, "a"), (1, "*a*b*"), (1, "*?" * 60)])
def test_the_pools_of_all_interfaces_hold_the_event_loop_for_a_moment_only(names: int, pattern: str) -> None:
    """An ADD of a pod with 33 interfaces took 9 s among 1,000 pools, in which the agent did nothing else."""
    listed = [pattern] * names
    text = json.dumps([{"interface": each, "ipv4": listed, "ipv6": listed} for each in INTERFACES])
    networks = InterfaceNetworks(tuple((each, "default/n") for each in INTERFACES))
    pod = PodContext("default", "p", "u", "n", networks, annotations={ours.POOLS: text})
    requests = [InterfaceRequest(each, IPAMConfig()) for each in INTERFACES]
    specs = (IPPoolSpec(f"10.{n >> 8}.{n & 255}.0/24", ipVersion=4) for n in range(1000))
    pools = [
        SpiderIPPool(metadata=ObjectMeta(name=f"auto4-shop-{n:05}-eth0"), spec=spec) for n, spec in enumerate(specs)
    ]

    def read(_: str) -> object:
        plan = allocation_plan(pod, requests, AddressPolicy(families=(4, 6)), pools)
        return select(plan.requests["net32", 4], pools)

    assert min(_seconds(read, text) for _ in range(2)) < MOST_SECONDS


def test_a_pod_names_so_many_patterns() -> None:
    pattern = "holds 67 patterns for names of pools; at most 66 are possible"
    with pytest.raises(BadConfig, match=f"annotation {ours.POOL} {pattern}"):
        READERS["ippool"](_entry(0).replace("[]", json.dumps(["*"] * 67)))
    entries = [{"interface": each, "ipv4": ["*"] * count} for each, count in (("eth0", 60), ("net1", 7))]
    with pytest.raises(BadConfig, match=f"annotation {ours.POOLS} {pattern}"):
        READERS["ippools"](json.dumps(entries))
    with pytest.raises(BadConfig, match=f"annotations of the Namespace {pattern}"):
        ours.namespace_pools({ours.NAMESPACE_POOLS[4]: json.dumps(["a[bc]"] * 67)})

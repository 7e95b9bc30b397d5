"""Users fill the annotations of their pods and Namespaces, and the configurations of their networks, to the last byte.

The agent and the controller read them on the event loop that all pods share.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION, NADSpec, NetworkAttachmentDefinition
from spiderpool.api.subnet import IP_NUMBER_ANNOTATION, RECLAIM, SUBNET_ANNOTATION, SUBNETS_ANNOTATION
from spiderpool.cloudcontroller.addresses import _assigned
from spiderpool.core import annotations as ours
from spiderpool.core.admission.multusconfig import _json_object
from spiderpool.core.admission.pod_injection import NewPod, with_nic_resources
from spiderpool.core.cloud.preallocation import ASSIGNED_ANNOTATION
from spiderpool.core.network.chains import read_network
from spiderpool.core.network.coordinator import requested_default_route
from spiderpool.core.network.pod_networks import MOST_NETWORKS, first_network, further_networks
from spiderpool.errors import BadConfig, SpiderpoolError

pytestmark = pytest.mark.unit

LIMIT = 256 * 1024
"""Bytes of all annotations of an object: TotalAnnotationSizeLimitB in apimachinery/pkg/api/validation."""
MOST_SECONDS = 0.1


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
    return _assigned(Node(metadata=ObjectMeta(name="n", annotations={ASSIGNED_ANNOTATION: text})))


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

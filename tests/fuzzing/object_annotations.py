"""Annotations of pods, Namespaces, Nodes and pools: an input is a JSON object of them.

A value that is no text stands for its JSON, so that a seed can be read. Each kind of object gets all of them. Under
``compressedRanges`` stands what a pool's status has there, a list of bytes before they are deflated, or a text; under
``server`` the spec of a SpiderServer, which the agent of a node writes.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any

import msgspec

from spiderpool.api.cni import IPAMConfig
from spiderpool.api.core_v1 import Namespace, Node, NodeSpec, Pod
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.spiderserver import Instance, SpiderServer
from spiderpool.core import annotations as ours
from spiderpool.core.admission.pod_injection import NewPod, injection_request, network_selector, with_nic_resources
from spiderpool.core.cloud import nodes
from spiderpool.core.cloud.alibaba.provider_ids import parse_provider_id
from spiderpool.core.cloud.eni_pools import ENIClaim, new_pool, patch_of, plan_update, releasing, releasing_words
from spiderpool.core.cloud.instances import described, devices_of, reported_devices
from spiderpool.core.cloud.loadbalancer.backends import reported_enis
from spiderpool.core.cloud.preallocation import assigned_of, releasing_of
from spiderpool.core.ipam import hints, unused_annotations
from spiderpool.core.ipam.candidates import allocation_plan
from spiderpool.core.ipam.endpoints import _custom_routes, _has_clean_gateway
from spiderpool.core.ipam.pod_context import (
    AddressPolicy,
    InterfaceNetworks,
    InterfaceRequest,
    PodSurroundings,
    pod_context,
)
from spiderpool.core.ipam.selection import select
from spiderpool.core.network.attachment import AttachmentPolicy, PodAttachment, plan_pod
from spiderpool.core.network.coordinator import requested_default_route
from tests.fuzzing.parts import each_alone

RANGES, SERVER = "compressedRanges", "server"
NETWORKS = AttachmentPolicy("kube-system/default", "kube-system")
ADDRESSES = AddressPolicy(families=(4, 6))
CONFIG = json.dumps(
    {
        "cniVersion": "1.0.0",
        "name": "underlay",
        "plugins": [{"type": "macvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}],
    }
)
POOLS = tuple(
    SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(subnet, ipVersion=version, default=name != "pool"))
    for name, subnet, version in (("pool", "10.6.0.0/16", 4), ("pool4", "10.7.0.0/16", 4), ("pool6", "fd00::/64", 6))
)


def run(data: bytes) -> None:
    """Read annotations as those of every kind of object that may have them."""
    found = annotations_of(data)
    metadata = ObjectMeta(name="name", namespace="default", uid="uid", annotations=found)
    each_alone(*_of_pod(Pod(metadata=metadata), found), *_of_others(metadata, found))


def annotations_of(data: bytes) -> dict[str, str]:
    """The annotations of an input; the whole input as the value of one where it is no JSON object."""
    text = data.decode(errors="replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return dict.fromkeys((ours.POOLS, "k8s.v1.cni.cncf.io/networks"), text)
    return {key: _ranges_of(each) if key == RANGES else _text_of(each) for key, each in found.items()}


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _ranges_of(value: Any) -> str:
    if not isinstance(value, list):
        return _text_of(value)
    content = bytes(each & 255 for each in value if isinstance(each, int))
    return base64.b64encode(zlib.compress(content)).decode()


def _of_pod(pod: Pod, found: dict[str, str]) -> Iterator[Callable[[], object]]:
    yield lambda: _attach(pod)
    yield partial(ours.interface_pools, found, "eth0")
    yield partial(ours.all_interface_pools, found)
    yield partial(ours.all_interface_subnets, found)
    yield partial(ours.custom_routes, found)
    yield partial(ours.ip_number, found)
    yield partial(ours.reclaims_pool, found)
    yield partial(requested_default_route, found)
    yield lambda: (_custom_routes(pod), _has_clean_gateway(pod, "eth0"))
    yield lambda: [*unused_annotations.unused_keys(found, found)]
    yield lambda: [*unused_annotations.unused_interfaces(found, ["eth0", "net1"])]
    yield lambda: [*unused_annotations.unused_routes(found, ["10.6.0.9/16"])]
    yield lambda: _inject(NewPod(metadata=pod.metadata), found)


def _attach(pod: Pod) -> None:
    """What the agent decides for an ADD before it makes anything."""
    definition = NetworkAttachmentDefinition(metadata=ObjectMeta(name="n"), spec=NADSpec(config=CONFIG))
    attachment = plan_pod(pod, "eth0", NETWORKS, lambda _: definition)
    each_alone(lambda: _choose(pod, attachment.networks, attachment), lambda: _choose(pod, attachment.networks, None))


def _choose(pod: Pod, networks: InterfaceNetworks, attachment: PodAttachment | None) -> None:
    """The pools of its interfaces; without an attachment, of eth0 alone."""
    requests = attachment.address_requests if attachment else (InterfaceRequest("eth0", IPAMConfig()),)
    namespace = Namespace(metadata=pod.metadata)
    context = pod_context(pod, networks, PodSurroundings("node", None, namespace, (), "uid"), ADDRESSES)
    for request in allocation_plan(context, requests, ADDRESSES, POOLS).requests.values():
        select(request, POOLS)


def _inject(pod: NewPod, found: Mapping[str, str]) -> None:
    request = injection_request(found)
    each_alone(
        lambda: network_selector(request) if request else "", lambda: with_nic_resources(pod, "default", "system", [])
    )


def _of_others(metadata: ObjectMeta, found: dict[str, str]) -> Iterator[Callable[[], object]]:
    node = Node(metadata=metadata, spec=NodeSpec(providerID="cn-hangzhou.i-1"))
    server = found.get(SERVER)
    yield partial(ours.namespace_pools, found)
    yield lambda: _identify(node, server or "{}")
    yield lambda: assigned_of(node)
    for pool in _pools(metadata, found):
        yield partial(_give_back, pool)


def _give_back(pool: SpiderIPPool) -> object:
    read = [hints.read(pool, version) for version in (4, 6)]
    return releasing(pool), releasing_words(pool), releasing_of(pool), read


def _identify(node: Node, text: str) -> None:
    """What the description of a node's server decides; one that fits no type never gets here."""
    try:
        instance = msgspec.json.decode(text, type=Instance)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return
    (known,) = described([node], [SpiderServer.of(node, instance)])
    reported_devices([devices_of(known)])
    reported_enis([known])
    if known is not None:
        nodes.mismatch(node, known, parse_provider_id)
        nodes.identity_patch(node, known)
        for eni, version in product(known.enis, (4, 6)):
            _make_pool(ENIClaim(node.name, known, eni, ready=True), version)


def _make_pool(claim: ENIClaim, version: int) -> None:
    """The pool of an ENI. What was made needs no update."""
    pool = new_pool("pool", claim, version, POOLS, "kube-system")
    if pool is not None:
        assert patch_of(pool, plan_update(pool, claim, [], POOLS, "kube-system")) is None


def _pools(metadata: ObjectMeta, found: Mapping[str, str]) -> Iterator[SpiderIPPool]:
    status = IPPoolStatus(compressedRanges=found.get(RANGES))
    for subnet in ("10.0.0.0/8", "fd00::/64"):
        yield SpiderIPPool(metadata=metadata, spec=IPPoolSpec(subnet), status=status)

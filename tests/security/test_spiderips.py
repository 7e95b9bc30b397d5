"""Whoever may write SpiderIPs, or an older version, leaves one that is no record of an address."""

from __future__ import annotations

import asyncio
import json

import pytest

from spiderpool.api.core_v1 import Event, Node
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.controller.pools import PoolListers, PoolReconciler
from spiderpool.core.addresses import object_name
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.conditions import StatusTimings
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool_lab.control_plane import ControlPlane
from tests.support.api_server import ApiServer
from tests.support.eventually import eventually

BAD = [
    ("10.6.0.5", "999.6.0.5/16"),
    ("10.6.0.5", "10.6.0.5"),
    ("10.6.0.5", "10.6.0.5/33"),
    ("10.6.0.5", "10.6.0.05/16"),
    ("10.6.0.5", ":/16"),
    ("10.6.0.5", "fd00::1::2/64"),
    ("10.6.0.5", "x" * 5000),
    ("10.6.0.5", "10.6.0.6/16"),
    ("evil", "10.6.0.6/16"),
    ("fd00--6", "fd00::6/64"),
    ("fd00-0000-0000-0000-0000-0000-0000-0006", "fd00::7/64"),
]
"""Name and address."""

ADDRESSES = [
    *("10.6.0.5/16", "0.0.0.0/0", "255.255.255.255/32", "fd00::6/64", "::/0", "::1/128", "fd00::/8", "fd00:0:0:1::/64"),
    *("1:2:3:4:5:6:7:8/128", "fe80::1:2:3:4/64", "2001:db8:a:bb:ccc::dddd/64", "1::8/128", "1:2:3:4:5:6:7::/112"),
]


def record(name: str, address: str) -> SpiderIP:
    return SpiderIP(metadata=ObjectMeta(name=name), spec=IPSpec(address, "p", "n", "ns", "web", "u", "eth0"))


@pytest.mark.unit
@pytest.mark.parametrize(("name", "address"), BAD)
async def test_a_bad_record_blocks_the_status_of_no_pool(
    name: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = (SpiderIPPool, SpiderIP, Node, NetworkAttachmentDefinition, Event)
    async with ApiServer(*(kind.KIND for kind in kinds)) as server, server.client() as client:
        spec = IPPoolSpec(subnet="10.6.0.0/16", ips=["10.6.0.1-10.6.0.9"])
        server.put(SpiderIPPool(metadata=ObjectMeta(name="p"), spec=spec))
        server.put(record(name, address), record("10.6.0.1", "10.6.0.1/16"))
        recorder = Recorder(client, "test")
        pools, ips = Informer(client, SpiderIPPool), Informer(client, SpiderIP)
        nodes, networks = Informer(client, Node), Informer(client, NetworkAttachmentDefinition)
        listers = PoolListers(pools, ips, nodes, networks)
        reconciler = PoolReconciler(client, listers, recorder, namespace="ours", timings=StatusTimings(0.0))
        tasks = [asyncio.create_task(each.run()) for each in (pools, ips, nodes, networks, recorder, reconciler)]
        try:

            def counted() -> bool:
                status = server.stored(SpiderIPPool)["p"].status
                return status is not None and status.allocatedIPCount == 1

            await eventually(counted, "the pool's status counts the good record alone")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert "object left out, it cannot be read" in capsys.readouterr().out, "somebody must hear of it"


@pytest.mark.unit
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_good_record_is_not_left_out(address: str) -> None:
    assert record(object_name(address.partition("/")[0]), address).defect() is None


def _document(name: str, address: str) -> str:
    spec = {"address": address, "pool": "p", "node": "n", "namespace": "ns", "pod": "web", "podUID": "u"}
    body = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIP", "metadata": {"name": name}}
    return json.dumps(body | {"spec": spec | {"interface": "eth0"}})


@pytest.mark.control_plane
def test_the_api_server_takes_no_bad_record_and_every_good_one(control_plane: ControlPlane) -> None:
    for name, address in BAD:
        with pytest.raises(SpiderpoolError, match="is invalid"):
            control_plane.kubectl("create", "-f", "-", input=_document(name, address))
    names = [object_name(address.partition("/")[0]) for address in ADDRESSES]
    try:
        for name, address in zip(names, ADDRESSES, strict=True):
            control_plane.kubectl("create", "-f", "-", input=_document(name, address))
        found = json.loads(control_plane.kubectl("get", "spiderips", "-o", "json"))["items"]
        assert {each["metadata"]["name"] for each in found} >= {*names}
    finally:
        control_plane.kubectl("delete", "spiderips", *names, "--ignore-not-found")

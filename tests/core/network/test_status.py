"""The annotation that shows a pod's interfaces."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from spiderpool.api.cni_result import Result, ResultInterface, ResultIP
from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.nad import NetworkDNS
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SpiderNode
from spiderpool.core.network.status import AttachedNetwork, network_status, status_of, status_text

pytestmark = pytest.mark.unit

ETH0 = Result(
    (ResultIP("10.0.0.5/24", "10.0.0.253", 0), ResultIP("fd00::5/64", None, 0)),
    (("0.0.0.0/0", "10.0.0.253"),),
    (ResultInterface("eth0", "00:16:3e:00:00:01", 1500, "/ns"),),
)


def test_one_entry_for_each_interface() -> None:
    further = Result((ResultIP("10.1.0.5/24", "10.1.0.253", 0),), (), (ResultInterface("net1", "", 0, "/ns"),))
    attached = [
        AttachedNetwork("kube-system/ipvlan-eth0", "eth0", ETH0),
        AttachedNetwork("default/ipvlan-eth1", "net1", further, ("10.1.0.253",)),
    ]
    text = status_text(network_status(attached))
    assert json.loads(text) == [
        {
            "name": "kube-system/ipvlan-eth0",
            "interface": "eth0",
            "ips": ["10.0.0.5", "fd00::5"],
            "mac": "00:16:3e:00:00:01",
            "mtu": 1500,
            "default": True,
            "dns": {},
        },
        {"name": "default/ipvlan-eth1", "interface": "net1", "ips": ["10.1.0.5"], "dns": {}, "gateway": ["10.1.0.253"]},
    ]
    assert text.startswith('[\n    {\n        "name"')


def test_the_interface_with_a_gateway_is_the_default_of_several() -> None:
    result = Result(
        (ResultIP("10.0.0.5/24", None, 1), ResultIP("10.1.0.5/24", "10.1.0.1", 2)),
        (),
        (ResultInterface("veth9"), ResultInterface("eth0", sandbox="/ns"), ResultInterface("eth1", sandbox="/ns")),
    )
    entries = json.loads(status_text(network_status([AttachedNetwork("ns/a", "eth0", result)])))
    assert [(entry["interface"], entry["ips"], "default" in entry) for entry in entries] == [
        ("eth0", ["10.0.0.5"], False),
        ("eth1", ["10.1.0.5"], True),
    ]


def test_a_result_without_interfaces_has_the_name_of_the_requested_interface() -> None:
    attached = AttachedNetwork("ns/a", "net1", Result((ResultIP("10.0.0.5/24", None),)))
    assert json.loads(status_text(network_status([attached]))) == [
        {"name": "ns/a", "interface": "net1", "ips": ["10.0.0.5"], "default": True, "dns": {}}
    ]


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ({"nameservers": ["10.0.0.2"], "search": ["a.b"]}, NetworkDNS(["10.0.0.2"], search=["a.b"])),
        ({"nameservers": "10.0.0.2"}, NetworkDNS()),
        ({"unheard": 1}, NetworkDNS()),
    ],
)
def test_the_dns_of_a_plugin(told: dict[str, object], known: NetworkDNS) -> None:
    (entry,) = network_status([AttachedNetwork("ns/a", "eth0", replace(ETH0, dns=told))])
    assert entry.dns == known


ENTRIES = list(network_status([AttachedNetwork("ns/a", "eth0", ETH0)]))
SANDBOX = NodeSandbox("u1", "ns", "web", "c1", None, ENTRIES)
POD = Pod(metadata=ObjectMeta(name="web", namespace="ns", uid="u1"), spec=PodSpec(nodeName="n1"))


def account(name: str, *sandboxes: NodeSandbox) -> SpiderNode:
    return SpiderNode(metadata=ObjectMeta(name=name), status=NodeAccount(sandboxes=list(sandboxes)))


def test_a_node_tells_what_its_own_pods_have() -> None:
    assert status_of(POD, account("n1", SANDBOX)) == status_text(ENTRIES)
    former = changed(SANDBOX, containerID="c0", networks=None)
    assert status_of(POD, account("n1", former, SANDBOX)) == status_text(ENTRIES)
    static = changed(POD, metadata=changed(POD.metadata, uid="m", annotations={"kubernetes.io/config.hash": "u1"}))
    assert status_of(static, account("n1", SANDBOX)) == status_text(ENTRIES)


@pytest.mark.parametrize(
    ("name", "sandbox"),
    [
        ("n2", SANDBOX),
        ("n1", changed(SANDBOX, podUID="u2")),
        ("n1", changed(SANDBOX, pod="other")),
        ("n1", changed(SANDBOX, networks=None)),
    ],
)
def test_a_node_tells_nothing_of_other_pods(name: str, sandbox: NodeSandbox) -> None:
    assert status_of(POD, account(name, sandbox)) is None
    assert status_of(POD, SpiderNode(metadata=ObjectMeta(name=name))) is None
    unbound = changed(POD, spec=PodSpec())
    assert status_of(unbound, account("", sandbox)) is None

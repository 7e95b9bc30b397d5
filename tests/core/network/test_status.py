"""The annotation that shows a pod's interfaces."""

from __future__ import annotations

import json

import pytest

from spiderpool.api.cni_result import Result, ResultInterface, ResultIP
from spiderpool.core.network.status import AttachedNetwork, network_status

pytestmark = pytest.mark.unit

ETH0 = Result(
    (ResultIP("10.0.0.5/24", "10.0.0.253", 0), ResultIP("fd00::5/64", None, 0)),
    (("0.0.0.0/0", "10.0.0.253"),),
    (ResultInterface("eth0", "00:16:3e:00:00:01", 1500, "/ns"),),
)


def test_one_entry_for_each_interface() -> None:
    further = Result((ResultIP("10.1.0.5/24", "10.1.0.253", 0),), (), (ResultInterface("net1", "", 0, "/ns"),))
    text = network_status(
        [
            AttachedNetwork("kube-system/ipvlan-eth0", "eth0", ETH0),
            AttachedNetwork("default/ipvlan-eth1", "net1", further, ("10.1.0.253",)),
        ]
    )
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
    entries = json.loads(network_status([AttachedNetwork("ns/a", "eth0", result)]))
    assert [(entry["interface"], entry["ips"], "default" in entry) for entry in entries] == [
        ("eth0", ["10.0.0.5"], False),
        ("eth1", ["10.1.0.5"], True),
    ]


def test_a_result_without_interfaces_has_the_name_of_the_requested_interface() -> None:
    entries = json.loads(network_status([AttachedNetwork("ns/a", "net1", Result((ResultIP("10.0.0.5/24", None),)))]))
    assert entries == [{"name": "ns/a", "interface": "net1", "ips": ["10.0.0.5"], "default": True, "dns": {}}]

"""What kubectl shows of our objects, and by which fields it selects them, on a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from spiderpool.errors import SpiderpoolError
from spiderpool_lab.control_plane import ControlPlane

pytestmark = pytest.mark.control_plane

POOLS = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: one, labels: {ipam.spidernet.io/node: n1}}
spec: {subnet: 10.98.0.0/24, ipVersion: 4, ips: [10.98.0.7-10.98.0.9], nodeName: [n1]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: two}
spec: {subnet: 10.98.1.0/24, ipVersion: 4, ips: [10.98.1.7-10.98.1.9], nodeName: [n1, n2]}
"""
NETWORKS = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: children, namespace: default}
spec: {cniType: ipvlan, ipvlan: {master: [eth0], vlanID: 7}}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: bonded, namespace: default}
spec: {cniType: macvlan, macvlan: {master: [eth1, eth2], bond: {name: bond0, mode: 1}}}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: own, namespace: default}
spec: {cniType: custom, customCNI: '{"type": "bridge"}'}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderCoordinator
metadata: {name: views}
spec: {mode: auto}
"""
READY = {"type": "Ready", "status": "True", "reason": "Ready", "message": "m"}
RECORD = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIP
metadata: {name: ADDRESS}
spec: {address: ADDRESS/24, pool: one, node: n1, namespace: shop, pod: POD, podUID: uid-POD, interface: eth0}
"""
SELECTABLE_FROM = (1, 31)
"""The first Kubernetes that selects custom resources by fields, unless a feature gate is set."""


@pytest.fixture
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with objects of ours, which are gone afterwards."""
    control_plane.apply(POOLS, NETWORKS)
    addresses = {"10.98.0.7": "web-1", "10.98.0.8": "web-2"}
    control_plane.apply(*(RECORD.replace("ADDRESS", ip).replace("POD", pod) for ip, pod in addresses.items()))
    yield control_plane
    networks = ("smc/children", "smc/bonded", "smc/own", "scc/views")
    records = (f"spiderips/{address}" for address in addresses)
    control_plane.kubectl("delete", *records, "spiderippools/one", "spiderippools/two", *networks)


def shown(plane: ControlPlane, kind: str) -> dict[str, dict[str, str]]:
    """The rows of ``kubectl get -o wide`` by their names, without cells that are empty."""
    titles, *lines = plane.kubectl("get", kind, "-o", "wide").splitlines()
    names = titles.split()
    begins = [titles.index(f" {name}") + 1 if number else 0 for number, name in enumerate(names)]
    ends = [*begins[1:], None]
    rows = ([line[begin:end].strip() for begin, end in zip(begins, ends, strict=True)] for line in lines)
    return {row[0]: {name: cell for name, cell in zip(names, row, strict=True) if cell} for row in rows}


def test_networks_and_the_coordinator_show_what_they_are(plane: ControlPlane) -> None:
    status = json.dumps({"status": {"conditions": [READY]}})
    plane.kubectl("patch", "smc", "children", "--subresource=status", "--type=merge", "-p", status)
    plane.kubectl(
        "patch", "scc", "views", "--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Synced"}}'
    )
    networks = shown(plane, "smc")
    assert {"TYPE": "ipvlan", "MASTER": "eth0", "READY": "True", "VLAN": "7"}.items() <= networks["children"].items()
    assert {"TYPE": "macvlan", "MASTER": "eth1", "BOND": "bond0"}.items() <= networks["bonded"].items()
    assert (networks["own"]["TYPE"], "MASTER" in networks["own"]) == ("custom", False)
    assert {"MODE": "auto", "PHASE": "Synced"}.items() <= shown(plane, "scc")["views"].items()


def test_the_node_of_a_pool_is_readable_and_several_are_not_shortened(plane: ControlPlane) -> None:
    pools = shown(plane, "spiderippools")
    assert (pools["one"]["NODE"], "NODE" in pools["two"]) == ("n1", False)
    assert pools["two"]["NODENAME"] == '["n1","n2"]'


def test_the_addresses_of_a_pod_are_selected_by_its_fields(plane: ControlPlane) -> None:
    server = json.loads(plane.kubectl("version", "-o", "json"))["serverVersion"]
    version = int(server["major"]), int(server["minor"].rstrip("+"))
    select = ("get", "spiderips", "-o", "name", "--field-selector")
    if version < SELECTABLE_FROM:
        with pytest.raises(SpiderpoolError, match=r"field label not supported: spec\.pod"):
            plane.kubectl(*select, "spec.pod=web-1")
        return
    found = plane.kubectl(*select, "spec.namespace=shop,spec.pod=web-1").split()
    assert found == ["spiderip.spiderpool.spidernet.io/10.98.0.7"]
    assert plane.kubectl(*select, "spec.podUID=uid-web-2").split() == ["spiderip.spiderpool.spidernet.io/10.98.0.8"]
    assert plane.kubectl(*select, "spec.namespace=other").split() == []
    assert len(plane.kubectl(*select, "spec.node=n1,spec.pool=one,spec.interface=eth0").split()) == 2

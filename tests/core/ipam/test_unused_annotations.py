"""What an Event says of annotations without effect."""

from __future__ import annotations

import json

import pytest

from spiderpool.core.annotations import DEFAULT_ROUTE_NIC, POOLS, ROUTES
from spiderpool.core.ipam import unused_annotations
from spiderpool.core.ipam.unused_annotations import (
    FOREIGN_KEYS,
    MOST,
    NAMESPACE_KEYS,
    POD_KEYS,
    unused_interfaces,
    unused_keys,
    unused_routes,
    unused_subnets,
)

pytestmark = pytest.mark.unit

P = "ipam.spidernet.io"


def test_keys_that_somebody_reads() -> None:
    others = {"example.com/ippool": "", "k8s.v1.cni.cncf.io/resourceName": "", "cloud.spidernet.io/x": "", "plain": ""}
    assert list(unused_keys({**dict.fromkeys((*POD_KEYS, *FOREIGN_KEYS), ""), **others}, {**others})) == []
    assert list(unused_keys({}, dict.fromkeys(NAMESPACE_KEYS, ""))) == []


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        (f"{P}/ipool", f"; did you mean {P}/ippool?"),
        (f"{P}/Subnets", f"; did you mean {P}/subnets?"),
        (f"{P}/default-route-nics", f"; did you mean {P}/default-route-nic?"),
        ("k8s.v1.cni.cncf.io/network", "; did you mean k8s.v1.cni.cncf.io/networks?"),
        ("v1.multus-cni.io/default-networks", "; did you mean v1.multus-cni.io/default-network?"),
        ("cni.spidernet.io/rdma-resources-inject", "; did you mean cni.spidernet.io/rdma-resource-inject?"),
        ("multus.spidernet.io/x", ""),
    ],
)
def test_a_misspelt_key(key: str, hint: str) -> None:
    (said,) = unused_keys({key: "{}"}, {})
    assert said == f"annotation {key} has no effect: there is no such annotation{hint}"


def test_a_key_that_the_namespace_has_in_vain() -> None:
    (said,) = unused_keys({}, {f"{P}/default-ipv4-ipool": "[]"})
    assert said == (
        f"annotation {P}/default-ipv4-ipool of the Namespace has no effect: there is no such annotation; "
        f"did you mean {P}/default-ipv4-ippool?"
    )
    assert len(list(unused_keys({f"{P}/default-ipv4-ippool": "[]"}, {f"{P}/ippool": "{}"}))) == 2


@pytest.mark.parametrize("prefix", [P, "k8s.v1.cni.cncf.io"])
def test_of_thousands_of_keys_few_are_compared(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(key: str, *_: object, **__: object) -> list[str]:
        compared.append(key)
        return []

    monkeypatch.setattr(unused_annotations, "get_close_matches", compare)
    keys = dict.fromkeys((f"{prefix}/{number}" for number in range(5_000)), "")
    said = list(unused_keys({**keys, **dict.fromkeys(map(str, range(5_000)), "")}, {}))
    assert len(compared) == MOST
    assert len(said) == (MOST if prefix == P else 0)


INTERFACES = ("eth0", "net1")


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({}, None),
        ({DEFAULT_ROUTE_NIC: "net1"}, None),
        ({DEFAULT_ROUTE_NIC: ""}, None),
        (
            {DEFAULT_ROUTE_NIC: "net7"},
            f"annotation {DEFAULT_ROUTE_NIC} has no effect for net7: {{}}; did you mean net1?",
        ),
        (
            {DEFAULT_ROUTE_NIC: "eth0@"},
            f"annotation {DEFAULT_ROUTE_NIC} has no effect for eth0@: {{}}; did you mean eth0?",
        ),
        ({DEFAULT_ROUTE_NIC: "x"}, f"annotation {DEFAULT_ROUTE_NIC} has no effect for x: {{}}; it has eth0, net1"),
        ({POOLS: "{", f"{P}/subnet": "["}, None),
        ({POOLS: json.dumps([{"ipv4": ["a"]}])}, None),
        ({POOLS: json.dumps([{"interface": "eth0", "ipv4": ["a"]}])}, None),
        (
            {POOLS: json.dumps([{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net2", "ipv4": ["b"]}])},
            f"annotation {POOLS} has no effect for net2: {{}}; did you mean net1?",
        ),
        (
            {f"{P}/subnet": json.dumps({"interface": "net3", "ipv4": ["a"]})},
            f"annotation {P}/subnet has no effect for net3: {{}}; did you mean net1?",
        ),
        (
            {f"{P}/subnets": json.dumps([{"interface": "eth01", "ipv4": ["a"]}])},
            f"annotation {P}/subnets has no effect for eth01: {{}}; did you mean eth0?",
        ),
    ],
)
def test_an_interface_that_the_pod_does_not_have(annotations: dict[str, str], said: str | None) -> None:
    expected = [said.format("the pod has no such interface")] if said else []
    assert list(unused_interfaces(annotations, INTERFACES)) == expected


def test_subnets_that_are_switched_off() -> None:
    pod = {f"{P}/subnets": "[]", f"{P}/subnet": "{}", f"{P}/ippool": "{}"}
    assert list(unused_subnets(pod, enabled=True)) == []
    assert list(unused_subnets(pod, enabled=False)) == [
        f"annotation {P}/{key} has no effect: enableSpiderSubnet is false in the ConfigMap"
        for key in ("subnets", "subnet")
    ]


@pytest.mark.parametrize(
    ("gateway", "addresses", "reachable"),
    [
        ("10.6.0.1", ["10.6.1.7/16"], None),
        ("10.6.0.1", ["10.7.1.7/16", "10.6.1.7/16"], None),
        ("10.8.0.1", ["10.7.1.7/16", "10.6.1.7/16", "10.6.1.8/16"], "10.7.0.0/16, 10.6.0.0/16"),
        ("10.8.0.1", [], "none"),
    ],
)
def test_a_route_to_a_gateway_that_the_pod_cannot_reach(
    gateway: str, addresses: list[str], reachable: str | None
) -> None:
    annotations = {ROUTES: json.dumps([{"dst": "10.99.0.0/16", "gw": gateway}])}
    said = (
        f"annotation {ROUTES}: the route to 10.99.0.0/16 has no effect, since its gateway {gateway} is in no subnet of "
        f"the pod ({reachable})"
    )
    assert list(unused_routes(annotations, addresses)) == ([said] if reachable else [])

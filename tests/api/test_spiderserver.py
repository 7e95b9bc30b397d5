"""SpiderServer: what a server is, and of which Node."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import SpiderServer
from tests.core.servers import MASTER

pytestmark = pytest.mark.unit


def node(uid: str, name: str = "master") -> Node:
    return Node(metadata=ObjectMeta(name=name, uid=uid))


def test_it_belongs_to_one_node_not_to_all_of_its_name() -> None:
    made = SpiderServer.of(node("u1"), MASTER)
    assert made.is_of(node("u1"))
    assert not made.is_of(node("u2"))
    assert not made.is_of(node("u1", "other"))
    assert not SpiderServer(metadata=ObjectMeta(name="master"), spec=MASTER).is_of(node("u1"))


def test_it_is_written_as_kubernetes_writes_names_and_without_what_is_absent() -> None:
    written = msgspec.to_builtins(SpiderServer.of(node("u1"), MASTER))["spec"]
    assert {"id", "instanceType", "enis"} <= written.keys()
    assert {"id", "primaryAddress", "ipv6Addresses"} <= written["enis"][0].keys()
    assert None not in written["enis"][0].values(), "a CRD takes no null"
    assert msgspec.convert(written, type(MASTER)) == MASTER


def test_addresses_of_an_eni_by_family() -> None:
    eni = MASTER.enis[0]
    assert (eni.addresses_of(4), eni.addresses_of(6)) == (eni.addresses, eni.ipv6_addresses)
    assert (eni.subnet_of(4), eni.subnet_of(6)) == (eni.subnet, eni.subnet6)
    unnamed = msgspec.structs.replace(eni, gateway=None, gateway6=None, subnet6=None)
    assert (unnamed.gateway_of(4), unnamed.gateway_of(6)) == ("172.31.207.253", None)
    assert msgspec.structs.replace(unnamed, subnet="10.0.0.8/31").gateway_of(4) is None


def test_all_addresses_of_an_eni() -> None:
    eni = msgspec.structs.replace(
        MASTER.enis[0], primary_address="10.0.0.1", addresses=("10.0.0.2",), ipv6_addresses=("fd00::2",)
    )
    assert eni.pod_addresses == ("10.0.0.2", "fd00::2")
    assert eni.all_addresses == ("10.0.0.1", "10.0.0.2", "fd00::2")


def test_the_names_of_a_server() -> None:
    assert MASTER.provider_id == f"{MASTER.region}.{MASTER.identity}"
    assert MASTER.primary == MASTER.eni(MASTER.enis[0].identity)
    assert MASTER.eni("other") is None

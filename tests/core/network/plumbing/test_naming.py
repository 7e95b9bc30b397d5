"""Names and MACs that follow from a container and an interface."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.core.network.plumbing.naming import (
    host_interface,
    is_nic,
    pod_mac,
    temporary_name,
    unicast_mac,
    veth_mac,
)
from spiderpool.errors import BadConfig

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("prefix", "addresses", "mac"),
    [
        ("0a:1b", ("172.31.199.187",), "0a:1b:ac:1f:c7:bb"),
        ("0A-1B", ("2001:db8::7", "172.31.199.187"), "0a:1b:ac:1f:c7:bb"),
        ("0a:1b", ("2001:db8::a:7",), "0a:1b:00:0a:00:07"),
    ],
)
def test_mac_from_prefix_and_address(prefix: str, addresses: tuple[str, ...], mac: str) -> None:
    assert pod_mac(prefix, map(ip_address, addresses)) == mac


@given(container=st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,80}", fullmatch=True))
def test_names_and_macs_fit_the_kernel(container: str) -> None:
    assert len(host_interface(container)) <= 15
    assert len(temporary_name(container, "eth0")) <= 15
    mac = bytes.fromhex(veth_mac(container, "pod").replace(":", ""))
    assert len(mac) == 6
    assert mac[0] & 0x03 == 0x02
    assert veth_mac(container, "pod") != veth_mac(container, "node")


@pytest.mark.parametrize(
    ("prefix", "addresses", "words"),
    [
        ("0b:1b", ("172.31.199.187",), "'0b:1b' is not two bytes of a unicast MAC"),
        ("0a1b", ("172.31.199.187",), "as in 0a:1b"),
        ("0a:1b", (), "needs an address of the interface"),
    ],
)
def test_prefix_that_makes_no_mac(prefix: str, addresses: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        pod_mac(prefix, map(ip_address, addresses))


def test_mac_in_the_kernels_spelling() -> None:
    assert unicast_mac("0A-1B-2c-3D-4e-5F") == "0a:1b:2c:3d:4e:5f"
    for wrong in ("01:1b:2c:3d:4e:5f", "0a:1b:2c:3d:4e", "x"):
        with pytest.raises(BadConfig, match=f"MAC '{wrong}' is not a unicast MAC"):
            unicast_mac(wrong)


@pytest.mark.parametrize(
    ("link", "nic"),
    [("eth0", True), ("ens5", True), ("bond0", True), ("local0", True)]
    + [
        (name, False)
        for name in ("lo", "docker0", "veth12", "cali3f", "cni0", "kube-ipvs0", "flannel.1", "cilium_host")
    ],
)
def test_which_links_lead_outside(link: str, nic: bool) -> None:
    assert is_nic(link) is nic

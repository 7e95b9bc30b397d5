"""The walkthrough's servers, as their metadata describes them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from spiderpool.api.spiderserver import ENI, Instance

ETH0 = ENI(
    identity="eni-m0",
    mac="00:16:3e:00:00:01",
    primary=True,
    primary_address="172.31.199.183",
    addresses=("172.31.199.185", "172.31.199.186", "172.31.199.187"),
    ipv6_addresses=("2408:4005:3a0:b00::101", "2408:4005:3a0:b00::102"),
    vswitch="vsw-a",
    subnet="172.31.192.0/20",
    subnet6="2408:4005:3a0:b00::/64",
    gateway="172.31.207.253",
    gateway6=None,
    device="eth0",
)
ETH1 = ENI(
    identity="eni-m1",
    mac="00:16:3e:00:00:02",
    primary=False,
    primary_address="192.168.0.155",
    addresses=("192.168.0.156", "192.168.0.157"),
    ipv6_addresses=(),
    vswitch="vsw-b",
    subnet="192.168.0.0/24",
    subnet6=None,
    gateway="192.168.0.253",
    gateway6=None,
    device="eth1",
)
MASTER = Instance("alibaba", "cn-hangzhou", "cn-hangzhou-i", "i-master", "ecs.g7.large", (ETH0, ETH1))


def with_eni(instance: Instance, eni: ENI) -> Instance:
    """The instance with another version of one of its ENIs."""
    return replace(instance, enis=tuple(eni if each.identity == eni.identity else each for each in instance.enis))


def with_addresses(addresses: Iterable[str], instance: Instance = MASTER, eni: ENI = ETH1) -> Instance:
    """The instance with other secondary IPv4 addresses on one ENI."""
    return with_eni(instance, replace(eni, addresses=tuple(addresses)))

"""The pages of the metadata service for one instance, by path. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_network

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.resources import Instance, NetworkInterface

_MACS = "network/interfaces/macs"
_NAME_SERVERS = "100.100.2.136\n100.100.2.138"


def pages(account: Account, instance: Instance) -> dict[str, str]:
    """All pages below ``/latest/meta-data/`` except the credentials, by path."""
    enis = [eni for eni in account.enis_of(instance.identity) if eni.status == "InUse"]
    own = {
        "region-id": account.region,
        "zone-id": instance.zone,
        "instance-id": instance.identity,
        "hostname": instance.name,
        "instance/instance-type": instance.instance_type,
        "instance/instance-name": instance.name,
        "owner-account-id": account.owner,
        "network-type": "vpc",
        "dns-conf/nameservers": _NAME_SERVERS,
    }
    if eip := next((eip for eip in account.tables.eips if eip.instance == instance.identity), None):
        own["eipv4"] = eip.address
    for eni in enis:
        own.update({f"{_MACS}/{eni.mac}/{name}": text for name, text in _eni(account, eni).items()})
        if eni.primary:
            own.update(_primary(account, eni))
    return own


def page(contents: Mapping[str, str], path: str) -> str | None:
    """The page at a path, or the list of entries below it (folders end with a slash); None if there is neither."""
    path = path.strip("/")
    if path in contents:
        return contents[path]
    start = f"{path}/" if path else ""
    below = [name.removeprefix(start) for name in contents if name.startswith(start)]
    entries = {head + slash: None for head, slash, _ in (name.partition("/") for name in below)}
    return "\n".join(entries) if entries else None


def _primary(account: Account, eni: NetworkInterface) -> dict[str, str]:
    return {
        "mac": eni.mac,
        "private-ipv4": eni.address,
        "vpc-id": account.vpc.identity,
        "vpc-cidr-block": account.vpc.block,
        "vswitch-id": eni.vswitch,
        "vswitch-cidr-block": account.vswitch(eni.vswitch).block,
    }


def _eni(account: Account, eni: NetworkInterface) -> dict[str, str]:
    vswitch = account.vswitch(eni.vswitch)
    found = {
        "network-interface-id": eni.identity,
        "primary-ip-address": eni.address,
        "private-ipv4s": json.dumps(eni.addresses, separators=(",", ":")),
        "netmask": str(IPv4Network(vswitch.block).netmask),
        "gateway": vswitch.gateway,
        "vswitch-id": vswitch.identity,
        "vswitch-cidr-block": vswitch.block,
        "vpc-id": account.vpc.identity,
        "vpc-cidr-block": account.vpc.block,
    }
    if eni.prefixes:
        found["ipv4-prefixes"] = json.dumps(eni.prefixes, separators=(",", ":"))
    if vswitch.ipv6_block:
        found["vswitch-ipv6-cidr-block"] = vswitch.ipv6_block
        found["ipv6-gateway"] = vswitch.ipv6_gateway or ""
        found["vpc-ipv6-cidr-blocks"] = (
            f"[{account.vpc.ipv6_block or ip_network(vswitch.ipv6_block).supernet(new_prefix=56)}]"
        )
    if eni.ipv6_addresses:
        found["ipv6s"] = f"[{', '.join(eni.ipv6_addresses)}]"
    return found

"""The YAML or JSON file that describes an account for ``python -m spiderpool_lab.alibaba``.

A file that leaves something out gets the defaults of these classes. Unknown keys are errors.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_network

import msgspec

from spiderpool.errors import BadConfig
from spiderpool_lab.alibaba import addressing
from spiderpool_lab.alibaba.account import DEFAULT_VPC, Account, AccountSettings, ENIAddresses
from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.refusals import Refusal
from spiderpool_lab.alibaba.resources import VPC


class _Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A part of the file; its keys are in camel case."""


class VPCSection(_Section, frozen=True, kw_only=True):
    """The VPC of the account."""

    id: str = DEFAULT_VPC.identity
    cidr_block: str = DEFAULT_VPC.block
    ipv6_cidr_block: str | None = None


class VSwitchSection(_Section, frozen=True, kw_only=True):
    """A vSwitch. Without ``zone``, the vSwitch is in zone ``i`` of the region."""

    id: str
    cidr_block: str
    ipv6_cidr_block: str | None = None
    zone: str = ""


class ENISection(_Section, frozen=True, kw_only=True):
    """An ENI. Whatever is left out is chosen: the ID, the MAC address, the lowest free address of the vSwitch."""

    v_switch: str
    id: str = ""
    mac: str = ""
    address: str = ""
    secondary_addresses: tuple[str, ...] = ()
    ipv6_addresses: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()


class InstanceSection(_Section, frozen=True, kw_only=True):
    """An instance with its ENIs, the primary ENI first. Its ``role`` may call every action."""

    name: str
    id: str = ""
    type: str = "ecs.g7.large"
    zone: str = ""
    role: str | None = None
    enis: tuple[ENISection, ...] = ()


class AccessKeySection(_Section, frozen=True, kw_only=True):
    """An access key of a RAM user, who may call the actions that match ``allowed``."""

    name: str = "user"
    id: str = ""
    secret: str = ""
    allowed: tuple[str, ...] = ("*",)


class TopologyFile(_Section, frozen=True, kw_only=True):
    """The whole file."""

    region: str = "cn-hangzhou"
    vpc: VPCSection = VPCSection()
    v_switches: tuple[VSwitchSection, ...] = ()
    security_groups: tuple[str, ...] = ()
    instances: tuple[InstanceSection, ...] = ()
    access_keys: tuple[AccessKeySection, ...] = (AccessKeySection(),)


def _default_instance(number: int) -> InstanceSection:
    name = f"server-{number}"
    enis = tuple(
        ENISection(id=f"eni-{name}-{position}", v_switch=f"vsw-{position}", security_groups=("sg-0",))
        for position in (0, 1)
    )
    return InstanceSection(name=name, id=f"i-{name}", role="server", enis=enis)


DEFAULT = TopologyFile(
    v_switches=(
        VSwitchSection(id="vsw-0", cidr_block="172.31.192.0/20"),
        VSwitchSection(id="vsw-1", cidr_block="172.16.10.0/24"),
    ),
    security_groups=("sg-0",),
    instances=(_default_instance(1), _default_instance(2)),
)
"""Two servers with two ENIs each, one in each of two vSwitches."""


def parse(text: bytes) -> TopologyFile:
    """Parse YAML or JSON, which is a subset of YAML. Raises BadConfig."""
    try:
        return msgspec.yaml.decode(text, type=TopologyFile)
    except msgspec.MsgspecError as error:
        raise BadConfig(f"the topology is not valid: {error}") from error


def create_account(topology: TopologyFile) -> tuple[Account, list[CallerIdentity]]:
    """Create the account and its access keys. Raises BadConfig for references and addresses that cannot be."""
    if not topology.access_keys:
        raise BadConfig("the topology needs an access key")
    vpc = VPC(topology.vpc.id, topology.vpc.cidr_block, topology.vpc.ipv6_cidr_block)
    account = Account(AccountSettings(region=topology.region, vpc=vpc))
    try:
        for vswitch in topology.v_switches:
            _add_vswitch(account, vswitch)
        for group in topology.security_groups:
            account.add_security_group(identity=group)
        for instance in topology.instances:
            _add_instance(account, instance)
    except (ValueError, Refusal) as error:
        raise BadConfig(f"the topology is not valid: {error}") from error
    keys = [
        account.add_identity(key.name, key=key.id, secret=key.secret, allowed=key.allowed)
        for key in topology.access_keys
    ]
    return account, keys


def _add_vswitch(account: Account, section: VSwitchSection) -> None:
    for block in filter(None, (section.cidr_block, section.ipv6_cidr_block)):
        ip_network(block)
    account.add_vswitch(section.cidr_block, zone=section.zone, identity=section.id, ipv6_block=section.ipv6_cidr_block)


def _add_instance(account: Account, section: InstanceSection) -> None:
    if section.type not in account.tables.instance_types:
        known = ", ".join(instance_type.identity for instance_type in account.tables.instance_types)
        raise BadConfig(f"the instance type {section.type} is not one of {known}")
    instance = account.add_instance(
        section.name, zone=section.zone, instance_type=section.type, identity=section.id, role=section.role
    )
    if section.role is not None:
        account.add_role(section.role)
    for eni in section.enis:
        _add_eni(account, instance.identity, eni)


def _add_eni(account: Account, instance: str, section: ENISection) -> None:
    vswitch = account.vswitch(section.v_switch)
    chosen = [address for address in (section.address, *section.secondary_addresses) if address]
    for address in chosen:
        if not addressing.assignable(vswitch.block, address):
            raise BadConfig(f"the address {address} cannot be assigned in {vswitch.identity} ({vswitch.block})")
        if chosen.count(address) > 1 or address in account.used_addresses(vswitch.identity):
            raise BadConfig(f"the address {address} is given twice")
    for address in section.ipv6_addresses:
        if vswitch.ipv6_block is None or IPv6Address(address) not in IPv6Network(vswitch.ipv6_block):
            raise BadConfig(f"the address {address} is not in {vswitch.identity} ({vswitch.ipv6_block})")
    addresses = ENIAddresses(section.address, section.secondary_addresses, section.ipv6_addresses)
    eni = account.add_eni(
        vswitch.identity, instance=instance, mac=section.mac, identity=section.id, addresses=addresses
    )
    for group in section.security_groups:
        if group not in account.tables.security_groups:
            raise BadConfig(f"there is no security group {group}")
        account.join_security_group(eni.identity, group)

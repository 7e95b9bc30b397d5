"""The plugin chain of a network: attached by the agent itself where it can, by executing the plugins where not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spiderpool.api.cni import (
    DEFAULT_VERSION,
    LONGEST_CONFIG,
    ConfigList,
    CoordinatorConfig,
    IfacerConfig,
    InterfaceConfig,
    IPAMConfig,
    check_version,
    parse_network,
    parse_plugin,
    plugin_type,
)
from spiderpool.api.decoding import decode
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.network.coordinator import OwnCIDRs
from spiderpool.core.network.plumbing.parents import BOND_NAME, ParentLink, bond_options
from spiderpool.errors import BadConfig, Refused

INTERFACE_TYPES = ("ipvlan", "macvlan", "vlan", "host-device")
COORDINATOR_TYPE = "coordinator"
PARENT_TYPE = "ifacer"
IPAM_TYPE = "spiderpool"


@dataclass(frozen=True, slots=True)
class Chain:
    """A network that the agent attaches itself: one interface, its addresses, its coordinator settings."""

    name: str
    version: str
    """cniVersion of the configuration."""
    kind: str
    """Type of the interface plugin, one of INTERFACE_TYPES."""
    interface: InterfaceConfig
    ipam: IPAMConfig | None
    """None: the interface gets no address."""
    coordinator: CoordinatorConfig | None
    parent: ParentLink | None
    """The bond or VLAN that must exist on the node first."""

    @property
    def master(self) -> str:
        """The NIC that is the interface's parent, or for host-device the NIC that is moved into the pod."""
        return self.interface.device if self.kind == "host-device" else self.interface.master

    @property
    def host_rule_table(self) -> int:
        """The node's table with the routes to its pods, as the network names it; 0 where it does not."""
        return (self.coordinator.hostRuleTable if self.coordinator else None) or 0

    @property
    def cidrs(self) -> OwnCIDRs:
        """The cluster's CIDRs, as far as the network names them."""
        return OwnCIDRs.of(self.coordinator) if self.coordinator else OwnCIDRs()


@dataclass(frozen=True, slots=True)
class DelegatedNetwork:
    """A network whose plugins are executed in order, by the CNI protocol."""

    name: str
    version: str
    plugins: tuple[bytes, ...]
    """The JSON configuration of each plugin."""
    disable_check: bool = False

    @property
    def coordinated(self) -> bool:
        """Whether one of the plugins is the coordinator."""
        return any(plugin_type(raw) == COORDINATOR_TYPE for raw in self.plugins)

    @property
    def host_rule_table(self) -> int:
        """As of `Chain`; 0 also where it is no number, which the plugin refuses."""
        table = self._coordinator.get("hostRuleTable")
        return table if isinstance(table, int) else 0

    @property
    def cidrs(self) -> OwnCIDRs:
        """As of `Chain`; none also where they are no lists of texts, which the plugin refuses."""
        return OwnCIDRs(*(_texts(self._coordinator.get(key)) for key in ("overlayPodCIDR", "serviceCIDR")))

    @property
    def _coordinator(self) -> dict[str, Any]:
        coordinators = (raw for raw in self.plugins if plugin_type(raw) == COORDINATOR_TYPE)
        return next((decode(raw, longest=LONGEST_CONFIG) for raw in coordinators), {})

    def declares(self, capability: str) -> bool:
        """Whether one of the plugins has a capability."""
        plugins = (decode(raw, longest=LONGEST_CONFIG) for raw in self.plugins)
        return any((plugin.get("capabilities") or {}).get(capability) for plugin in plugins)


@dataclass(frozen=True, slots=True)
class Invocation:
    """The interface of a container for which plugins are executed."""

    container_id: str
    netns: str
    ifname: str
    cni_args: str
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    """Runtime configuration by capability; a plugin gets those that its configuration declares."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Put under ``args.cni`` of every plugin."""


def _texts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return None
    return tuple(value)


def read_network(network: str, definition: NetworkAttachmentDefinition | None) -> Chain | DelegatedNetwork:
    """The chain of a network.

    Raises Refused when it does not exist yet or has no configuration; BadConfig, UnknownPlugin, Unsupported or
    Undecodable when its configuration is wrong.
    """
    if definition is None:
        raise Refused(f"network {network} does not exist; create a SpiderMultusConfig or NetworkAttachmentDefinition")
    text = definition.spec.config if definition.spec else None
    if not text:
        raise Refused(f"network {network} has no configuration yet; create a SpiderMultusConfig of that name")
    config = parse_network(text)
    return _read(config.name or definition.name, config)


def _read(name: str, config: ConfigList) -> Chain | DelegatedNetwork:
    plugins = [(plugin_type(bytes(raw)), bytes(raw)) for raw in config.plugins]
    if not plugins:
        raise BadConfig(f"network {name} holds no plugin; add one, as in ipvlan")
    version = config.cniVersion or DEFAULT_VERSION
    if all(_is_built_in(kind, raw) for kind, raw in plugins) and all(_is_served(kind, raw) for kind, raw in plugins):
        return _chain(name, version, plugins)
    check_version(version)
    return DelegatedNetwork(name, version, tuple(raw for _, raw in plugins), config.disableCheck in (True, "true"))


def _is_built_in(kind: str, raw: bytes) -> bool:
    """Whether the agent does the work of a plugin itself. With an IPAM plugin other than ours it does not."""
    if kind not in INTERFACE_TYPES:
        return kind in (COORDINATOR_TYPE, PARENT_TYPE)
    config: dict[str, Any] = decode(raw, longest=LONGEST_CONFIG)
    ipam = config.get("ipam") or {}
    return not isinstance(ipam, dict) or (ipam.get("type") or IPAM_TYPE) == IPAM_TYPE


def _is_served(kind: str, raw: bytes) -> bool:
    """Whether the agent can do all that the configuration of a built-in plugin asks for.

    Raises UnknownPlugin for a key that no reference plugin has; BadConfig for one that no plugin could serve.
    """
    if kind not in INTERFACE_TYPES:
        return True
    config = parse_plugin(raw, InterfaceConfig)
    if kind == "vlan" and config.vlanMode == "auto":
        raise BadConfig(
            "vlanMode auto needs a provider that assigns VLAN IDs, and this agent has none: set vlanMode to manual, "
            "and vlanID"
        )
    if kind == "host-device":
        return bool(config.device) and not (config.useInterfaceNetwork or _other_nic_keys(config))
    named = bool(config.master) or kind == "vlan"  # the others find the NIC of the node's default route themselves
    return named and not config.linkInContainer and not config.bcqueuelen


def _other_nic_keys(config: InterfaceConfig) -> bool:
    return bool(config.hwaddr or config.kernelpath or config.pciBusID)


def _chain(name: str, version: str, plugins: list[tuple[str, bytes]]) -> Chain:
    parents = [raw for kind, raw in plugins if kind == PARENT_TYPE]
    interfaces = [(kind, raw) for kind, raw in plugins if kind in INTERFACE_TYPES]
    coordinators = [raw for kind, raw in plugins if kind == COORDINATOR_TYPE]
    order = [PARENT_TYPE] * len(parents) + [kind for kind, _ in interfaces] + [COORDINATOR_TYPE] * len(coordinators)
    if len(interfaces) != 1 or max(len(parents), len(coordinators)) > 1 or order != [kind for kind, _ in plugins]:
        raise BadConfig(
            f"network {name} must hold at most one {PARENT_TYPE}, then one of {', '.join(INTERFACE_TYPES)}, then at "
            f"most one {COORDINATOR_TYPE}; it holds {', '.join(kind for kind, _ in plugins)}"
        )
    kind, raw = interfaces[0]
    interface = parse_plugin(raw, InterfaceConfig)
    coordinator = parse_plugin(coordinators[0], CoordinatorConfig) if coordinators else None
    parent = parent_of(parse_plugin(parents[0], IfacerConfig)) if parents else None
    ipam = interface.ipam if interface.ipam and interface.ipam.type else None
    return Chain(name, version, kind, interface, ipam, coordinator, parent)


def parent_of(config: IfacerConfig) -> ParentLink:
    """The bond or VLAN that the plugin ``ifacer`` makes on the node. Raises BadConfig."""
    bond = config.bond
    return ParentLink(
        nics=tuple(config.interfaces),
        vlan_id=config.vlanID,
        bond_name=(bond.name if bond else "") or BOND_NAME,
        bond_mode=bond.mode if bond else 0,
        bond_options=bond_options((bond.options if bond else "") or ""),
    )


def configuration(network: DelegatedNetwork, raw: bytes, invocation: Invocation, previous: bytes) -> dict[str, Any]:
    """The configuration that an executed plugin reads on stdin (CNI specification 1.1.0, section 3)."""
    config: dict[str, Any] = decode(raw, longest=LONGEST_CONFIG)
    config |= {"name": network.name, "cniVersion": network.version}
    declared = config.get("capabilities") or {}
    runtime = {name: value for name, value in invocation.capabilities.items() if declared.get(name)}
    if runtime:
        config["runtimeConfig"] = runtime
    if invocation.capabilities.get("deviceID"):
        config |= {"deviceID": invocation.capabilities["deviceID"], "pciBusID": invocation.capabilities["deviceID"]}
    if invocation.arguments:
        args = config.get("args") or {}
        config["args"] = args | {"cni": (args.get("cni") or {}) | dict(invocation.arguments)}
    if previous:
        config["prevResult"] = decode(previous, longest=LONGEST_CONFIG)
    return config

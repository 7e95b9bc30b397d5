"""The Container Network Interface (CNI specification 1.1.0): calls and configurations. Results: `cni_result`.

Section numbers are those of the specification. The framing by which our CNI executable sends a call to the agent is
here too: docs/reference/cni-protocol.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_interface
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec

from spiderpool.api import decoding
from spiderpool.errors import BadConfig, BadEnvironment, Undecodable, UnknownPlugin, Unsupported

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Versions of the specification that we speak, the oldest first."""
DEFAULT_VERSION = "1.0.0"
"""The version of configurations that name none."""
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
FIRST_VERSIONS = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
"""First version of the specification that has a command, for commands that not every version has."""
POD_ARGUMENTS = ("IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID")
"""Keys of CNI_ARGS that container runtimes of Kubernetes set."""
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
"""Names of networks and container IDs, as the specification allows them."""
OBJECT_NAME = re.compile(r"[a-z0-9][a-z0-9.\-]{0,252}")
"""Names of Kubernetes objects (RFC 1123 subdomain). Checked since they become part of request paths."""
IFNAME_LENGTH = 15
"""The longest interface name that Linux accepts (IFNAMSIZ without the final NUL)."""
PORT_MAPPINGS = "portMappings"
"""The capability by which a runtime passes the ports of the node that lead to a pod."""
PROTOCOLS = ("tcp", "udp", "sctp")
LONGEST_CONFIG = 1 << 20
"""Bytes of a network configuration, with the result of the previous plugin."""
UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<key>[^`]+)`(?: - at `\$(?P<path>[^`]*)`)?")
"""The message by which msgspec refuses a key that a type does not have."""


S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class PodArgs:
    """The pod that CNI_ARGS names."""

    namespace: str
    name: str
    uid: str
    """Empty where the runtime does not pass it."""


@dataclass(frozen=True)
class CNICall:
    """One execution of a CNI plugin: the name of its executable, its ``CNI_*`` environment and its standard input."""

    plugin: str
    environment: dict[str, str]
    stdin: bytes

    @property
    def command(self) -> str:
        """CNI_COMMAND."""
        return self.environment.get("CNI_COMMAND", "")

    @property
    def container_id(self) -> str:
        """CNI_CONTAINERID."""
        return self.environment.get("CNI_CONTAINERID", "")

    @property
    def netns(self) -> str:
        """CNI_NETNS: path of the pod's network namespace; may be empty at DEL."""
        return self.environment.get("CNI_NETNS", "")

    @property
    def ifname(self) -> str:
        """CNI_IFNAME: name of the interface inside the pod."""
        return self.environment.get("CNI_IFNAME", "")

    @property
    def cni_args(self) -> str:
        """CNI_ARGS, as it was written; may be empty at DEL."""
        return self.environment.get("CNI_ARGS", "")

    @cached_property
    def pod(self) -> PodArgs | None:
        """The pod that CNI_ARGS names; None where it is empty. Raises BadEnvironment."""
        return parse_args(self.cni_args) if self.cni_args else None

    def required_pod(self) -> PodArgs:
        """The pod that CNI_ARGS names. Raises BadEnvironment, also where it is empty."""
        return self.pod or parse_args("")


class ValidAttachment(msgspec.Struct, frozen=True):
    """An attachment that GC must not remove (section 2, "GC")."""

    containerID: str
    ifname: str = ""


Valid: TypeAlias = list[ValidAttachment] | msgspec.UnsetType | None
"""None counts as an empty list, since Go encodes an empty slice as null; UNSET is an absent key."""


Port: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class PortMapping(msgspec.Struct, frozen=True):
    """A port of the node that leads to a port of a container (capability ``portMappings`` of the CNI conventions)."""

    hostPort: Port
    containerPort: Port
    protocol: str = "tcp"
    """tcp, udp or sctp."""
    hostIP: str = ""
    """The only address of the node that it concerns; empty, 0.0.0.0 and :: mean all, the latter of one family."""


class IPAMConfig(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The ``ipam`` block of a plugin's configuration, as our IPAM plugin (type spiderpool) defines it.

    An empty ``type`` means that the plugin has no IPAM.
    """

    type: str = ""
    default_ipv4_ippool: list[str] | None = None
    default_ipv6_ippool: list[str] | None = None
    clean_gateway: bool = False
    match_master_subnet: bool = False
    ipam_unix_socket_path: str = ""
    log_level: str = ""
    log_file_path: str = ""
    log_file_max_size: int | str = 0
    log_file_max_age: int | str = 0
    log_file_max_count: int | str = 0


class PluginConfig(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Keys of every plugin's configuration (section 1)."""

    type: str = ""
    cniVersion: str = ""
    name: str = ""
    args: dict[str, Any] | None = None
    capabilities: dict[str, bool] | None = None
    runtimeConfig: dict[str, Any] | None = None
    prevResult: dict[str, Any] | None = None
    ipam: IPAMConfig | None = None
    ipMasq: bool = False
    dns: dict[str, Any] | None = None
    disableCheck: bool | str = False
    disableGC: bool | str = False
    cniVersions: list[str] | None = None
    valid: Valid = msgspec.field(default=msgspec.UNSET, name="cni.dev/valid-attachments")
    older_valid: Valid = msgspec.field(default=msgspec.UNSET, name="cni.dev/attachments")


class _PluginArgs(msgspec.Struct):
    cni: dict[str, Any] | None = None


class _PluginHead(msgspec.Struct):
    """The keys of any plugin's configuration that we read when we execute it."""

    type: str | None = None
    capabilities: dict[str, Any] | None = None
    args: _PluginArgs | None = None


class DelegateConfig(msgspec.Struct):
    """The configuration of an interface plugin, as far as the IPAM plugin that it executes reads it (section 4)."""

    cniVersion: str = ""
    name: str = ""
    ipam: IPAMConfig | None = None
    runtimeConfig: dict[str, Any] | None = None
    valid: Valid = msgspec.field(default=msgspec.UNSET, name="cni.dev/valid-attachments")
    older_valid: Valid = msgspec.field(default=msgspec.UNSET, name="cni.dev/attachments")


class InterfaceConfig(PluginConfig, kw_only=True, omit_defaults=True):
    """Configuration of the plugins ipvlan, macvlan, vlan and host-device: all keys of the reference plugins."""

    master: str = ""
    mode: str = ""
    mtu: Annotated[int, msgspec.Meta(ge=0)] = 0
    mac: str = ""
    linkInContainer: bool = False
    """Whether the master is in the pod (ipvlan, macvlan, vlan)."""
    bcqueuelen: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Length of the queue of broadcasts (macvlan); 0 for the kernel's default."""
    vlanId: int = 0
    vlanMode: Literal["", "manual", "auto"] = ""
    """Key of Spiderpool's own plugin vlan; ``auto`` leaves the VLAN ID to an external provider."""
    device: str = ""
    hwaddr: str = ""
    kernelpath: str = ""
    pciBusID: str = ""
    """Other ways than ``device`` to name the NIC of host-device."""
    useInterfaceNetwork: bool = False
    """Whether the NIC of host-device keeps its addresses and routes."""


class BondConfig(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The bond that the plugin ifacer makes of a network's NICs."""

    name: str = ""
    mode: int = 0
    options: str | None = None


class IfacerConfig(PluginConfig, kw_only=True, omit_defaults=True):
    """Configuration of the plugin ifacer, which makes a bond or VLAN on the node before the interface is created."""

    interfaces: list[str]
    vlanID: int = 0
    bond: BondConfig | None = None


class PolicyRoute(msgspec.Struct, forbid_unknown_fields=True):
    """A route that the coordinator adds to the routing table of the interface."""

    dst: str
    gw: str


class CoordinatorConfig(PluginConfig, kw_only=True, omit_defaults=True):
    """Configuration of the plugin coordinator. The SpiderCoordinator supplies absent keys."""

    mode: str = ""
    overlayPodCIDR: list[str] | None = None
    serviceCIDR: list[str] | None = None
    hijackCIDR: list[str] | None = None
    ipamCIDR: list[str] | None = None
    policyRoutes: list[PolicyRoute] | None = None
    podMACPrefix: str = ""
    tunePodRoutes: bool | None = None
    podDefaultRouteNic: str = ""
    podDefaultRouteNIC: str = ""
    podDefaultCniNic: str = ""
    hostRuleTable: int | None = None
    podRPFilter: int | None = None
    hostRPFilter: int | None = None
    txQueueLen: int | None = None
    vethLinkAddress: str = ""
    vethMTU: int | None = None
    multusNicPrefix: str = ""
    logOptions: dict[str, Any] | None = None
    detectGateway: bool | None = None
    detectIPConflict: bool | None = None
    detectOptions: dict[str, Any] | None = None


class ConfigList(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A network configuration list (section 1)."""

    plugins: list[msgspec.Raw]
    name: str = ""
    cniVersion: str = ""
    cniVersions: list[str] | None = None
    disableCheck: bool | str = False
    disableGC: bool | str = False
    loadOnlyInlinedPlugins: bool = False


P = TypeVar("P", PluginConfig, DelegateConfig, InterfaceConfig, IfacerConfig, CoordinatorConfig)


def parse_call(body: bytes) -> CNICall:
    """The call in a framed body. Raises Undecodable.

    The body holds, separated by NUL: plugin name, ``KEY=VALUE`` entries, an empty entry, standard input.
    """
    head, separator, stdin = body.partition(b"\0\0")
    if not separator:
        raise Undecodable(
            "the call is not framed as a CNI call: no end of its environment; reinstall the CNI executable"
        )
    try:
        plugin, *entries = head.decode().split("\0")
    except UnicodeDecodeError as error:
        raise Undecodable("the environment of the CNI call is not UTF-8") from error
    return CNICall(plugin, dict(_entry(entry) for entry in entries), stdin)


def frame_call(call: CNICall) -> bytes:
    """The framed body of a call, as our CNI executable sends it."""
    entries = (call.plugin, *(f"{key}={value}" for key, value in call.environment.items()))
    return "\0".join(entries).encode() + b"\0\0" + call.stdin


def check_environment(call: CNICall) -> None:
    """Raises BadEnvironment when ADD, DEL or CHECK lack a variable, or have a wrong one (section 2, "Parameters")."""
    required = ["CNI_CONTAINERID", "CNI_IFNAME"] + (["CNI_NETNS"] if call.command != "DEL" else [])
    missing = [name for name in required if not call.environment.get(name)]
    if missing:
        raise BadEnvironment(f"{call.command} needs {' and '.join(missing)} in the environment")
    if not NAME.fullmatch(call.container_id):
        raise BadEnvironment(f"CNI_CONTAINERID={call.container_id!r} may hold letters, digits, '_', '.' and '-' only")
    if not is_interface_name(call.ifname):
        raise BadEnvironment(
            f"CNI_IFNAME={call.ifname!r} is not an interface name: at most 15 characters, no '/' or ':'"
        )


def is_interface_name(text: str) -> bool:
    """Whether Linux allows an interface of this name (dev_valid_name)."""
    return 0 < len(text.encode()) <= IFNAME_LENGTH and text not in (".", "..") and not re.search(r"[/:\s]", text)


def is_requestable(text: str) -> bool:
    """Whether an interface may have this name. ``ip`` takes what follows an ``@`` for the name of another interface."""
    return is_interface_name(text) and "@" not in text


def parse_args(text: str) -> PodArgs:
    """The pod in CNI_ARGS, as container runtimes of Kubernetes set it. Raises BadEnvironment.

    A key that we do not know is an error unless IgnoreUnknown is true (section 2, "Parameters").
    """
    pairs = dict(_argument(piece) for piece in text.split(";") if piece)
    unknown = [key for key in pairs if key not in POD_ARGUMENTS]
    if unknown and not _is_true(pairs.get("IgnoreUnknown", "")):
        raise BadEnvironment(f"CNI_ARGS holds {', '.join(unknown)}, which we do not know; add IgnoreUnknown=1")
    for key in ("K8S_POD_NAMESPACE", "K8S_POD_NAME"):
        if key not in pairs:
            raise BadEnvironment(f"CNI_ARGS names no {key}; only Kubernetes pods can be attached")
        if not OBJECT_NAME.fullmatch(pairs[key]):
            raise BadEnvironment(f"CNI_ARGS holds {key}={pairs[key]!r}, which is no name of a Kubernetes object")
    return PodArgs(pairs["K8S_POD_NAMESPACE"], pairs["K8S_POD_NAME"], pairs.get("K8S_POD_UID", ""))


def parse_plugin(raw: bytes, shape: type[P]) -> P:
    """The configuration of one plugin. Raises UnknownPlugin (unknown field), Unsupported, BadConfig or Undecodable."""
    config = decode(raw, shape)
    check_version(config.cniVersion or DEFAULT_VERSION)
    return config


def parse_network(text: str) -> ConfigList:
    """A network's ``spec.config``: a list, or a single plugin as a list of one. Raises as `parse_plugin`."""
    raw = text.encode()
    head = decode(raw, dict[str, Any])
    if "plugins" in head:
        return decode(raw, ConfigList)
    return ConfigList([msgspec.Raw(raw)], str(head.get("name", "")), str(head.get("cniVersion", "")))


def plugin_type(raw: bytes) -> str:
    """The ``type`` of a plugin's configuration. Raises BadConfig or Undecodable, also for other keys that we read."""
    kind = decode(raw, _PluginHead).type
    if not kind:
        raise BadConfig('a plugin of the network has no type; add "type" to its configuration')
    return kind


def check_version(version: str) -> None:
    """Raises Unsupported for a version of the specification that we do not speak."""
    if version not in VERSIONS:
        raise Unsupported(f"cniVersion {version!r} is not supported; use one of {', '.join(VERSIONS)}")


def has_command(command: str, version: str) -> bool:
    """Whether a version of the specification has a command. The version must be one that we speak."""
    return VERSIONS.index(version) >= VERSIONS.index(FIRST_VERSIONS.get(command, VERSIONS[0]))


def check_command(command: str, version: str) -> None:
    """Raises Unsupported when the version that the configuration names does not have the command."""
    if not has_command(command, version):
        since = FIRST_VERSIONS[command]
        raise Unsupported(f"{command} came with CNI {since}, the configuration says {version}; raise its cniVersion")


def check_name(name: str) -> None:
    """Raises BadConfig unless the network's name is one that the specification allows (section 1)."""
    if not NAME.fullmatch(name):
        raise BadConfig(f"the network's name {name!r} must be of letters, digits, '_', '.' and '-', and begin with one")


def valid_attachments(config: PluginConfig | DelegateConfig) -> frozenset[tuple[str, str]] | None:
    """(container ID, interface) of every attachment that GC must not remove; None if no key lists them."""
    lists = [each for each in (config.valid, config.older_valid) if each is not msgspec.UNSET]
    if not lists:
        return None
    return frozenset((one.containerID, one.ifname) for each in lists for one in each or ())


def requested_ips(config: DelegateConfig) -> tuple[str, ...]:
    """Addresses that the pod requests by the capability ``ips``, without prefix lengths. Raises BadConfig."""
    requested = (config.runtimeConfig or {}).get("ips") or []
    try:
        return tuple(str(ip_interface(text).ip) for text in msgspec.convert(requested, list[str]))
    except ValueError as error:
        raise BadConfig(f"runtimeConfig.ips of the network is no list of addresses: {error}") from error


def requested_ports(config: PluginConfig) -> tuple[PortMapping, ...]:
    """Ports of the node that the runtime requests for the pod. Raises BadConfig, which names the entry."""
    requested = (config.runtimeConfig or {}).get(PORT_MAPPINGS) or []
    try:
        entries = [_lower_initials(entry) for entry in msgspec.convert(requested, list[Any])]
        mappings = msgspec.convert(entries, list[PortMapping])
    except msgspec.ValidationError as error:
        raise BadConfig(f"runtimeConfig.{PORT_MAPPINGS} of the container runtime is wrong: {error}") from error
    return tuple(_checked_mapping(number, mapping) for number, mapping in enumerate(mappings))


def _lower_initials(entry: object) -> object:
    """An entry with keys as the conventions spell them: containerd sends ``HostPort``, and Go's decoders take both."""
    return {key[:1].lower() + key[1:]: value for key, value in entry.items()} if isinstance(entry, dict) else entry


def _checked_mapping(number: int, mapping: PortMapping) -> PortMapping:
    where = f"runtimeConfig.{PORT_MAPPINGS}[{number}]"
    protocol = mapping.protocol.lower() or PROTOCOLS[0]
    if protocol not in PROTOCOLS:
        raise BadConfig(f"{where}.protocol is {mapping.protocol!r}; use one of {', '.join(PROTOCOLS)}")
    try:
        address = _plain_address(mapping.hostIP) if mapping.hostIP else ""
    except ValueError as error:
        raise BadConfig(f"{where}.hostIP is {mapping.hostIP!r}, which is no address of the node") from error
    return PortMapping(mapping.hostPort, mapping.containerPort, protocol, address)


def _plain_address(text: str) -> str:
    """An address in its usual form. Raises ValueError, also for a zone: that is free text of the pod's author."""
    address = ip_address(text)
    if address.version == 6 and address.scope_id is not None:
        raise ValueError("an address of the node has no zone")
    return str(address)


def _entry(entry: str) -> tuple[str, str]:
    key, _, value = entry.partition("=")
    return key, value


def _argument(piece: str) -> tuple[str, str]:
    key, sign, value = piece.partition("=")
    if not sign or "=" in value:
        raise BadEnvironment(f"CNI_ARGS holds {piece!r}, which is not KEY=VALUE")
    return key, value


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "true")


def decode(raw: bytes, shape: type[S]) -> S:
    """JSON of a given type. Raises UnknownPlugin (unknown field), BadConfig or Undecodable."""
    try:
        return decoding.decode(raw, shape, longest=LONGEST_CONFIG)
    except msgspec.ValidationError as error:
        if match := UNKNOWN_FIELD.search(str(error)):
            where = f"{match['path'] or ''}.{match['key']}".lstrip(".")
            raise UnknownPlugin(
                f"unknown field {where!r} in the network configuration; remove or correct it"
            ) from error
        raise BadConfig(f"the network configuration is wrong: {error}") from error
    except msgspec.DecodeError as error:
        raise Undecodable(f"the network configuration is not JSON: {error}") from error

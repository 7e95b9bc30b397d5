"""The Container Network Interface (specification 1.1.0): calls, configurations, results and errors.

Also the framing by which our CNI executable hands a call to the agent; see docs/reference/cni-protocol.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_interface
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from spiderpool.errors import BadConfig, BadEnvironment, SpiderpoolError, Undecodable, UnknownPlugin, Unsupported

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
DEFAULT_VERSION = "1.0.0"
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
"""The version of the specification with which a command came."""
POD_ARGUMENTS = ("IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID")
EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
"""The destinations of default routes by family."""
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
OBJECT_NAME = re.compile(r"[a-z0-9][a-z0-9.\-]{0,252}")
"""Names of Kubernetes objects (RFC 1123 subdomain): nothing that could lead elsewhere in a path of the API."""
IFNAME_LENGTH = 15
UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<key>[^`]+)`(?: - at `\$(?P<path>[^`]*)`)?")


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
    """One execution of a CNI plugin: the name it was called by, its environment and its standard input."""

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
        """CNI_NETNS; may be empty at DEL."""
        return self.environment.get("CNI_NETNS", "")

    @property
    def ifname(self) -> str:
        """CNI_IFNAME."""
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
    """An attachment that GC is to leave alone."""

    containerID: str
    ifname: str = ""


Valid: TypeAlias = list[ValidAttachment] | msgspec.UnsetType | None
"""Null, as a Go runtime writes an empty list, is an empty list; a key that is not there is no list at all."""


class IPAMConfig(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The ``ipam`` block of a plugin: ours, type spiderpool; without a type there is none."""

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
    """Keys that the specification allows in every plugin's configuration."""

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


class DelegateConfig(msgspec.Struct):
    """What an IPAM plugin reads of the configuration of the plugin that calls it; the rest is not its business."""

    cniVersion: str = ""
    name: str = ""
    ipam: IPAMConfig | None = None
    runtimeConfig: dict[str, Any] | None = None
    valid: Valid = msgspec.field(default=msgspec.UNSET, name="cni.dev/valid-attachments")
    older_valid: Valid = msgspec.field(default=msgspec.UNSET, name="cni.dev/attachments")


class InterfaceConfig(PluginConfig, kw_only=True, omit_defaults=True):
    """ipvlan, macvlan, vlan and host-device."""

    master: str = ""
    mode: str = ""
    mtu: Annotated[int, msgspec.Meta(ge=0)] = 0
    mac: str = ""
    vlanId: int = 0
    device: str = ""


class BondConfig(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The bond of a network's NICs."""

    name: str = ""
    mode: int = 0
    options: str | None = None


class IfacerConfig(PluginConfig, kw_only=True, omit_defaults=True):
    """What has to be made on the node before the interface: a bond of NICs, a VLAN."""

    interfaces: list[str]
    vlanID: int = 0
    bond: BondConfig | None = None


class PolicyRoute(msgspec.Struct, forbid_unknown_fields=True):
    """One of the coordinator's policy routes."""

    dst: str
    gw: str


class CoordinatorConfig(PluginConfig, kw_only=True, omit_defaults=True):
    """The coordinator's block of a network; absent keys are taken from the SpiderCoordinator."""

    mode: str = ""
    overlayPodCIDR: list[str] | None = None
    serviceCIDR: list[str] | None = None
    hijackCIDR: list[str] | None = None
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
    """A network configuration list."""

    plugins: list[msgspec.Raw]
    name: str = ""
    cniVersion: str = ""
    cniVersions: list[str] | None = None
    disableCheck: bool | str = False
    disableGC: bool | str = False
    loadOnlyInlinedPlugins: bool = False


P = TypeVar("P", PluginConfig, DelegateConfig, InterfaceConfig, IfacerConfig, CoordinatorConfig)


@dataclass(frozen=True, slots=True)
class ResultIP:
    """An address of a result: CIDR text and, where there is one, the gateway."""

    address: str
    gateway: str | None
    interface: int | None = None
    """Index of the interface that holds it; None in the result of an IPAM plugin."""


@dataclass(frozen=True, slots=True)
class ResultInterface:
    """An interface of a result; without a sandbox it is the node's."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an ADD, in no version yet; one without interfaces is that of an IPAM plugin."""

    ips: tuple[ResultIP, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    """(destination, gateway); an empty gateway stands for none."""
    interfaces: tuple[ResultInterface, ...] = ()
    dns: dict[str, Any] = field(default_factory=dict)


def parse_call(body: bytes) -> CNICall:
    """Undo the framing: plugin name, ``KEY=VALUE`` entries, an empty entry, standard input; NUL between them."""
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
    """The framing of a call, as the CNI executable makes it."""
    entries = (call.plugin, *(f"{key}={value}" for key, value in call.environment.items()))
    return "\0".join(entries).encode() + b"\0\0" + call.stdin


def check_environment(call: CNICall) -> None:
    """The rules of the specification for the variables of ADD, DEL and CHECK. Raises BadEnvironment."""
    required = ["CNI_CONTAINERID", "CNI_IFNAME"] + (["CNI_NETNS"] if call.command != "DEL" else [])
    missing = [name for name in required if not call.environment.get(name)]
    if missing:
        raise BadEnvironment(f"{call.command} needs {' and '.join(missing)} in the environment")
    if not NAME.fullmatch(call.container_id):
        raise BadEnvironment(f"CNI_CONTAINERID={call.container_id!r} may hold letters, digits, '_', '.' and '-' only")
    bad = set(call.ifname) & set("/: \t\n") or call.ifname in (".", "..") or len(call.ifname) > IFNAME_LENGTH
    if bad:
        raise BadEnvironment(
            f"CNI_IFNAME={call.ifname!r} is not an interface name: at most 15 characters, no '/' or ':'"
        )


def parse_args(text: str) -> PodArgs:
    """CNI_ARGS as Kubernetes' runtimes set it. Raises BadEnvironment.

    A key that we do not know is an error unless IgnoreUnknown says otherwise (specification, "CNI_ARGS").
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
    """Configuration of one plugin. Raises UnknownPlugin for a field we do not know, BadConfig or Undecodable."""
    config = _decode(raw, shape)
    check_version(config.cniVersion or DEFAULT_VERSION)
    return config


def parse_network(text: str) -> ConfigList:
    """The ``spec.config`` of a network: a list, or a single plugin, which becomes a list of one."""
    raw = text.encode()
    head = _decode(raw, dict[str, Any])
    if "plugins" in head:
        return _decode(raw, ConfigList)
    return ConfigList([msgspec.Raw(raw)], str(head.get("name", "")), str(head.get("cniVersion", "")))


def plugin_type(raw: bytes) -> str:
    """The ``type`` of a plugin's configuration. Raises BadConfig."""
    kind = _decode(raw, dict[str, Any]).get("type")
    if not isinstance(kind, str) or not kind:
        raise BadConfig('a plugin of the network has no type; add "type" to its configuration')
    return kind


def check_version(version: str) -> None:
    """Raises Unsupported."""
    if version not in VERSIONS:
        raise Unsupported(f"cniVersion {version!r} is not supported; use one of {', '.join(VERSIONS)}")


def has_command(command: str, version: str) -> bool:
    """Whether a version of the specification, one that we speak, has a command."""
    return VERSIONS.index(version) >= VERSIONS.index(SINCE.get(command, VERSIONS[0]))


def check_command(command: str, version: str) -> None:
    """Raises Unsupported for a command that the configuration's version of the specification does not have."""
    if not has_command(command, version):
        since = SINCE[command]
        raise Unsupported(f"{command} came with CNI {since}, the configuration says {version}; raise its cniVersion")


def check_name(name: str) -> None:
    """Raises BadConfig for a network without a name, or with one that the specification does not allow."""
    if not NAME.fullmatch(name):
        raise BadConfig(f"the network's name {name!r} must be of letters, digits, '_', '.' and '-', and begin with one")


def valid_attachments(config: PluginConfig | DelegateConfig) -> frozenset[tuple[str, str]]:
    """Container and interface of what GC is to leave alone. Raises BadConfig where nothing says so."""
    given = [each for each in (config.valid, config.older_valid) if each is not msgspec.UNSET]
    if not given:
        raise BadConfig("GC needs cni.dev/valid-attachments in the configuration: without it all would be garbage")
    return frozenset((one.containerID, one.ifname) for each in given for one in each or ())


def requested_ips(config: DelegateConfig) -> tuple[str, ...]:
    """Addresses that the pod asks for by the capability ``ips``, without prefix lengths. Raises BadConfig."""
    asked = (config.runtimeConfig or {}).get("ips") or []
    try:
        return tuple(str(ip_interface(text).ip) for text in msgspec.convert(asked, list[str]))
    except ValueError as error:
        raise BadConfig(f"runtimeConfig.ips of the network is no list of addresses: {error}") from error


def result_document(result: Result, version: str) -> dict[str, Any]:
    """A result as the JSON document of a version of the specification."""
    document: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        document["interfaces"] = [_interface(each, version) for each in result.interfaces]
    document["ips"] = [_ip(ip, version) for ip in result.ips]
    if result.routes:
        document["routes"] = [{"dst": dst} | ({"gw": gw} if gw else {}) for dst, gw in result.routes]
    document["dns"] = result.dns
    return document


def read_result(document: bytes) -> Result:
    """The result that a plugin printed, of any version from 0.3.0 on. Raises Undecodable or BadConfig."""
    read = _decode(document, _Document)
    return Result(
        ips=tuple(ResultIP(ip.address, ip.gateway, ip.interface) for ip in read.ips or ()),
        routes=tuple((route.dst, route.gw or "") for route in read.routes or ()),
        interfaces=tuple(
            ResultInterface(each.name, each.mac, each.mtu, each.sandbox) for each in read.interfaces or ()
        ),
        dns=read.dns or {},
    )


def with_default_routes(document: bytes, left: Collection[int], gateways: Collection[str]) -> bytes:
    """A plugin's result without default routes but those of the families ``left``, which are by ``gateways`` if named.

    Raises Undecodable or BadConfig.
    """
    result = _decode(document, dict[str, Any])
    replaced = {6 if ":" in gateway else 4 for gateway in gateways}
    lost = {EVERYTHING[version] for version in EVERYTHING if version not in left or version in replaced}
    routes = [each for each in result.get("routes") or () if each.get("dst") not in lost]
    routes += [{"dst": EVERYTHING[6 if ":" in gateway else 4], "gw": gateway} for gateway in gateways]
    if not routes and "routes" not in result:
        return document
    return msgspec.json.encode(result | {"routes": routes})


def passed_on(previous: dict[str, Any], version: str) -> dict[str, Any]:
    """The result of the plugin before, unchanged but for the version in which it is told. Raises BadConfig."""
    if previous.get("cniVersion", version) == version:
        return previous | {"cniVersion": version}
    return result_document(read_result(msgspec.json.encode(previous)), version)


def error_document(error: SpiderpoolError, version: str = DEFAULT_VERSION) -> dict[str, Any]:
    """An error as the specification wants it on standard output."""
    document = {"cniVersion": version, "code": error.code, "msg": error.message}
    return document | ({"details": error.details} if error.details else {})


def version_document(asked: str) -> dict[str, Any]:
    """The answer to VERSION, in the version in which it was asked."""
    return {"cniVersion": asked, "supportedVersions": list(VERSIONS)}


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


def _decode(raw: bytes, shape: type[S]) -> S:
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        if match := UNKNOWN_FIELD.search(str(error)):
            where = f"{match['path'] or ''}.{match['key']}".lstrip(".")
            raise UnknownPlugin(
                f"unknown field {where!r} in the network configuration; remove or correct it"
            ) from error
        raise BadConfig(f"the network configuration is wrong: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"the network configuration is not JSON: {error}") from error


def _interface(each: ResultInterface, version: str) -> dict[str, Any]:
    document: dict[str, Any] = {"name": each.name, "mac": each.mac}
    if each.sandbox:
        document["sandbox"] = each.sandbox
    return document | ({"mtu": each.mtu} if version == "1.1.0" and each.mtu else {})


def _ip(ip: ResultIP, version: str) -> dict[str, Any]:
    document: dict[str, Any] = {"address": ip.address}
    if version.startswith("0."):
        document = {"version": "6" if ":" in ip.address else "4", **document}
    if ip.gateway:
        document["gateway"] = ip.gateway
    return document | ({"interface": ip.interface} if ip.interface is not None else {})


class _DocumentIP(msgspec.Struct):
    address: str
    gateway: str | None = None
    interface: int | None = None


class _DocumentRoute(msgspec.Struct):
    dst: str
    gw: str | None = None


class _DocumentInterface(msgspec.Struct):
    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""


class _Document(msgspec.Struct):
    """A plugin's result as far as it is passed on."""

    ips: list[_DocumentIP] | None = None
    routes: list[_DocumentRoute] | None = None
    interfaces: list[_DocumentInterface] | None = None
    dns: dict[str, Any] | None = None

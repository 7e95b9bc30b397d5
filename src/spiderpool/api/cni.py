"""The Container Network Interface (specification 1.1.0): calls, configurations, results and errors.

Also the framing by which our CNI executable hands a call to the agent; see docs/reference/cni-protocol.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec

from spiderpool.errors import BadConfig, BadEnvironment, SpiderpoolError, Undecodable, UnknownPlugin, Unsupported

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
DEFAULT_VERSION = "1.0.0"
COMMANDS = ("ADD", "DEL", "CHECK", "STATUS", "VERSION")
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
IFNAME_LENGTH = 15
UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<key>[^`]+)`(?: - at `\$(?P<path>[^`]*)`)?")


S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Call:
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


@dataclass(frozen=True, slots=True)
class PodArgs:
    """What CNI_ARGS says of the pod."""

    namespace: str
    name: str
    uid: str
    """Empty where the runtime does not tell it."""


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


class DelegateConfig(msgspec.Struct):
    """What an IPAM plugin reads of the configuration of the plugin that calls it; the rest is not its business."""

    cniVersion: str = ""
    name: str = ""
    ipam: IPAMConfig | None = None


class InterfaceConfig(PluginConfig, kw_only=True, omit_defaults=True):
    """ipvlan, macvlan, vlan and host-device."""

    master: str = ""
    mode: str = ""
    mtu: Annotated[int, msgspec.Meta(ge=0)] = 0
    mac: str = ""
    vlanId: int = 0
    device: str = ""


class BondConfig(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The bond of a network's cards."""

    name: str = ""
    mode: int = 0
    options: str | None = None


class IfacerConfig(PluginConfig, kw_only=True, omit_defaults=True):
    """What has to be made on the node before the interface: a bond of cards, a VLAN."""

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


def parse_call(body: bytes) -> Call:
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
    return Call(plugin, dict(_entry(entry) for entry in entries), stdin)


def frame_call(call: Call) -> bytes:
    """The framing of a call, as the CNI executable makes it."""
    entries = (call.plugin, *(f"{key}={value}" for key, value in call.environment.items()))
    return "\0".join(entries).encode() + b"\0\0" + call.stdin


def check_environment(call: Call) -> None:
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
    """CNI_ARGS as Kubernetes' runtimes set it. Raises BadEnvironment."""
    pairs = dict(_argument(piece) for piece in text.split(";") if piece)
    try:
        return PodArgs(pairs["K8S_POD_NAMESPACE"], pairs["K8S_POD_NAME"], pairs.get("K8S_POD_UID", ""))
    except KeyError as error:
        raise BadEnvironment(f"CNI_ARGS names no {error.args[0]}; only Kubernetes pods can be attached") from error


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


def error_document(error: SpiderpoolError, version: str = DEFAULT_VERSION) -> dict[str, Any]:
    """An error as the specification wants it on standard output."""
    document = {"cniVersion": version, "code": error.code, "msg": error.message}
    return document | ({"details": error.details} if error.details else {})


def version_document() -> dict[str, Any]:
    """The answer to VERSION."""
    return {"cniVersion": VERSIONS[-1], "supportedVersions": list(VERSIONS)}


def _entry(entry: str) -> tuple[str, str]:
    key, _, value = entry.partition("=")
    return key, value


def _argument(piece: str) -> tuple[str, str]:
    key, sign, value = piece.partition("=")
    if not sign:
        raise BadEnvironment(f"CNI_ARGS holds {piece!r}, which is not KEY=VALUE")
    return key, value


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
    except msgspec.DecodeError as error:
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

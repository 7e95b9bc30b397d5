"""The agent's socket, for root only: CNI calls, and beside them the HTTP API of `api`.

A CNI call always gets a valid CNI answer, whatever fails. The path of an ADD begins here: bytes → CNICall → plugin.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from spiderpool import daemon
from spiderpool.agent import interfaces
from spiderpool.agent.api import DEL_SYNC_TIMEOUT, SYNC_TIMEOUT, AgentAPI, framework_errors
from spiderpool.agent.attach import Attacher
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.coordinator import CoordinatorPlugin, previous_result
from spiderpool.agent.failures import as_ours
from spiderpool.agent.gc import NodeGC
from spiderpool.agent.ipam import IPAMPlugin
from spiderpool.agent.kernel_probe import KernelProbe
from spiderpool.api.cni import (
    COMMANDS,
    DEFAULT_VERSION,
    VERSIONS,
    CNICall,
    CoordinatorConfig,
    DelegateConfig,
    IfacerConfig,
    PluginConfig,
    check_command,
    check_environment,
    check_name,
    parse_call,
    parse_plugin,
    requested_ips,
    valid_attachments,
)
from spiderpool.api.cni_result import Result, convert_result, error_document, result_document, version_document
from spiderpool.api.decoding import decode
from spiderpool.core.ipam.pod_context import InterfaceRequest
from spiderpool.core.network.chains import parent_of
from spiderpool.errors import (
    BadConfig,
    BadEnvironment,
    BadNamespace,
    NotReady,
    SpiderpoolError,
    Unavailable,
    Undecodable,
    UnknownPlugin,
)
from spiderpool.settings import AgentSettings
from spiderpool.telemetry import logger

MAX_CALL = 1 << 20
"""Bytes of one call: configurations are a few kB, previous results some tens."""

MAX_READ = 64 << 20
"""Bytes of an oversized call that are read and discarded, so that its sender gets the answer."""

STATUS_TIMEOUT = 3.0
"""Seconds that a STATUS waits for the caches of a starting agent. The executable waits 5 s, the kubelet for both."""

ATTACH, IPAM, COORDINATOR, IFACER = "spiderpool-attach", "spiderpool", "coordinator", "ifacer"
SERVED = (ATTACH, IPAM, COORDINATOR, IFACER)
"""Plugin names under which our executable is installed and served."""

log = logger("server")


@dataclass(frozen=True, slots=True)
class Plugins:
    """What serves the CNI commands; ``ifacer`` needs nothing but the kernel."""

    attach: Attacher
    ipam: IPAMPlugin
    coordinator: CoordinatorPlugin
    gc: NodeGC
    kernel: KernelProbe


class CNIServer:
    """Serves the CNI executables on a Unix socket.

    ``add_timeout`` limits every call, in seconds, waiting for locks included.
    """

    def __init__(self, cluster: ClusterCache, plugins: Plugins, api: AgentAPI, add_timeout: float) -> None:
        self._cluster = cluster
        self._plugins = plugins
        self._api = api
        self._add_timeout = add_timeout

    @asynccontextmanager
    async def listen(self, path: Path) -> AsyncIterator[None]:
        """Serve on ``path``, mode 0600, until the context ends; then finish calls under way and remove the socket."""
        runner = web.AppRunner(self._application(), access_log=None, handle_signals=False, shutdown_timeout=5.0)
        await runner.setup()
        listener = _listener(path)
        try:
            await web.SockSite(runner, listener).start()
            log.info("listening", socket=str(path))
            yield
        finally:
            await runner.cleanup()
            path.unlink(missing_ok=True)

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_root_only, framework_errors], client_max_size=MAX_CALL)
        app.router.add_post("/v1/cni", self._cni)
        self._api.register(app.router)
        return app

    async def _cni(self, request: web.Request) -> web.Response:
        """The handler of every CNI call: bytes in, a CNI result or a CNI error out."""
        version = DEFAULT_VERSION
        try:
            call = parse_call(await _read_body(request))
            version = _requested_version(call.stdin)
            return _answer(await self.serve(call), version)
        except Exception as error:  # a bug must reach the runtime as a CNI error, not as a closed socket
            return _failure(as_ours(error), version)

    async def serve(self, call: CNICall) -> dict[str, Any] | None:
        """The result of a call; None where the command has none. Raises SpiderpoolError."""
        if call.plugin not in SERVED:
            raise UnknownPlugin(f"this agent serves no plugin named {call.plugin!r}, only {', '.join(SERVED)}")
        if call.command not in COMMANDS:
            raise BadEnvironment(f"CNI_COMMAND={call.command!r} is none of {', '.join(COMMANDS)}")
        if call.command == "VERSION":
            return version_document(_requested_version(call.stdin, VERSIONS[-1]))
        if call.command == "STATUS":
            await self._check_status(call)
            return None
        with structlog.contextvars.bound_contextvars(**_log_context(call)):
            return await self._call_plugin(call)

    async def _call_plugin(self, call: CNICall) -> dict[str, Any] | None:
        """Have the plugin serve the call once the caches are filled, all within the time limit.

        They are empty only after a start of the agent; once filled they serve on while the API server is away. A DEL
        goes on without them, since runtimes may not repeat it: then the addresses are left to garbage collection.
        """
        handlers = {
            ATTACH: self._attach,
            IPAM: self._address,
            COORDINATOR: self._coordinate,
            IFACER: self._make_parent,
        }
        serve = handlers[call.plugin]
        try:
            async with asyncio.timeout(self._add_timeout):
                if call.command == "DEL":
                    await self._cluster.synced_within(DEL_SYNC_TIMEOUT)
                else:
                    await self._cluster.synced(SYNC_TIMEOUT)
                return await serve(call)
        except TimeoutError as error:
            raise NotReady(f"{call.command} took longer than {self._add_timeout:.0f} s and was given up") from error

    async def _attach(self, call: CNICall) -> dict[str, Any] | None:
        """Plugin ``spiderpool-attach``: all networks of a pod."""
        config = parse_plugin(call.stdin, PluginConfig)
        match _checked_command(call, config):
            case "ADD":
                return _logged_result(call, await self._plugins.attach.add(call, config), config.cniVersion)
            case "DEL":
                await self._plugins.attach.delete(call)
            case "CHECK":
                await self._plugins.attach.check(call, config)
            case "GC":
                await self._plugins.gc.collect(config.name, valid_attachments(config))
        return None

    async def _address(self, call: CNICall) -> dict[str, Any] | None:
        """Plugin ``spiderpool``: addresses alone, called by an interface plugin as its IPAM plugin."""
        config = parse_plugin(call.stdin, DelegateConfig)
        match _checked_command(call, config):
            case "ADD":
                return _logged_result(
                    call, await self._plugins.ipam.add(call, _interface_request(call, config)), config.cniVersion
                )
            case "DEL":
                await self._plugins.ipam.delete(call)
            case "CHECK":
                await self._plugins.ipam.check(call, _interface_request(call, config))
            case "GC":
                await self._plugins.gc.collect_addresses()
        return None

    async def _coordinate(self, call: CNICall) -> dict[str, Any] | None:
        """Plugin ``coordinator``: veth pair and routes alone, for an interface of the previous plugin."""
        config = parse_plugin(call.stdin, CoordinatorConfig)
        match _checked_command(call, config):
            case "ADD":
                result = previous_result(config)
                await self._plugins.coordinator.add(call, config)
                return convert_result(result, config.cniVersion or DEFAULT_VERSION)
            case "DEL":
                await self._plugins.coordinator.delete(call)
            case "CHECK":
                await self._plugins.coordinator.check(call, config)
            case "GC":
                await self._plugins.gc.collect_coordinated(config.name, valid_attachments(config))
        return None

    async def _make_parent(self, call: CNICall) -> dict[str, Any] | None:
        """Plugin ``ifacer``: the bond or VLAN that the next plugin uses as parent. It stays, so DEL does nothing."""
        config = parse_plugin(call.stdin, IfacerConfig)
        if _checked_command(call, config) != "ADD":
            return None
        await interfaces.ensure_parent(parent_of(config))
        return convert_result(config.prevResult or {}, config.cniVersion or DEFAULT_VERSION)

    async def _check_status(self, call: CNICall) -> None:
        """Raises Unavailable while every ADD of this node fails, for that makes the kubelet call the Node not ready.

        Hence not for a full pool, a fault of one network, or an API server that went away after the caches were filled.
        """
        config = parse_plugin(call.stdin, DelegateConfig)
        check_command(call.command, config.cniVersion or DEFAULT_VERSION)
        try:
            async with asyncio.timeout(STATUS_TIMEOUT):
                await self._cluster.synced(STATUS_TIMEOUT)
        except (TimeoutError, NotReady) as error:
            raise Unavailable(
                "spiderpool-agent has not read the cluster's pods, pools and networks since it started, so it cannot "
                "attach pods; its log says what the API server answers"
            ) from error
        if fault := await self._plugins.kernel.fault():
            raise Unavailable(fault)


def _checked_command(call: CNICall, config: PluginConfig | DelegateConfig) -> str:
    """Check a call against the CNI specification and return its command. Raises a BadRequest."""
    check_command(call.command, config.cniVersion or DEFAULT_VERSION)
    check_name(config.name)
    if call.command != "GC":
        check_environment(call)
        _check_namespace(call.netns)
    return call.command


def _check_namespace(netns: str) -> None:
    """Raises BadNamespace for the node's own namespace, in which a pod's interfaces must never be made or removed."""
    with suppress(OSError):  # a missing namespace is an error at ADD and success at DEL: decided later
        if netns and Path(netns).samefile("/proc/self/ns/net"):
            raise BadNamespace(f"CNI_NETNS={netns!r} is the node's own network namespace, not a pod's")


def _logged_result(call: CNICall, result: Result, version: str) -> dict[str, Any]:
    """Log the result of an ADD and return it as JSON."""
    log.info(call.command, address=[ip.address for ip in result.ips])
    return result_document(result, version or DEFAULT_VERSION)


def _interface_request(call: CNICall, config: DelegateConfig) -> InterfaceRequest:
    """What the interface of a call to ``spiderpool`` needs of IPAM. Raises BadConfig."""
    if config.ipam is None:
        raise BadConfig('the network configuration has no ipam block; add "ipam": {"type": "spiderpool"}')
    return InterfaceRequest(call.ifname, config.ipam, requested_ips(config))


async def _read_body(request: web.Request) -> bytes:
    """The body. A too large one is read to its end before it is refused, so that the sender gets the error."""
    body = bytearray()
    total = 0
    async for chunk in request.content.iter_any():
        total += len(chunk)
        if total <= MAX_CALL:
            body += chunk
        if total > MAX_READ:
            break
    if total > MAX_CALL:
        raise Undecodable(f"the call is larger than {MAX_CALL >> 20} MiB; no network configuration is that long")
    return bytes(body)


def _requested_version(stdin: bytes, default: str = DEFAULT_VERSION) -> str:
    """The cniVersion in which to answer; ``default`` when the configuration has none that we speak."""
    try:
        version = decode(stdin, dict[str, Any], longest=MAX_CALL).get("cniVersion")
    except msgspec.DecodeError:
        return default
    return version if version in VERSIONS else default


def _log_context(call: CNICall) -> dict[str, str]:
    """Fields of every log line of a call."""
    return {
        "cni_args": call.cni_args,
        "container_id": call.container_id,
        "interface": call.ifname,
        "netns": call.netns,
    }


def _answer(document: dict[str, Any] | None, version: str) -> web.Response:
    body = msgspec.json.encode(document) + b"\n" if document is not None else b""
    return web.Response(body=body, content_type="application/json", headers={"Spiderpool-CNI-Version": version})


def _failure(error: SpiderpoolError, version: str) -> web.Response:
    log.warning("refused", code=error.code, error=error.message)
    body = msgspec.json.encode(error_document(error, version)) + b"\n"
    return web.Response(status=500, body=body, content_type="application/json")


@asynccontextmanager
async def probe_sites(settings: AgentSettings, api: AgentAPI) -> AsyncIterator[None]:
    """Serve /metrics and the kubelet's probes on TCP while the context lasts, on the ports that are set."""
    metrics, probes = web.Application(), web.Application(middlewares=[framework_errors])
    metrics.router.add_get("/metrics", daemon.MetricsPage().answer)
    api.register_probes(probes.router)
    async with AsyncExitStack() as sites:
        for application, port in ((metrics, settings.metrics_port), (probes, settings.health_port)):
            if port is not None:
                await sites.enter_async_context(daemon.listening(application, None, port))
        yield


@web.middleware
async def _root_only(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse other users even if somebody changes the mode of the socket."""
    sock = request.transport.get_extra_info("socket") if request.transport else None
    if sock is None or _peer_uid(sock) != os.getuid():
        return web.Response(status=403, text="only root may speak to spiderpool-agent\n")
    response: web.StreamResponse = await handler(request)
    return response


def _peer_uid(sock: socket.socket) -> int:
    """UID of the process at the other end (unix(7), SO_PEERCRED)."""
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def _listener(path: Path) -> socket.socket:
    """A listening socket that was never reachable with a wider mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(512)
    listener.setblocking(False)
    return listener

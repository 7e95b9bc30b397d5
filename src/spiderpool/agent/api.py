"""The HTTP API under ``/v1`` that Spiderpool's executables ``spiderpool`` and ``coordinator`` call.

It serves the same functions as the CNI calls. Errors of ours have status 500 and a JSON string as body; errors of the
caller have status 400, 404, 405 or 422.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
import structlog
from aiohttp import web

from spiderpool.agent.addresses import PodAddresses, result_routes
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.ipam import IPAMPlugin
from spiderpool.api.agent_v1 import (
    AddAnswer,
    AddCall,
    AgentCoordinatorConfig,
    AgentPolicyRoute,
    AgentRoute,
    BatchDelCall,
    CoordinatorCall,
    DelCall,
    Incomplete,
    IPConfig,
    Malformed,
    PodCall,
    WorkloadEndpoint,
    WorkloadInterface,
    error_body,
    named_pod,
    parse_body,
    pod_of,
)
from spiderpool.api.cni import IPAMConfig
from spiderpool.api.coordinator import CoordinatorSpec, CoordinatorStatus, SpiderCoordinator
from spiderpool.api.ip import SpiderIP
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.ipam.pod_context import InterfaceRequest
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.core.network.coordinator import default_route_interface, synced_status
from spiderpool.core.network.plumbing.probing import Detection
from spiderpool.errors import NotReady, SpiderpoolError
from spiderpool.telemetry import logger

PREFIX = "/v1"
RELEASE_FORBIDDEN = 521
"""Status: the settings forbid to release conflicting addresses of a living pod."""
STICKY_RELEASE_FORBIDDEN = 522
"""Status: the address stays with its sticky owner."""

SYNC_TIMEOUT = 5.0
"""Seconds that a call waits for the caches of a starting agent."""

DEL_SYNC_TIMEOUT = 1.0
"""Seconds that a DEL waits for them: it can go on without, but then it releases no address."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logger("api")


class AgentAPI:
    """Serves all paths under ``/v1`` except the CNI calls."""

    def __init__(self, cluster: ClusterCache, addresses: PodAddresses, ipam: IPAMPlugin, add_timeout: float) -> None:
        self._cluster = cluster
        self._addresses = addresses
        self._ipam = ipam
        self._add_timeout = add_timeout
        self._started = False

    def started(self) -> None:
        """The agent has done all that precedes its work: the kubelet's probes are told that it is ready."""
        self._started = True

    def register(self, router: web.UrlDispatcher) -> None:
        """Add our paths."""
        router.add_get(f"{PREFIX}/ipam/healthy", self._healthy)
        router.add_post(f"{PREFIX}/ipam/ip", self._within_limits(self._add))
        router.add_delete(f"{PREFIX}/ipam/ip", self._within_limits(self._delete, needs_caches=False))
        router.add_post(f"{PREFIX}/ipam/ips", self._nothing)
        router.add_delete(f"{PREFIX}/ipam/ips", self._within_limits(self._delete_all))
        router.add_get(f"{PREFIX}/workloadendpoint", self._within_limits(self._endpoint))
        router.add_get(f"{PREFIX}/coordinator/config", self._within_limits(self._coordinator))
        self.register_probes(router)

    def register_probes(self, router: web.UrlDispatcher) -> None:
        """Add the paths for the kubelet's probes."""
        router.add_get(f"{PREFIX}/runtime/startup", self._ready)
        router.add_get(f"{PREFIX}/runtime/readiness", self._ready)
        router.add_get(f"{PREFIX}/runtime/liveness", self._nothing)

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self._cluster.ready else 500)

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self._started and self._cluster.ready else 500)

    async def _nothing(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _add(self, request: web.Request) -> web.Response:
        call = parse_body(await request.read(), AddCall)
        config = IPAMConfig(
            type="spiderpool",
            default_ipv4_ippool=call.defaultIPv4IPPool,
            default_ipv6_ippool=call.defaultIPv6IPPool,
            clean_gateway=bool(call.cleanGateway),
            match_master_subnet=bool(call.matchMasterSubnet),
        )
        interface = call.ifName or ""
        args = pod_of(call)
        pod = await self._cluster.living_pod(args)
        sandbox = SandboxTarget(_container(call), call.netNamespace or "")
        grants = await self._ipam.allocate(pod, args, sandbox, InterfaceRequest(interface, config))
        detection = self._addresses.detection(pod)
        routes = [AgentRoute(dst, gw, interface) for dst, gw in result_routes(grants)]
        return _json(AddAnswer([_ip(interface, grant, detection) for grant in grants], routes or None))

    async def _delete(self, request: web.Request) -> web.Response:
        call = parse_body(await request.read(), DelCall)
        await self._ipam.release(pod_of(call), _container(call), call.ifName or "")
        return web.Response()

    async def _delete_all(self, request: web.Request) -> web.Response:
        """Release all addresses of a pod: the executable found one in use elsewhere, or its gateway silent."""
        call = parse_body(await request.read(), BatchDelCall)
        args = pod_of(call)
        pod = self._cluster.pods.get(f"{args.namespace}/{args.name}")
        if call.isReleaseConflictIPs:
            if not self._addresses.policy.release_conflicts:
                return _json("SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS is false on this agent", RELEASE_FORBIDDEN)
            if pod and self._addresses.is_sticky(pod):
                return _json(f"the addresses of pod {pod.key} stay with its owner", STICKY_RELEASE_FORBIDDEN)
        await self._ipam.release_conflicting(args, _container(call))
        return web.Response()

    async def _endpoint(self, request: web.Request) -> web.Response:
        missing = next((name for name in ("podNamespace", "podName") if name not in request.query), None)
        if missing:
            raise Incomplete(f"{missing} in query is required")
        pod = named_pod(request.query["podNamespace"], request.query["podName"], "", "query")
        namespace, name = pod.namespace, pod.name
        records = self._addresses.records_of(namespace, name)
        if not records:
            return _json(f"pod {namespace}/{name} holds no address of this node", 404)
        first = records[0].spec
        return _json(
            WorkloadEndpoint(namespace, name, first.podUID, first.node, await self._interfaces(records)),
        )

    async def _coordinator(self, request: web.Request) -> web.Response:
        """The settings, for a pod that may be gone: at DEL the executable needs them all the same."""
        call = parse_body(await request.read(), CoordinatorCall)
        named = call.podName or call.podNamespace
        args = named_pod(call.podNamespace or "", call.podName or "", "", "body") if named else None
        pod = await self._cluster.find_pod(args) if args else None
        cluster = self._cluster.coordinator()
        status = synced_status(cluster)
        assert cluster is not None
        return _json(_coordinator(cluster, status, (pod.metadata.annotations if pod else None) or {}))

    async def _interfaces(self, records: list[SpiderIP]) -> list[WorkloadInterface]:
        granted: dict[str, list[Grant]] = {}
        for record in records:
            granted.setdefault(record.spec.interface, []).append(await self._addresses.grant(record))
        return [_interface(name, grants) for name, grants in granted.items()]

    def _within_limits(self, handler: Handler, *, needs_caches: bool = True) -> Handler:
        """Limit a handler to the time of a CNI call and translate its errors to statuses of this API."""

        async def serve(request: web.Request) -> web.StreamResponse:
            try:
                async with asyncio.timeout(self._add_timeout):
                    if needs_caches:
                        await self._cluster.synced(SYNC_TIMEOUT)
                    else:
                        await self._cluster.synced_within(DEL_SYNC_TIMEOUT)
                    with structlog.contextvars.bound_contextvars(request=f"{request.method} {request.path}"):
                        return await handler(request)
            except Malformed as error:
                return _json(error_body(400, error.message), 400)
            except Incomplete as error:
                return _json(error_body(422, error.message), 422)
            except TimeoutError:
                return _error_response(
                    NotReady(f"the call took longer than {self._add_timeout:.0f} s and was given up")
                )
            except SpiderpoolError as error:
                return _error_response(error)

        return serve


@web.middleware
async def framework_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer unknown paths and methods, and too large bodies, with JSON."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _json(error_body(404, f"path {request.path} was not found"), 404)
    except web.HTTPMethodNotAllowed as error:
        allowed = ",".join(sorted(error.allowed_methods - {"HEAD"}))
        return _json(error_body(405, f"method {request.method} is not allowed, but [{allowed}] are"), 405)
    except web.HTTPRequestEntityTooLarge as error:
        return _json(error_body(413, error.text or "body too large"), 413)


def _container(call: PodCall) -> str:
    """By what a sandbox is known: its container ID, else the path of its network namespace; both may be empty."""
    return call.containerID or call.netNamespace or ""


def _ip(interface: str, grant: Grant, detection: Detection) -> IPConfig:
    return IPConfig(
        address=grant.address,
        nic=interface,
        version=grant.version,
        ipPool=grant.pool,
        gateway=grant.gateway or "",
        enableGatewayDetection=detection.gateway,
        enableIPConflictDetection=detection.conflicts,
    )


def _interface(interface: str, grants: Iterable[Grant]) -> WorkloadInterface:
    by_family = {grant.version: grant for grant in grants}
    detail = WorkloadInterface(
        interface, routes=[AgentRoute(dst, gw) for one in by_family.values() for dst, gw in one.routes]
    )
    if four := by_family.get(4):
        detail.ipv4, detail.ipv4Pool, detail.ipv4Gateway = four.address, four.pool, four.gateway or ""
    if six := by_family.get(6):
        detail.ipv6, detail.ipv6Pool, detail.ipv6Gateway = six.address, six.pool, six.gateway or ""
    return detail


def _coordinator(
    cluster: SpiderCoordinator, status: CoordinatorStatus, annotations: Mapping[str, str]
) -> AgentCoordinatorConfig:
    spec = cluster.spec or CoordinatorSpec()
    mode = spec.mode or "auto"
    return AgentCoordinatorConfig(
        mode="disable" if mode == "disabled" else mode,  # the executable knows this spelling alone
        overlayPodCIDR=status.overlayPodCIDR or [],
        serviceCIDR=status.serviceCIDR or [],
        tunePodRoutes=spec.tunePodRoutes is not False,
        hijackCIDR=spec.hijackCIDR or [],
        policyRoutes=[AgentPolicyRoute(route.dst, route.gw) for route in spec.policyRoutes or ()],
        podMACPrefix=spec.podMACPrefix or "",
        podDefaultRouteNIC=default_route_interface(annotations, cluster),
        hostRuleTable=spec.hostRuleTable or 0,
        podRPFilter=spec.podRPFilter or 0,
        txQueueLen=spec.txQueueLen or 0,
        vethLinkAddress=spec.vethLinkAddress or "",
        vethMTU=spec.vethMTU or 0,
    )


def _error_response(error: SpiderpoolError) -> web.Response:
    log.warning("refused", code=error.code, error=error.message)
    return _json(error.message, 500)


def _json(document: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document) + b"\n", content_type="application/json")

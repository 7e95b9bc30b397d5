"""The question of `trace`: from where, to what, by which protocol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

import click

from spiderpool.api.core_v1 import Pod, Service, ServicePort
from spiderpool.cli.connection import Cluster
from spiderpool.cli.policies import PolicyOptions
from spiderpool.cli.trace.answer import ConnectionTrace, trace_of, with_notes
from spiderpool.cli.trace.case import ClusterObjects, read_objects
from spiderpool.cli.trace.outside import from_outside
from spiderpool.cli.trace.screening import screened
from spiderpool.cli.trace.sites import SiteMap
from spiderpool.cli.trace.values import Packet, PacketPath
from spiderpool.cli.trace.walk import Walker
from spiderpool.core.addresses import Address, with_port
from spiderpool.core.network.service_proxy import ServiceAddressKind, ServiceFrontend, usable_endpoints
from spiderpool.errors import Refused

FORMS = "write ADDRESS:PORT ([ADDRESS]:PORT for IPv6), SERVICE.NAMESPACE:PORT or svc/NAME:PORT"
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""A label of RFC 1035, as names of Services are: no IPv4 address is one."""


def _leads_nowhere(address: Address) -> str:
    """Why no machine is reached by an address alone; empty: one may be."""
    if address.version == 6 and (address.scope_id or address.is_link_local):
        return "is an address of one link (link-local)"
    if address.version == 6 and address.ipv4_mapped:
        return f"stands for {address.ipv4_mapped}"
    kinds = {
        "means the machine itself (loopback)": address.is_loopback,
        "is no machine's address (unspecified)": address.is_unspecified,
        "is the address of a group (multicast)": address.is_multicast,
        "is reserved": address.version == 4 and address.is_reserved,
    }
    return next((why for why, holds in kinds.items() if holds), "")


@dataclass(frozen=True, slots=True)
class TraceTarget:
    """What a connection goes to: an address, or a Service by its name."""

    address: Address | None = None
    namespace: str = ""
    """Of the Service; empty: that of the client."""
    service: str = ""
    port: str = ""
    """Number, or of a Service also the name; empty: the only port of the Service."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From one word. Raises UsageError."""
        if text.startswith(("svc/", "service/")):
            return cls._service(text.partition("/")[2])
        host, colon, port = text.rpartition(":")
        try:
            address = ip_address(host.removeprefix("[").removesuffix("]"))
            if not colon or (address.version == 6) != host.startswith("[") or not 0 < int(port) < 65536:
                raise click.UsageError(f"{text!r} is no address with a port: {FORMS}")
        except ValueError:
            return cls._of_name(text)
        if why := _leads_nowhere(address):
            raise click.UsageError(f"{address} {why}, and no connection goes from place to place by it: {FORMS}")
        return cls(address, port=port)

    @classmethod
    def _of_name(cls, text: str) -> Self:
        name, _, port = text.partition(":")
        service, dot, rest = name.partition(".")
        namespace = rest.partition(".")[0]  # also of a whole name in DNS, as in web.shop.svc.cluster.local
        if not (SERVICE_NAME.fullmatch(service) and dot and namespace):
            raise click.UsageError(f"{text!r} is neither an address with a port nor a Service: {FORMS}")
        return cls(None, namespace, service, port)

    @classmethod
    def _service(cls, text: str) -> Self:
        """``[NAMESPACE/]NAME[:PORT]``."""
        name, _, port = text.partition(":")
        first, slash, rest = name.partition("/")
        if not name or (slash and not rest):
            raise click.UsageError(f"{text!r} names no Service: write svc/NAME:PORT or svc/NAMESPACE/NAME:PORT")
        return cls(None, first if slash else "", rest if slash else first, port)


@dataclass(frozen=True, slots=True)
class TraceQuestion:
    """Which connection is traced."""

    pod: str
    """``name`` or ``namespace/name``; empty: none."""
    node: str
    """The node that is the client; empty: none."""
    target: TraceTarget
    written: str
    """The target as the user wrote it."""
    protocol: str
    namespace: str | None
    policies: PolicyOptions

    @classmethod
    def of(cls, words: Sequence[str], options: TraceOptions) -> Self:
        """From the command line. Raises UsageError."""
        pod, target = "", ""
        match words:
            case (kind, name) if options.outside and not options.node and kind in ("svc", "service"):
                target = f"svc/{name}"
            case (name,) if options.outside and not options.node and name.startswith(("svc/", "service/")):
                target = name
            case (target,) if options.node and not options.outside:
                pass
            case (pod, target) if not (options.node or options.outside):
                pass
            case _:
                raise click.UsageError(
                    "write `trace NAMESPACE/POD TARGET`, `trace --from-node NODE TARGET` or"
                    " `trace --from-outside svc NAMESPACE/NAME[:PORT]`"
                )
        parsed = TraceTarget.parse(target)
        return cls(pod, options.node, parsed, target, options.protocol, options.namespace, options.policies)

    async def answer(self, cluster: Cluster) -> ConnectionTrace:
        """The trace. Raises Refused for a pod, node or Service that does not exist."""
        objects = await read_objects(cluster, self.policies)
        return self.decide(objects, self.namespace or cluster.namespace)

    def decide(self, objects: ClusterObjects, namespace: str) -> ConnectionTrace:
        """The trace in a cluster that has been read. Raises Refused likewise."""
        objects = screened(objects)
        sites = SiteMap(objects)
        written = f"{self.written}/{self.protocol}"
        if not self.pod and not self.node:
            frontend = self._frontend(objects, namespace, ServiceAddressKind.NODE_PORT, 4)
            paths = from_outside(Walker(sites), sites, frontend)
            suffices = frontend.service.spec.type != "LoadBalancer"
            return with_notes(trace_of("a client outside", written, paths, one_suffices=suffices), objects, None)
        pod = self._pod(objects, namespace) if self.pod else None
        if self.node and self.node not in objects.nodes:
            raise Refused(f"node {self.node} does not exist; see `kubectl get nodes`")
        sender = f"pod {pod.key}" if pod else f"node {self.node}"
        home = (pod.metadata.namespace if pod else None) or namespace
        destinations = self._destinations(sites, pod, home)
        paths = tuple(
            path
            for address, port in destinations
            for path in self._walk(sites, pod, Packet(address, port, self.protocol, None, sender))
        )
        shown = paths[0].hops and self.target.service
        resolved = f" ({', '.join(with_port(*each) for each in destinations)})" if shown else ""
        return with_notes(trace_of(sender, f"{written}{resolved}", paths), objects, pod)

    def _walk(self, sites: SiteMap, pod: Pod | None, packet: Packet) -> tuple[PacketPath, ...]:
        walker = Walker(sites)
        if pod is None:
            return walker.from_node(sites.node(self.node), packet)
        return walker.from_pod(sites.pod(pod.key), packet.of_namespace(pod.metadata.namespace))

    def _pod(self, objects: ClusterObjects, namespace: str) -> Pod:
        key = self.pod if "/" in self.pod else f"{namespace}/{self.pod}"
        if key not in objects.pods:
            raise Refused(f"pod {key} does not exist; see `kubectl get pods -A`")
        return objects.pods[key]

    def _destinations(self, sites: SiteMap, pod: Pod | None, namespace: str) -> list[tuple[Address, int]]:
        """The address that the client connects to; of a headless Service those of its endpoints."""
        if self.target.address is not None:
            return [(self.target.address, int(self.target.port))]
        held = sites.pod(pod.key).routing if pod else sites.node(self.node).routing
        frontend = self._frontend(sites.objects, namespace, ServiceAddressKind.CLUSTER_IP, 4)
        service = frontend.service
        if addresses := [ip_address(text) for text in service.cluster_ips]:
            chosen = next((each for each in addresses if held.held(each.version)), addresses[0])
            return [(chosen, frontend.port.port)]
        found = [
            (each.address, each.port)
            for version in (4, 6)
            for each in usable_endpoints(
                ServiceFrontend(service, frontend.port, frontend.kind, version), sites.objects.slices_of(service)
            )
        ]
        if not found:
            raise Refused(f"Service {service.key} has no address and no ready endpoint, so its name leads nowhere")
        return found

    def _frontend(
        self, objects: ClusterObjects, namespace: str, kind: ServiceAddressKind, version: int
    ) -> ServiceFrontend:
        key = f"{self.target.namespace or namespace}/{self.target.service}"
        service = objects.services.get(key)
        if service is None:
            raise Refused(f"Service {key} does not exist; see `kubectl get services -A`")
        if service.spec.type == "ExternalName":
            name = service.spec.externalName or "another name"
            raise Refused(
                f"Service {key} has no address: it is a name (type ExternalName), for which DNS answers {name};"
                " trace to an address that this has"
            )
        return ServiceFrontend(service, self._port(service), kind, version)

    def _port(self, service: Service) -> ServicePort:
        ports = [each for each in service.spec.ports or () if each.protocol == self.protocol]
        named = [each for each in ports if self.target.port in (str(each.port), each.name)]
        chosen = named if self.target.port else ports
        if len(chosen) == 1:
            return chosen[0]
        known = ", ".join(f"{each.port}/{each.protocol}" for each in service.spec.ports or ()) or "none"
        raise Refused(f"name one port of Service {service.key} for {self.protocol}; its ports are {known}")


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """The options of the command."""

    node: str
    outside: bool
    protocol: str
    namespace: str | None
    policies: PolicyOptions

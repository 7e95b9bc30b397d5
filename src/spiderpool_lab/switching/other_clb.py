"""Classic load balancers as the other controller makes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spiderpool_lab.switching import endpoints, other_writer
from spiderpool_lab.switching.endpoints import PresentServer, ServedService
from spiderpool_lab.switching.other_writer import KEPT_REASON, REUSE_TAG, CloudWriter, ServiceMarks, balancer_name
from spiderpool_lab.switching.services import Json

FINALIZER = "service.k8s.alibaba/resources"
SEPARATOR = "/"

_BALANCER = {
    "name": "LoadBalancerName",
    "address-type": "AddressType",
    "vswitch-id": "VSwitchId",
    "instance-charge-type": "InstanceChargeType",
    "spec": "LoadBalancerSpec",
    "charge-type": "InternetChargeType",
    "bandwidth": "Bandwidth",
    "delete-protection": "DeleteProtection",
}
_LISTENER = {
    "scheduler": "Scheduler",
    "health-check-interval": "HealthCheckInterval",
    "cert-id": "ServerCertificateId",
    "sticky-session": "StickySession",
    "sticky-session-type": "StickySessionType",
    "cookie-timeout": "CookieTimeout",
    "health-check-flag": "HealthCheck",
    "health-check-uri": "HealthCheckURI",
    "xforwardedfor-proto": "XForwardedFor_proto",
}
"""Suffix of an annotation → parameter; listeners have those of their protocol."""
_OTHER = ("id", "force-override-listeners", "protocol-port", "forward-port", "additional-resource-tags")
_LAYER_7 = (
    "StickySession",
    "StickySessionType",
    "CookieTimeout",
    "HealthCheck",
    "HealthCheckURI",
    "XForwardedFor_proto",
)
_OF_PROTOCOL: Mapping[str, tuple[str, ...]] = {
    "tcp": ("Scheduler", "HealthCheckInterval"),
    "udp": ("Scheduler", "HealthCheckInterval"),
    "http": ("Scheduler", "HealthCheckInterval", *_LAYER_7),
    "https": ("Scheduler", "HealthCheckInterval", "ServerCertificateId", *_LAYER_7),
}
_UNSAID: Mapping[str, Mapping[str, str]] = {
    "tcp": {"Scheduler": "rr"},
    "udp": {"Scheduler": "rr"},
    "http": {"Scheduler": "rr", "StickySession": "off", "HealthCheck": "off"},
    "https": {"Scheduler": "rr", "StickySession": "off", "HealthCheck": "off"},
}
"""What a new listener has without an annotation. The scheduler is the API's own default."""


@dataclass(frozen=True, slots=True)
class OtherClassic:
    """Classic balancers of the other controller."""

    writer: CloudWriter

    def ensure(self, service: ServedService, *, only_servers: bool) -> ServiceMarks:
        """Make or compare the balancer of a Service; ``only_servers``: no listener is looked at."""
        annotations = other_writer.known(service, _BALANCER, _LISTENER, _OTHER)
        found = self._find(service) or self._create(service)
        if not only_servers:
            named = {_BALANCER[suffix]: text for suffix, text in annotations.items() if suffix in _BALANCER}
            self.writer.compare(service, "balancer", named, found)
        identity = found["LoadBalancerId"]
        groups = self._groups(service, identity)
        if not only_servers:
            self._listeners(service, identity, groups)
            self._remove_groups(service, identity, groups)
        digest = other_writer.digest_of(service)
        return ServiceMarks(FINALIZER, identity, digest, {"ip": found["Address"]})

    def _find(self, service: ServedService) -> Json | None:
        """Looked up by the annotation, else by the tags, else by the name."""
        if identity := service.annotations().get("id"):
            (found,) = self._balancers(LoadBalancerId=identity)
            if REUSE_TAG not in {tag["TagKey"] for tag in found["Tags"]["Tag"]}:
                tag = other_writer.tag_parameters({REUSE_TAG: "true"})
                place = {"ResourceType": "instance", "ResourceId.1": identity}
                self.writer.change(service, "slb", "TagResources", **place, **tag)
            return found
        by_tags = self._balancers(**self.writer.tags(service))
        return next(iter(by_tags or self._balancers(LoadBalancerName=balancer_name(service))), None)

    def _balancers(self, **filters: str) -> list[Json]:
        answer = self.writer.call("slb", "DescribeLoadBalancers", **filters)
        return list(answer["LoadBalancers"]["LoadBalancer"])

    def _create(self, service: ServedService) -> Json:
        annotations = service.annotations()
        further = dict(part.split("=") for part in annotations.get("additional-resource-tags", "").split(",") if part)
        named = {_BALANCER[suffix]: text for suffix, text in annotations.items() if suffix in _BALANCER}
        sent = {
            "AddressType": "internet",
            "LoadBalancerName": balancer_name(service),
            "InstanceChargeType": "PayByCLCU",
            "DeleteProtection": "on",
            "ModificationProtectionStatus": "ConsoleProtection",
            "ModificationProtectionReason": KEPT_REASON,
            **named,
        }
        pairs = {
            other_writer.NAME_TAG: balancer_name(service),
            other_writer.CLUSTER_TAG: self.writer.cluster,
            **further,
        }
        self.writer.change(service, "slb", "CreateLoadBalancer", **sent, **other_writer.tag_parameters(pairs))
        (found,) = self._balancers(**self.writer.tags(service))
        return found

    def _group_name(self, service: ServedService, port: Json) -> str:
        return self.writer.part(service, SEPARATOR, port["targetPort"] if service.by_pods else port["nodePort"])

    def _groups(self, service: ServedService, balancer: str) -> dict[str, str]:
        """The Service's groups by name, those made anew too, each with the servers of its port."""
        present = self._present_groups(balancer)
        for port in service.ports:
            name = self._group_name(service, port)
            if name not in present:
                sent = {"LoadBalancerId": balancer, "VServerGroupName": name}
                present[name] = self.writer.change(service, "slb", "CreateVServerGroup", **sent)["VServerGroupId"]
            self._servers(service, name, present[name], service.servers(port))
        return present

    def _present_groups(self, balancer: str) -> dict[str, str]:
        answer = self.writer.call("slb", "DescribeVServerGroups", LoadBalancerId=balancer)
        return {each["VServerGroupName"]: each["VServerGroupId"] for each in answer["VServerGroups"]["VServerGroup"]}

    def _servers(self, service: ServedService, name: str, group: str, wanted: set[PresentServer]) -> None:
        """Add and remove servers and set weights; servers without the Service's description are somebody else's."""
        described = self.writer.call("slb", "DescribeVServerGroupAttribute", VServerGroupId=group)
        present = {
            other_writer.described_server(each, each["Type"])
            for each in described["BackendServers"]["BackendServer"]
            if self.writer.is_part(service, SEPARATOR, each["Description"])
        }
        found = endpoints.server_changes(wanted, present)
        for action, servers in (
            ("AddVServerGroupBackendServers", found.added),
            ("SetVServerGroupAttribute", found.weighted),
            ("RemoveVServerGroupBackendServers", found.removed),
        ):
            if servers:
                sent = json.dumps([_entry(each, name) for each in servers])
                self.writer.change(service, "slb", action, VServerGroupId=group, BackendServers=sent)

    def _listeners(self, service: ServedService, balancer: str, groups: Mapping[str, str]) -> None:
        """Make and start missing listeners, compare others, delete those of the Service that it does not want."""
        answer = self.writer.call("slb", "DescribeLoadBalancerListeners", **{"LoadBalancerId.1": balancer})
        present = {(each["ListenerProtocol"], each["ListenerPort"]): each for each in answer["Listeners"]}
        listed = other_writer.protocols(service)
        for port in service.ports:
            key = (listed[port["port"], port["protocol"]], port["port"])
            group = groups[self._group_name(service, port)]
            if key in present:
                self._compare(service, key, present[key], group)
            else:
                self._create_listener(service, balancer, key, group)
        wanted = {(protocol, number) for (number, _), protocol in listed.items()}
        for protocol, number in present.keys() - wanted:
            if self.writer.is_part(service, SEPARATOR, present[protocol, number]["Description"]):
                sent = {"LoadBalancerId": balancer, "ListenerPort": str(number), "ListenerProtocol": protocol}
                self.writer.change(service, "slb", "DeleteLoadBalancerListener", **sent)

    def _create_listener(self, service: ServedService, balancer: str, key: tuple[str, int], group: str) -> None:
        protocol, number = key
        place = {"LoadBalancerId": balancer, "ListenerPort": str(number)}
        sent = {"Description": self.writer.part(service, SEPARATOR, number), "Bandwidth": "-1"}
        if target := _redirects(service).get(number) if protocol == "http" else None:
            sent |= {"ListenerForward": "on", "ForwardPort": str(target)}
        else:
            sent |= {"VServerGroupId": group, **_UNSAID[protocol], **_settings(service, protocol)}
        if protocol in ("tcp", "udp") and "HealthCheckInterval" in sent:
            sent["healthCheckInterval"] = sent.pop("HealthCheckInterval")
        self.writer.change(service, "slb", f"CreateLoadBalancer{protocol.upper()}Listener", **place, **sent)
        started = {"ListenerProtocol": protocol, **place}
        self.writer.change(service, "slb", "StartLoadBalancerListener", **started)

    def _compare(self, service: ServedService, key: tuple[str, int], present: Json, group: str) -> None:
        protocol, number = key
        described = {**present, **present[f"{protocol.upper()}ListenerConfig"]}
        wanted = {"Description": self.writer.part(service, SEPARATOR, number)}
        if target := _redirects(service).get(number) if protocol == "http" else None:
            wanted |= {"ListenerForward": "on", "ForwardPort": str(target)}
        else:
            wanted |= {"VServerGroupId": group, **_settings(service, protocol)}
        self.writer.compare(service, f"listener {number}", wanted, described)

    def _remove_groups(self, service: ServedService, balancer: str, groups: Mapping[str, str]) -> None:
        wanted = {self._group_name(service, port) for port in service.ports}
        for name in groups.keys() - wanted:
            if self.writer.is_part(service, SEPARATOR, name):
                self.writer.change(service, "slb", "DeleteVServerGroup", VServerGroupId=groups[name])


def _settings(service: ServedService, protocol: str) -> dict[str, str]:
    annotations = service.annotations()
    named = {_LISTENER[suffix]: text for suffix, text in annotations.items() if suffix in _LISTENER}
    return {parameter: text for parameter, text in named.items() if parameter in _OF_PROTOCOL[protocol]}


def _redirects(service: ServedService) -> dict[int, int]:
    """The http ports that redirect clients, with the ports to which."""
    parts = (part.split(":") for part in service.annotations().get("forward-port", "").split(",") if part)
    return {int(port): int(target) for port, target in parts}


def _entry(server: PresentServer, name: str) -> dict[str, Any]:
    found = {"ServerId": server.identity, "Type": server.kind, "Port": str(server.port), "Weight": str(server.weight)}
    return {**found, "Description": name, **({"ServerIp": server.address} if server.kind == "eni" else {})}

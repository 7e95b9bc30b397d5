"""Network load balancers as the other controller makes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spiderpool.errors import NotReady
from spiderpool_lab.switching import endpoints, other_writer
from spiderpool_lab.switching.endpoints import PresentServer, ServedService
from spiderpool_lab.switching.other_writer import KEPT_REASON, CloudWriter, ServiceMarks, balancer_name
from spiderpool_lab.switching.services import Json

FINALIZER = "service.k8s.alibaba/nlb"
SEPARATOR = "."
PATIENCE, PAUSE = 60.0, 0.05
"""Seconds until a job must have ended, and between two looks."""
_OTHER = ("name", "zone-maps", "address-type", "server-group-type")
_KINDS = {"ecs": "Ecs", "eni": "Eni", "ip": "Ip"}


@dataclass(frozen=True, slots=True)
class OtherNetwork:
    """Network balancers of the other controller."""

    writer: CloudWriter

    def ensure(self, service: ServedService, *, only_servers: bool) -> ServiceMarks:
        """Make or compare the balancer of a Service; ``only_servers``: no listener is looked at."""
        annotations = other_writer.known(service, _OTHER)
        found = self._find(service) or self._create(service)
        if not only_servers:
            wanted = {"AddressType": annotations["address-type"].capitalize()}
            wanted |= {"LoadBalancerName": annotations["name"]} if "name" in annotations else {}
            self.writer.compare(service, "balancer", wanted, found)
        identity = found["LoadBalancerId"]
        groups = self._groups(service)
        if not only_servers:
            self._listeners(service, identity, groups)
            self._remove_groups(service, groups)
        digest = other_writer.digest_of(service)
        return ServiceMarks(FINALIZER, identity, digest, {"hostname": found["DNSName"]})

    def _find(self, service: ServedService) -> Json | None:
        by_tags = self._balancers(**self.writer.tags(service))
        return next(iter(by_tags or self._balancers(**{"LoadBalancerNames.1": balancer_name(service)})), None)

    def _balancers(self, **filters: str) -> list[Json]:
        return list(self.writer.call("nlb", "ListLoadBalancers", **filters)["LoadBalancers"])

    def _create(self, service: ServedService) -> Json:
        annotations = service.annotations()
        sent = {
            "VpcId": self.writer.vpc,
            "AddressType": annotations["address-type"].capitalize(),
            "LoadBalancerName": annotations.get("name", balancer_name(service)),
            "DeletionProtectionConfig.Enabled": "true",
            "DeletionProtectionConfig.Reason": KEPT_REASON,
            "ModificationProtectionConfig.Status": "ConsoleProtection",
            "ModificationProtectionConfig.Reason": KEPT_REASON,
        }
        for number, part in enumerate(annotations["zone-maps"].split(","), 1):
            zone, vswitch = part.split(":")
            sent |= {f"ZoneMappings.{number}.ZoneId": zone, f"ZoneMappings.{number}.VSwitchId": vswitch}
        self.writer.change(service, "nlb", "CreateLoadBalancer", **sent, **self.writer.tags(service))
        _until(lambda: self._balancers(**self.writer.tags(service))[0]["LoadBalancerStatus"] == "Active")
        (found,) = self._balancers(**self.writer.tags(service))
        return found

    def _change(self, service: ServedService, action: str, **parameters: str) -> Json:
        """Change something, and wait until the job has ended."""
        answer = self.writer.change(service, "nlb", action, **parameters)
        job = answer["JobId"]
        _until(lambda: self.writer.call("nlb", "GetJobStatus", JobId=job)["Status"] == "Succeeded")
        return answer

    def _group_name(self, service: ServedService, port: Json) -> str:
        number = port["targetPort"] if service.by_pods else port["nodePort"]
        return self.writer.part(service, SEPARATOR, number, port["protocol"])

    def _groups(self, service: ServedService) -> dict[str, str]:
        """The Service's groups by name, which are looked up by their tags; each has the servers of its port."""
        answer = self.writer.call("nlb", "ListServerGroups", **self.writer.tags(service))
        present = {each["ServerGroupName"]: each["ServerGroupId"] for each in answer["ServerGroups"]}
        for port in service.ports:
            name = self._group_name(service, port)
            if name not in present:
                sent = {
                    "ServerGroupName": name,
                    "VpcId": self.writer.vpc,
                    "Protocol": port["protocol"],
                    "ServerGroupType": service.annotations().get("server-group-type", "Instance"),
                    "HealthCheckConfig.HealthCheckType": port["protocol"],
                    **({"PreserveClientIpEnabled": "false"} if "server-group-type" in service.annotations() else {}),
                }
                made = self._change(service, "CreateServerGroup", **sent, **self.writer.tags(service))
                present[name] = made["ServerGroupId"]
            self._servers(service, name, present[name], service.servers(port))
        return present

    def _servers(self, service: ServedService, name: str, group: str, wanted: set[PresentServer]) -> None:
        """Add and remove servers and set weights; servers without the Service's description are somebody else's."""
        answer = self.writer.call("nlb", "ListServerGroupServers", ServerGroupId=group)
        present = {
            other_writer.described_server(each, each["ServerType"].lower())
            for each in answer["Servers"]
            if self.writer.is_part(service, SEPARATOR, each["Description"])
        }
        found = endpoints.server_changes(wanted, present)
        for action, servers in (
            ("AddServersToServerGroup", found.added),
            ("UpdateServerGroupServersAttribute", found.weighted),
            ("RemoveServersFromServerGroup", found.removed),
        ):
            if servers:
                sent = {
                    f"Servers.{number}.{key}": text
                    for number, each in enumerate(servers, 1)
                    for key, text in _entry(each, name).items()
                }
                self._change(service, action, ServerGroupId=group, **sent)

    def _listeners(self, service: ServedService, balancer: str, groups: Mapping[str, str]) -> None:
        """Make missing listeners, compare others, delete those of the Service that it does not want."""
        answer = self.writer.call("nlb", "ListListeners", **{"LoadBalancerIds.1": balancer})
        present = {(each["ListenerProtocol"], each["ListenerPort"]): each for each in answer["Listeners"]}
        for port in service.ports:
            key = (port["protocol"], port["port"])
            parts = {
                "ListenerDescription": self.writer.part(service, SEPARATOR, port["port"], port["protocol"]),
                "ServerGroupId": groups[self._group_name(service, port)],
            }
            if key in present:
                self.writer.compare(service, f"listener {port['port']}", parts, present[key])
            else:
                place = {"LoadBalancerId": balancer, "ListenerProtocol": key[0], "ListenerPort": str(key[1])}
                self._change(service, "CreateListener", **place, **parts)
        wanted = {(port["protocol"], port["port"]) for port in service.ports}
        for key in present.keys() - wanted:
            if self.writer.is_part(service, SEPARATOR, present[key]["ListenerDescription"]):
                self._change(service, "DeleteListener", ListenerId=present[key]["ListenerId"])

    def _remove_groups(self, service: ServedService, groups: Mapping[str, str]) -> None:
        wanted = {self._group_name(service, port) for port in service.ports}
        for name in groups.keys() - wanted:
            if self.writer.is_part(service, SEPARATOR, name):
                self._change(service, "DeleteServerGroup", ServerGroupId=groups[name])


def _entry(server: PresentServer, name: str) -> dict[str, str]:
    found = {
        "ServerId": server.identity,
        "ServerType": _KINDS[server.kind],
        "Port": str(server.port),
        "Weight": str(server.weight),
        "Description": name,
    }
    return found | ({"ServerIp": server.address} if server.kind != "ecs" else {})


def _until(condition: Callable[[], bool]) -> None:
    """Poll the cloud. Raises NotReady after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(f"the cloud has not done what it was asked for within {PATIENCE:.0f} s")
        time.sleep(PAUSE)

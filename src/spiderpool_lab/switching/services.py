"""The Services that change hands: both kinds of balancers, all protocols, machines and pods as servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PREFIX = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-"
LEGACY_PREFIX = "service.beta.kubernetes.io/alicloud-loadbalancer-"
BACKEND_TYPE = "service.beta.kubernetes.io/backend-type"
NLB_CLASS = "alibabacloud.com/nlb"
NAMESPACE = "default"
EVERYWHERE, SOMEWHERE = "everywhere", "somewhere"
"""Applications: with a pod on each node, and with one pod."""
LENT = "{lent}"
"""Stands in an annotation for the identity of a balancer that the user has made."""
ZONE_MAPS = "{zone-maps}"
"""Stands in an annotation for two zones, each with a vSwitch."""
ACCESS_LIST = "{acl}"
"""Stands in a setting for an access list of the user's, which admits everybody."""
VSWITCH = "{vswitch}"
"""Stands in an annotation for a vSwitch of private classic balancers."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConsoleCall:
    """A setting that somebody makes at the console: of the balancer, or of the listener or the group of a port."""

    action: str
    of: Literal["balancer", "listener", "group"]
    parameters: Mapping[str, str]
    port: int = 0


@dataclass(frozen=True, slots=True)
class SwitchedService:
    """A Service by its name. ``annotations`` are without prefix; ``console`` is what was set there afterwards."""

    name: str
    ports: tuple[Json, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    pods: bool = False
    """Whether its servers are pods, instead of machines."""
    app: str = EVERYWHERE
    prefix: str = PREFIX
    spec: Mapping[str, Any] = field(default_factory=dict)
    console: tuple[ConsoleCall, ...] = ()
    office: bool = False
    """Whether its clients come to a private address, by a leased line."""

    @property
    def is_network(self) -> bool:
        """Whether its balancer is a network one."""
        return self.spec.get("loadBalancerClass") == NLB_CLASS

    def manifest(self, values: Mapping[str, str]) -> Json:
        """The Service; ``values`` take the place of what stands for the identities of an account."""
        annotations = {f"{self.prefix}{key}": values.get(text, text) for key, text in self.annotations.items()}
        annotations |= {BACKEND_TYPE: "eni"} if self.pods else {}
        spec = {"type": "LoadBalancer", "selector": {"app": self.app}, "ports": [*self.ports], **self.spec}
        metadata = {"name": self.name, "namespace": NAMESPACE, "annotations": annotations}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _tcp(port: int = 80, name: str = "", target: int | str = 80) -> Json:
    return {"port": port, "targetPort": target, "protocol": "TCP", **({"name": name} if name else {})}


def _udp(port: int = 53, name: str = "") -> Json:
    return {"port": port, "targetPort": 53, "protocol": "UDP", **({"name": name} if name else {})}


def _network(
    name: str, *ports: Json, console: tuple[ConsoleCall, ...] = (), address: str = "internet", **more: Any
) -> SwitchedService:
    spec = {"loadBalancerClass": NLB_CLASS, **more.pop("spec", {})}
    annotations = {"zone-maps": ZONE_MAPS, "address-type": address, **more.pop("annotations", {})}
    return SwitchedService(name, ports, annotations, spec=spec, console=console, office=address == "intranet", **more)


LOCAL = {"externalTrafficPolicy": "Local"}
PAID = {
    "instance-charge-type": "PayBySpec",
    "spec": "slb.s2.small",
    "charge-type": "paybybandwidth",
    "bandwidth": "20",
}
_TUNED_CLASSIC = (
    ConsoleCall(
        "SetLoadBalancerTCPListenerAttribute",
        "listener",
        {"AclStatus": "on", "AclId": ACCESS_LIST, "AclType": "white", "Scheduler": "wlc", "EstablishedTimeout": "600"},
        80,
    ),
    ConsoleCall("SetLoadBalancerTCPListenerAttribute", "listener", {"HealthCheckInterval": "5"}, 80),
    ConsoleCall("SetLoadBalancerHTTPListenerAttribute", "listener", {"IdleTimeout": "30", "Scheduler": "rr"}, 8080),
    ConsoleCall("SetLoadBalancerName", "balancer", {"LoadBalancerName": "renamed"}),
    ConsoleCall("SetLoadBalancerDeleteProtection", "balancer", {"DeleteProtection": "off"}),
)
_TUNED_NETWORK = (
    ConsoleCall("UpdateListenerAttribute", "listener", {"IdleTimeout": "60", "Cps": "500"}, 80),
    ConsoleCall("UpdateServerGroupAttribute", "group", {"Scheduler": "Wlc", "ConnectionDrainEnabled": "true"}, 80),
    ConsoleCall("UpdateLoadBalancerAttribute", "balancer", {"CrossZoneEnabled": "false"}),
)

SERVICES: tuple[SwitchedService, ...] = (
    SwitchedService("clb-tcp", (_tcp(),)),
    SwitchedService("clb-udp", (_udp(),)),
    SwitchedService("clb-http", (_tcp(),), {"protocol-port": "http:80"}, spec=LOCAL),
    SwitchedService(
        "clb-https",
        (_tcp(443, "secure"), _tcp(80, "plain")),
        {"protocol-port": "https:443,http:80", "cert-id": "crt-1", "forward-port": "80:443"},
    ),
    SwitchedService("clb-pods", (_tcp(80, "web", "http"),), pods=True),
    SwitchedService("clb-pods-both", (_tcp(53, "tcp"), _udp(53, "udp")), pods=True, spec=LOCAL),
    SwitchedService("clb-local", (_tcp(999),), app=SOMEWHERE, spec=LOCAL),
    SwitchedService(
        "clb-intranet", (_tcp(),), {"address-type": "intranet", "vswitch-id": VSWITCH}, office=True, spec=LOCAL
    ),
    SwitchedService("clb-named", (_tcp(),), {"name": "shop-front", "additional-resource-tags": "team=shop,tier=1"}),
    SwitchedService("clb-lent", (_tcp(8000),), {"id": LENT, "force-override-listeners": "true"}),
    SwitchedService("clb-paid", (_tcp(),), PAID),
    SwitchedService(
        "clb-tuned",
        (_tcp(80, "a"), _tcp(8080, "b")),
        {"protocol-port": "http:8080"},
        console=_TUNED_CLASSIC,
    ),
    SwitchedService(
        "clb-many",
        (_tcp(80, "a"), _tcp(8080, "b"), _udp(53, "c")),
        {"scheduler": "wrr", "health-check-interval": "3", "delete-protection": "on"},
        prefix=LEGACY_PREFIX,
    ),
    SwitchedService(
        "clb-sticky",
        (_tcp(),),
        {
            "protocol-port": "http:80",
            "sticky-session": "on",
            "sticky-session-type": "insert",
            "cookie-timeout": "1800",
            "health-check-flag": "on",
            "health-check-uri": "/",
            "xforwardedfor-proto": "on",
        },
        pods=True,
    ),
    _network("nlb-tcp", _tcp()),
    _network("nlb-udp", _udp(), spec=LOCAL),
    _network("nlb-pods", _tcp(80, "web", "http"), pods=True),
    _network("nlb-intranet", _tcp(), address="intranet", spec=LOCAL, app=SOMEWHERE),
    _network("nlb-addresses", _tcp(), pods=True, annotations={"server-group-type": "Ip"}),
    _network("nlb-tuned", _tcp(80, "a"), _udp(53, "b"), console=_TUNED_NETWORK, annotations={"name": "front"}),
)
"""Twenty Services."""

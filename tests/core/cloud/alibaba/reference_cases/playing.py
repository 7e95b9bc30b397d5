"""Services that are played through the cases: what each step of their lives changes, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spiderpool.core.cloud.alibaba.annotations import BACKEND_TYPE, PREFIX
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.alibaba.naming import ORIGIN_TAG
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.printing import ServiceDryRun, service_dry_run
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, Listener, ObservedLoadBalancer
from tests.core.pretend_balancers import CONFIGURATION, HTTP, model_of, node, reached, service

NLB_CLASS = "alibabacloud.com/nlb"
NODES = BackendSnapshot([node("a"), node("b")])
PODS = {BACKEND_TYPE: "eni"}
ZONES = {"zone-maps": "h:vsw-h,i:vsw-i"}
FOREIGN = Listener(8080, "tcp", "mine", "rsp-mine", {"Scheduler": "rr"})


def classic(*ports: dict[str, Any], snapshot: BackendSnapshot = NODES, **spec: Any) -> LoadBalancerModel:
    """What a Service asks for that has a classic balancer, by default with one TCP port."""
    return model_of(service(*(ports or (HTTP,)), **spec), snapshot)


def network(*ports: dict[str, Any], snapshot: BackendSnapshot = NODES, **spec: Any) -> LoadBalancerModel:
    """The same with a network balancer in two zones."""
    annotations = ZONES | spec.pop("annotations", {})
    given = service(*(ports or (HTTP,)), loadBalancerClass=NLB_CLASS, annotations=annotations, **spec)
    return model_of(given, snapshot)


def either(kind: str, *ports: dict[str, Any], **spec: Any) -> LoadBalancerModel:
    """The same with a balancer of a kind."""
    return classic(*ports, **spec) if kind == CLB.name else network(*ports, **spec)


def lent(kind: str = CLB.name, **more: Any) -> ObservedLoadBalancer:
    """A balancer of the user's with a listener and a tag."""
    settings = {"AddressType": "internet" if kind == CLB.name else "Internet", "ResourceGroupId": "rg-1"}
    found = ObservedLoadBalancer("lb-u", "users", "198.51.100.9", settings, {"team": "x"}, (FOREIGN,))
    return replace(found, **more)


def changes(before: LoadBalancerModel, after: LoadBalancerModel) -> list[str]:
    """The steps between two states of a Service; the second state is checked to be reached."""
    observed = reached(before, None)
    reached(after, observed)
    return [str(step) for step in plan(after, observed)]


def brief(steps: list[str]) -> list[str]:
    """Steps without the settings that they name."""
    return [step.split(":")[0] for step in steps]


def judged(
    *ports: dict[str, Any],
    kind: BalancerKind = CLB,
    observed: ObservedLoadBalancer | None = None,
    snapshot: BackendSnapshot = NODES,
    configuration: BalancerConfiguration = CONFIGURATION,
    **spec: Any,
) -> ServiceDryRun:
    """What would be done and said for a Service."""
    if kind is NLB:
        spec |= {"loadBalancerClass": NLB_CLASS, "annotations": ZONES | spec.get("annotations", {})}
    return service_dry_run(service(*(ports or (HTTP,)), **spec), kind, snapshot, configuration, observed)


def said(texts: tuple[str, ...]) -> list[str]:
    """Sentences for the author of a Service, with annotations named as in the tables."""
    return [text.replace(PREFIX, "") for text in texts]


def servers(model: LoadBalancerModel) -> set[str]:
    """All servers of a balancer's groups, as they are printed."""
    return {str(server) for group in model.groups for server in group.servers}


def of_others(observed: ObservedLoadBalancer, **more: Any) -> ObservedLoadBalancer:
    """The balancer as the cloud's own controller would have made it: without the tag that each of ours has."""
    tags = {key: value for key, value in observed.tags.items() if key != ORIGIN_TAG}
    return replace(observed, tags=tags, **more)

"""The two kinds of load balancers of Alibaba Cloud, and which one a Service asks for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from spiderpool.api.core_v1 import Service
from spiderpool.core.cloud.alibaba import clb, nlb
from spiderpool.core.cloud.alibaba.annotations import CLASS, table_of
from spiderpool.core.cloud.alibaba.billing import clb_bill, nlb_bill
from spiderpool.core.cloud.alibaba.naming import IDENTITY_LABEL, INJECTED, INJECTION_LABEL, Naming
from spiderpool.core.cloud.alibaba.needs import clb_has, clb_needs, nlb_has, nlb_needs
from spiderpool.core.cloud.alibaba.provider_ids import parse_provider_id
from spiderpool.core.cloud.alibaba.sources import ACCESS_LISTS, SECURITY_GROUPS
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, IPv6Servers

NLB_CLASS = "alibabacloud.com/nlb"
NLB_IDENTITY, NLB_DOMAIN = "nlb-", ".nlb.aliyuncs.com"
"""How the identity of a network load balancer begins, and its DNS name ends."""
IPV6_ERROR = "ServerGroupNotSupportIpv6"
EXCLUDING_LABELS = ("service.alibabacloud.com/exclude-node", "service.beta.kubernetes.io/exclude-node")

CLB = BalancerKind(
    name="clb",
    annotations=table_of("clb"),
    naming=Naming("service.k8s.alibaba/resources", separator="/", names_protocol=False),
    aspects=clb.ASPECTS,
    annotation_of=clb.ANNOTATION_OF,
    set_by=clb.SET_BY,
    unprotected=clb.UNPROTECTED,
    creation=clb.creation,
    fixed=clb.fixed,
    settings=clb.settings,
    listener=clb.listener,
    group=clb.group,
    group_variant=clb.group_variant,
    port_range=clb.port_range,
    range_settings=clb.range_settings,
    other_variants=clb.other_variants,
    fixed_of_group=(),
    redirect=clb.redirect,
    affinity=clb.affinity,
    has_affinity=clb.has_affinity,
    source_lists=ACCESS_LISTS,
    public={},
    must_replace=clb.must_replace,
    faults=clb.faults,
    creation_faults=lambda options, configuration: (),
    remarks=clb.remarks,
    needs=clb_needs,
    is_in_use=clb_has,
    bill=clb_bill,
    servers_by_address=clb.servers_by_address,
    secure_protocols=frozenset({"https"}),
    ipv6_servers=IPv6Servers("ipv6", IPV6_ERROR),
    published_by_name=False,
    groups_outlive_balancer=False,
    excluding_labels=EXCLUDING_LABELS,
    parse_provider_id=parse_provider_id,
)
"""Classic load balancer, layers 4 and 7."""

NLB = BalancerKind(
    name="nlb",
    annotations=table_of("nlb"),
    naming=Naming("service.k8s.alibaba/nlb", separator=".", names_protocol=True),
    aspects=nlb.ASPECTS,
    annotation_of=nlb.ANNOTATION_OF,
    set_by=nlb.SET_BY,
    unprotected=nlb.UNPROTECTED,
    creation=nlb.creation,
    fixed=nlb.fixed,
    settings=nlb.settings,
    listener=nlb.listener,
    group=nlb.group,
    group_variant=nlb.group_variant,
    port_range=nlb.port_range,
    range_settings=nlb.range_settings,
    other_variants=nlb.other_variants,
    fixed_of_group=nlb.NOT_IN_OTHER_NAMES,
    redirect=None,
    affinity=nlb.affinity,
    has_affinity=nlb.has_affinity,
    source_lists=SECURITY_GROUPS,
    public=nlb.PUBLIC,
    must_replace=nlb.must_replace,
    faults=nlb.faults,
    creation_faults=nlb.creation_faults,
    remarks=nlb.remarks,
    needs=nlb_needs,
    is_in_use=nlb_has,
    bill=nlb_bill,
    servers_by_address=nlb.servers_by_address,
    secure_protocols=frozenset({"tcpssl"}),
    ipv6_servers=IPv6Servers("DualStack", IPV6_ERROR),
    published_by_name=True,
    groups_outlive_balancer=True,
    excluding_labels=EXCLUDING_LABELS,
    parse_provider_id=parse_provider_id,
)
"""Network load balancer, layer 4."""
BY_NAME: Mapping[str, BalancerKind] = {kind.name: kind for kind in (CLB, NLB)}
"""Name → kind."""


def injects_gates(labels: Mapping[str, str]) -> bool:
    """Whether the labels of a Namespace say that its new pods get readiness gates."""
    return labels.get(INJECTION_LABEL) == INJECTED


def kind_of(service: Service, default: str = CLB.name) -> BalancerKind | None:
    """Returns the kind of balancer that a Service requests from us; None: it requests none, or from another one.

    A Service that names no kind keeps what it has; without a balancer it gets one of the kind ``default``.
    """
    if service.spec.type != "LoadBalancer":
        return None
    match service.spec.loadBalancerClass:
        case None | "":
            return _kind_without_class(service, default)
        case name if name == NLB_CLASS:
            return NLB
        case _:
            return None


def _kind_without_class(service: Service, default: str) -> BalancerKind | None:
    """The kind of a Service without a class: what annotations name, what it has, or the default."""
    annotations = service.metadata.annotations or {}
    if annotations.get(CLASS):  # of another controller, which may follow the annotation of the kind as well
        return None
    return (
        BY_NAME.get(_valid(annotations, "type")) or _present_kind(service) or _kind_of_lent(service) or BY_NAME[default]
    )


def _present_kind(service: Service) -> BalancerKind | None:
    """The kind of the balancer that a Service has, or is about to get: while it has two, of that which clients use."""
    metadata = service.metadata
    held = [kind for kind in (CLB, NLB) if kind.naming.finalizer in (metadata.finalizers or ())]
    if len(held) == 1:
        return held[0]
    if published := _published_kind(service):
        return published
    if recorded := (metadata.labels or {}).get(IDENTITY_LABEL, ""):
        return _kind_by_identity(recorded)
    return CLB if service.status.loadBalancer.ingress else next(iter(held), None)


def _published_kind(service: Service) -> BalancerKind | None:
    """The kind to whose balancer the Service's address leads; None: it has none, or it is a name of the user's own."""
    ingress = service.status.loadBalancer.ingress or ()
    if any((each.hostname or "").endswith(NLB_DOMAIN) for each in ingress):
        return NLB
    return CLB if any(each.ip for each in ingress) else None


def _kind_of_lent(service: Service) -> BalancerKind | None:
    """The kind of the user's balancer that a Service names."""
    lent = _valid(service.metadata.annotations or {}, "id")
    return _kind_by_identity(lent) if lent else None


def _valid(annotations: Mapping[str, str], suffix: str) -> str:
    """The value of an annotation that both kinds have, as its type reads it; empty when it is absent or not valid."""
    with suppress(ValueError):
        return CLB.annotations.known[suffix].type.read(CLB.annotations.values(annotations).get(suffix, ""))
    return ""


def _kind_by_identity(identity: str) -> BalancerKind:
    return NLB if identity.startswith(NLB_IDENTITY) else CLB

"""How Services are treated otherwise than by Alibaba Cloud's own cloud controller manager, and why.

An annotation that is not in `DIFFERENCES` has the same values and the same effect there. The page
docs/reference/load-balancer-annotations.md is made from this: who changes what an annotation does changes it here, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from spiderpool.core.cloud.alibaba import clb, nlb
from spiderpool.core.cloud.alibaba.annotations import BOTH, CLB, NLB
from spiderpool.core.cloud.loadbalancer.annotations import Annotation

Verdict: TypeAlias = Literal["same", "different", "refused"]


@dataclass(frozen=True, slots=True)
class Difference:
    """What an annotation does there and not here, or the other way round."""

    suffix: str
    kinds: tuple[str, ...]
    text: str
    is_of_default: bool = False
    """Whether it says what holds there without the annotation."""


@dataclass(frozen=True, slots=True)
class ComparedField:
    """A field, a mark of a Service, or something else that both controllers may read."""

    name: str
    verdict: Verdict
    text: str = ""
    """How it differs; empty: it does not."""


SET_BY = {"clb": clb.SET_BY, "nlb": nlb.SET_BY}
"""Name of a kind → which annotation sets which of the parameters that can be changed."""
LEFT_ALONE = "without it there left alone"
"""Of each annotation with a default that sets something which can be changed: here the default holds, on a balancer
that we made."""
LEFT_ALONE_HERE: frozenset[tuple[str, str]] = frozenset(
    (NLB[0], suffix) for suffix in ("address-type", "ipv6-address-type", *nlb.PROXY_V2)
)
"""Kind and suffix of those that are left alone here as well: their default is the cloud's."""

DIFFERENCES: tuple[Difference, ...] = (
    Difference("tunnel-type", BOTH, "there the Service is left to others"),
    Difference(
        "type",
        BOTH,
        "there behind a feature gate that is off, so not followed for what that controller made; without it there "
        "always clb, here what the Service has, or `cloud.loadBalancers.defaultType`",
    ),
    Difference("name", BOTH, "there up to 128 characters"),
    Difference("resource-group-id", BOTH, "there an error where a lent balancer is in another one; here an Event"),
    Difference("delete-protection", NLB, "there always on, whatever the annotation says", is_of_default=True),
    Difference("modification-protection", NLB, "there always on, whatever the annotation says", is_of_default=True),
    Difference(
        "preserve-lb-on-delete", BOTH, "there any value preserves, also `false`; here an administrator consents"
    ),
    Difference("vswitch-id", CLB, "there several, of which one with free addresses is chosen"),
    Difference(
        "scheduler",
        CLB,
        "there `rr` by default, by which weights have no effect",
        is_of_default=True,
    ),
    Difference("connection-drain", CLB, "there also for UDP"),
    Difference("connection-drain-timeout", NLB, "there 0–900"),
    Difference(
        "graceful-shutdown",
        BOTH,
        "there off by default, of pods alone, and at once; here always, also of nodes with the policy Local, and not "
        "before another server is well",
        is_of_default=True,
    ),
    Difference("vgroup-port", BOTH, "here within a grant; a group may be that of two ports"),
)
"""What differs; nothing else does, but for the general rules of the page."""

_CLASS = (
    "a value that is added later: there the Service is skipped, here its balancer's servers are kept up to date; "
    "beside `…-type: nlb`: there, with that feature gate on, it has no effect, here the Service is another controller's"
)

FIELDS: tuple[ComparedField, ...] = (
    ComparedField("spec.type", "same"),
    ComparedField("spec.loadBalancerClass", "same"),
    ComparedField("spec.ports", "different", "SCTP: there passed on; here refused before any call"),
    ComparedField("spec.selector", "same"),
    ComparedField("spec.externalTrafficPolicy", "different", "here servers that are ending stay until others are well"),
    ComparedField("spec.ipFamilies", "different", "there not read; here refused where servers do not fit"),
    ComparedField(
        "spec.loadBalancerSourceRanges",
        "different",
        "CLB: there ignored, here an access list; NLB: the same group, but there beside those of `security-group-ids`",
    ),
    ComparedField("annotation service.beta.kubernetes.io/load-balancer-source-ranges", "different", "there ignored"),
    ComparedField("spec.sessionAffinity", "different", "`ClientIP`: there ignored; here served where a listener can"),
    ComparedField("spec.sessionAffinityConfig", "different", "there ignored; here its timeout, an hour at most"),
    ComparedField("spec.loadBalancerIP", "refused", "there ignored"),
    ComparedField(
        "spec.allocateLoadBalancerNodePorts",
        "different",
        "`false`: there an empty server group with nodes; here pods are the servers, unless nodes are asked for",
    ),
    ComparedField("spec.publishNotReadyAddresses", "same"),
    ComparedField("spec.externalIPs", "same"),
    ComparedField(
        "spec.healthCheckNodePort",
        "different",
        "there not read; here health checks of nodes ask there with the policy Local, on balancers that we made",
    ),
    ComparedField("annotation service.beta.kubernetes.io/backend-type", "same"),
    ComparedField("annotation service.beta.kubernetes.io/class", "different", _CLASS),
    ComparedField(
        "namespace label k8s.alibabacloud.com/pod-readiness-gate-inject",
        "different",
        "here with `cloud.loadBalancers.injectReadinessGates`, as the webhook then sees all pods",
    ),
    ComparedField("finalizers service.k8s.alibaba/resources and …/nlb", "same"),
    ComparedField("label service.k8s.alibaba/loadbalancer-id", "same"),
    ComparedField(
        "label service.beta.kubernetes.io/hash", "different", "there decides what is compared; here left alone"
    ),
    ComparedField("tags kubernetes.do.not.delete, ack.aliyun.com, kubernetes.reused.by.user", "same"),
    ComparedField("node label service.alibabacloud.com/exclude-node", "same"),
    ComparedField("node label node.kubernetes.io/exclude-from-external-load-balancers", "same"),
    ComparedField("node label service.beta.kubernetes.io/exclude-node", "same"),
    ComparedField(
        "node label node-role.kubernetes.io/master",
        "different",
        "there never a server; here where there are no other nodes",
    ),
    ComparedField("virtual nodes (ECI)", "refused", "there their pods are servers; here those that are servers stay"),
    ComparedField("nodes that are not ready", "different", "where none is ready all stay; there all go"),
    ComparedField("pod readiness gate service.readiness.alibabacloud.com/…", "same"),
)
"""Fields and marks beside annotations with the prefix."""


def differences(annotation: Annotation) -> Iterator[str]:
    """Yields what is different about an annotation, with the kind where it has two and only one differs."""
    letters = {CLB: "C: ", NLB: "N: "}
    kinds_of: dict[str, tuple[str, ...]] = {}
    for kind in annotation.kinds:
        for text in _of_kind(annotation, kind):
            kinds_of[text] = (*kinds_of.get(text, ()), kind)
    for text, kinds in kinds_of.items():
        yield f"{letters.get(kinds, '') if annotation.kinds == BOTH else ''}{text}"


def _of_kind(annotation: Annotation, kind: str) -> Iterator[str]:
    """Yields what is different about an annotation of one kind of balancer."""
    found = [each for each in DIFFERENCES if each.suffix == annotation.suffix and kind in each.kinds]
    sources = SET_BY[kind]
    changeable = {*sources.balancer.values(), *sources.listener.values(), *sources.group.values()}
    is_enforced = annotation.suffix in changeable and (kind, annotation.suffix) not in LEFT_ALONE_HERE
    if annotation.default and is_enforced and not any(each.is_of_default for each in found):
        yield LEFT_ALONE
    yield from (each.text for each in found)

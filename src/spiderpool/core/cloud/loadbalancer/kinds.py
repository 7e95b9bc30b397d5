"""The two kinds of balancer side by side: what `clb` and `nlb` both say, each in the words of its own API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spiderpool.core.cloud.alibaba import clb, nlb
from spiderpool.core.cloud.loadbalancer.annotations import Options
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration, Kind, Settings


@dataclass(frozen=True, slots=True)
class BalancerKind:
    """How one API says what a Service asks for."""

    aspects: Mapping[str, tuple[str, ...]]
    """What of a balancer can be changed later, and by which parameters that are sent together."""
    annotation_of: Mapping[str, str]
    """Which annotation gives a parameter that cannot be changed."""
    creation: Callable[[Options, BalancerConfiguration], Settings]
    fixed: Callable[[Options], Settings]
    settings: Callable[[Options, str], Settings]
    listener: Callable[[str, Options], Settings]
    group: Callable[[str, Options], Settings]


KINDS: Mapping[Kind, BalancerKind] = {
    "clb": BalancerKind(clb.ASPECTS, clb.ANNOTATION_OF, clb.creation, clb.fixed, clb.settings, clb.listener, clb.group),
    "nlb": BalancerKind(nlb.ASPECTS, nlb.ANNOTATION_OF, nlb.creation, nlb.fixed, nlb.settings, nlb.listener, nlb.group),
}

"""Health checks that ask nodes whether they have ready pods of a Service, at its ``spec.healthCheckNodePort``.

With externalTrafficPolicy Local a node serves its own pods alone, and kube-proxy answers at that port whether one of
them is ready. A node whose pods are all terminating fails the check and still serves: the balancer turns away from it
in time, also while nobody takes it out of its server group. By then it must have found another node well, so the check
is quicker to pass than to fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spiderpool.core.cloud.loadbalancer.check_times import SWITCHES
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions
from spiderpool.core.cloud.loadbalancer.values import Listener, Settings

TYPE, PORT, URI = "health-check-type", "health-check-connect-port", "health-check-uri"
QUESTION = frozenset({TYPE, PORT, URI, "health-check-domain", "health-check-method", "health-check-httpcode"})
"""Annotations that say what a check asks for. Where one of them is given, it asks for nothing else."""
NODE_CHECK: Mapping[str, str] = {
    TYPE: "http",
    URI: "/healthz",
    "health-check-interval": "2",
    "healthy-threshold": "2",
    "unhealthy-threshold": "5",
}
"""What such a check is by default, beside its port."""
CHECK = QUESTION | NODE_CHECK.keys() | SWITCHES
"""Annotations that say whether, what and how often a check asks."""


def with_node_check(options: BalancerOptions, port: int) -> BalancerOptions:
    """Returns options by which nodes are asked at a port."""
    known = options.kind.annotations.known
    found = {suffix: known[suffix].type.read(text) for suffix, text in {**NODE_CHECK, PORT: str(port)}.items()}
    return replace(options, defaults=found)


def without_node_check(options: BalancerOptions) -> BalancerOptions:
    """Returns options by which servers are checked where they get their traffic."""
    return replace(options, defaults={}) if options.defaults else options


def is_of_node_check(settings: Settings, sources: Mapping[str, str]) -> bool:
    """Whether the settings of a listener or a group are those of such a check; ``sources``: see SettingSources."""
    found = {suffix: settings.get(parameter, "").lower() for parameter, suffix in sources.items()}
    is_by_http = found.get(TYPE) in (NODE_CHECK[TYPE], "")  # of http listeners the type is not said
    return is_by_http and found.get(URI) == NODE_CHECK[URI]


def with_present_check(listener: Listener, present: Listener, options: BalancerOptions) -> Listener:
    """Returns a listener that stays at its former group, as the present one checks it: those servers may be pods."""
    if not options.defaults:
        return listener
    checks = _of_check(options.kind.set_by.listener)
    settings = {
        parameter: present.settings[parameter] if parameter in checks else value
        for parameter, value in listener.settings.items()
        if parameter not in checks or parameter in present.settings
    }
    return replace(listener, settings=settings)


def with_check_alone(present: Settings, desired: Settings, sources: Mapping[str, str]) -> Settings:
    """Returns present settings with the desired check, which may be none, as far as there are desired ones."""
    checks = {parameter for parameter, suffix in sources.items() if suffix in CHECK}
    return {
        parameter: value if parameter in checks else present[parameter]
        for parameter, value in desired.items()
        if parameter in checks or parameter in present
    }


def _of_check(sources: Mapping[str, str]) -> set[str]:
    """Returns the parameters of such a check."""
    return {parameter for parameter, suffix in sources.items() if suffix in QUESTION or suffix in NODE_CHECK}

"""How long a balancer takes to find a new server well: as long as the slowest of the health checks that look at it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod

from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions
from spiderpool.core.cloud.loadbalancer.values import Listener, ObservedLoadBalancer, ServerGroup, Settings

SETTLING_MARGIN = 1.0
"""Seconds after which a server that was added is checked for the first time."""
SWITCHES = frozenset({"health-check-switch", "health-check-flag"})
"""Annotations that switch health checks on and off."""
TIMES = ("healthy-threshold", "health-check-interval")
"""Annotations whose product is the time in which a check finds a server well; the latter in seconds."""
OFF = ("off", "false")


def settling_time(options: BalancerOptions, parts: Iterable[Listener | ServerGroup]) -> float:
    """Returns the seconds within which each of these parts finds a new server well, as options and settings say.

    One listener may be checked otherwise than the options say, and in a group of a user's these say nothing.
    """
    usual = prod(int(options[suffix]) for suffix in TIMES)
    return max([usual, *(_checked_within(each.settings, options.kind) for each in parts)]) + SETTLING_MARGIN


def present_parts(observed: ObservedLoadBalancer, groups: Iterable[ServerGroup]) -> Iterator[Listener | ServerGroup]:
    """Yields what checks the servers of desired groups now: those that are there, and the listeners that lead there.

    Until a change of a check has been made, which may be refused, servers are checked as before.
    """
    names = {group.name for group in groups}
    yield from (listener for listener in observed.listeners if listener.group in names)
    yield from (group for group in observed.groups if group.name in names)


def is_off(settings: Settings, sources: Mapping[str, str]) -> bool:
    """Whether the settings of a listener or a group say that nothing is checked; ``sources``: see SettingSources."""
    switches = (parameter for parameter, suffix in sources.items() if suffix in SWITCHES)
    return any(settings.get(parameter, "").lower() in OFF for parameter in switches)


def _checked_within(settings: Settings, kind: BalancerKind) -> int:
    """Returns the seconds in which the health checks of a listener or a group find a new server well."""
    sources = {**kind.set_by.listener, **kind.set_by.group}
    if is_off(settings, sources):
        return 0
    numbers = dict.fromkeys(TIMES, 0)
    for parameter, suffix in sources.items():
        if suffix in numbers and settings.get(parameter, "").isdigit():
            numbers[suffix] = int(settings[parameter])
    return prod(numbers.values())

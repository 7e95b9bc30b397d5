"""What kubelet and runtime do in a story, without what differs from run to run, to compare real and fast nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from spiderpool_lab.cni_calls import CniRecord

_RANDOM = re.compile(r"-[a-z0-9]{5}$|-[a-f0-9]{8,10}-[a-z0-9]{5}$")
"""What a controller adds to the name of its pods."""


_Names = Callable[[CniRecord], Iterable[str]]


class Trace(msgspec.Struct, frozen=True):
    """The calls of one story.

    ``sandboxes``: pod → its sandboxes in order, each the shapes of its calls. ``variables``, ``arguments`` and ``keys``
    are the names that calls of each command have in their environment, in CNI_ARGS and in their configuration.
    ``statuses``: pod → phase and reason of its last status.
    """

    sandboxes: dict[str, list[list[str]]]
    variables: dict[str, list[str]]
    arguments: dict[str, list[str]]
    keys: dict[str, list[str]]
    statuses: dict[str, str]


def trace(lives: Mapping[str, list[list[CniRecord]]], statuses: Mapping[str, str]) -> Trace:
    """The trace of a story: pod → the calls of each of its containers, and pod → phase and reason."""
    calls = [call for containers in lives.values() for container in containers for call in container]
    return Trace(
        sandboxes={plain_name(pod): [_shapes(container) for container in lives[pod]] for pod in sorted(lives)},
        variables=_names(calls, lambda call: call.variables),
        arguments=_names(calls, lambda call: call.arguments),
        keys=_names(calls, lambda call: (*(key for key in call.keys if key != "prevResult"),)),
        statuses={plain_name(pod): status for pod, status in sorted(statuses.items())},
    )


def plain_name(pod: str) -> str:
    """The name of a pod without what its controller added at random."""
    return _RANDOM.sub("", pod)


def differences(real: Trace, fast: Trace) -> list[str]:
    """Sentences about what fast nodes do unlike real ones; none if they do the same."""
    return [
        f"{field} of {name}: real {_show(left.get(name))}, fast {_show(right.get(name))}"
        for field in real.__struct_fields__
        for left, right in [(getattr(real, field), getattr(fast, field))]
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


def _shapes(calls: Iterable[CniRecord]) -> list[str]:
    """The shapes of one sandbox's calls; a repeated DEL with neither namespace nor result counts once.

    A kubelet collects sandboxes when it likes, so how many of them there are differs from run to run.
    """
    found: list[str] = []
    for call in calls:
        if not (call.shape == "DEL" and found and found[-1] == "DEL"):
            found.append(call.shape)
    return found


def _names(calls: Iterable[CniRecord], names: _Names) -> dict[str, list[str]]:
    by_command: dict[str, set[str]] = {}
    for call in calls:
        by_command.setdefault(f"{call.plugin} {call.command}", set()).update(names(call))
    return {command: sorted(found) for command, found in sorted(by_command.items())}


def _show(value: object) -> str:
    return "nothing" if value is None else str(value)

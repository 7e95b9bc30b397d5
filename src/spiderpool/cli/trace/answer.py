"""The answer of `trace`: whether a connection goes through, its ways hop by hop, and what drops it first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from spiderpool.api.core_v1 import Pod
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION
from spiderpool.cli.printing import View, alerts, object_reference, plain, sentence
from spiderpool.cli.trace.case import ClusterObjects
from spiderpool.cli.trace.values import Drop, Hop, PacketPath
from spiderpool.core.labels import matches

SHOWN_PATHS = 3
"""Ways that are shown; `wide` shows all."""
DETAIL = "      "
"""Indentation of what belongs to a hop."""


@dataclass(frozen=True, slots=True)
class ConnectionTrace:
    """How a connection goes to an address and port."""

    sender: str
    target: str
    """As it was named, with the protocol."""
    outcome: str
    """``goes through``, ``is dropped`` or ``is not known``, with how many of the ways."""
    goes_through: bool
    """Whether it does, as far as that can be read."""
    drop: Drop | None
    """What drops it first; None: nothing that can be read does."""
    paths: tuple[PacketPath, ...]
    """One for each endpoint that it may get."""
    notes: tuple[str, ...]

    def lines(self, view: View) -> Iterator[str]:
        """The outcome first, then the way to the first endpoint, and where the ways to others differ."""
        yield from sentence(f"{self.sender} to {self.target} {self.outcome}", view)
        if self.drop is not None:
            yield from alerts([f"{self.drop.place}: {self.drop.reason}", f"remedy: {self.drop.remedy}"], view)
        shown = self.paths if view.wide else self.paths[:SHOWN_PATHS]
        for number, path in enumerate(shown):
            yield ""
            yield from _path_lines(path, shown[0] if number else None, view)
        if left_out := len(self.paths) - len(shown):
            yield ""
            yield f"and {left_out} more {'way' if left_out == 1 else 'ways'}: -o wide"
        for note in self.notes:
            yield ""
            yield from sentence(f"Note: {note}", view)

    def document(self) -> Any:
        """All of it."""
        return plain(self)

    def names(self) -> Iterable[str]:
        """The pods that it passes, in order."""
        pods = dict.fromkeys(hop.pod for path in self.paths for hop in path.hops if hop.pod)
        return (object_reference(Pod, key.partition("/")[2]) for key in pods)


def _path_lines(path: PacketPath, first: PacketPath | None, view: View) -> Iterator[str]:
    yield from sentence(f"{'Or to' if first else 'To'} {path.endpoint}", view)
    same = _shared(path.hops, first.hops) if first else 0
    for number, hop in enumerate(path.hops, 1):
        if number > same:
            yield from _hop_lines(f"{number:3}. ", hop, view)
    if path.drop is not None:
        yield from sentence(f"x dropped at {path.drop.place}: {path.drop.reason}", view, "     ")
    if path.unknown:
        yield from sentence(f"not known: {path.unknown}", view, "     ")
    if path.seen_as:
        yield from sentence(f"the server sees {path.seen_as}", view, "     ")
    if path.way_back and not first:
        yield "Back" + (", by another interface than it came (asymmetric)" if path.asymmetric else "")
        for number, hop in enumerate(path.way_back, 1):
            yield from _hop_lines(f"{number:3}. ", hop, view)


def _shared(hops: tuple[Hop, ...], others: tuple[Hop, ...]) -> int:
    """How many hops at the beginning are the same; those are shown once."""
    for number, (one, other) in enumerate(zip(hops, others, strict=False)):
        if one != other:
            return number
    return min(len(hops), len(others))


def _hop_lines(number: str, hop: Hop, view: View) -> Iterator[str]:
    first, *others = list(sentence(f"{hop.place}: {hop.does}", view, "     "))
    yield f"{number}{first.strip()}"
    yield from others
    if hop.rule:
        mark = f"mark {hop.mark}; " if hop.mark else ""
        source = f"from {hop.source}; " if hop.source else ""
        yield from sentence(f"{source}{mark}{hop.rule}; {hop.route}", view, DETAIL + " ")


def trace_of(sender: str, target: str, paths: tuple[PacketPath, ...], *, one_suffices: bool = False) -> ConnectionTrace:
    """The answer without notes. ``one_suffices``: the client chooses among the ways, and not the network."""
    through = [path for path in paths if path.goes_through]
    drop = next((path.drop for path in paths if path.drop), None)
    some = f" by {len(through)} of {len(paths)} ways" if 0 < len(through) < len(paths) else ""
    if paths and (len(through) == len(paths) or (through and one_suffices)):
        return ConnectionTrace(sender, target, f"goes through{some}", True, None, paths, ())
    if drop is None:
        return ConnectionTrace(sender, target, "is not known to arrive", False, None, paths, ())
    dropped = sum(path.drop is not None for path in paths)
    of = f" on {dropped} of {len(paths)} ways" if dropped < len(paths) else ""
    return ConnectionTrace(sender, target, f"is dropped{of}", False, drop, paths, ())


def with_notes(trace: ConnectionTrace, objects: ClusterObjects, sender: Pod | None) -> ConnectionTrace:
    """The answer with what was not considered, or only assumed."""
    keys = {hop.pod for path in trace.paths for hop in path.hops}
    pods = [pod for key in sorted(keys) if (pod := objects.pods.get(key))]
    found = [*objects.notes, *_policy_notes(objects, pods)]
    unnamed = sender is not None and DEFAULT_NETWORK_ANNOTATION not in (sender.metadata.annotations or {})
    if objects.policies.network_note and unnamed:
        found.append(objects.policies.network_note)
    if objects.servers:
        found.append("security groups and network ACLs of the cloud are not readable from here, and may drop it")
    return replace(trace, notes=tuple(found))


def _policy_notes(objects: ClusterObjects, pods: Iterable[Pod]) -> Iterator[str]:
    for pod in pods:
        for each in objects.network_policies:
            same = each.metadata.namespace == pod.metadata.namespace
            if same and matches(each.spec.podSelector, pod.metadata.labels or {}):
                yield (
                    f"NetworkPolicy {each.key} selects pod {pod.key}; Spiderpool enforces none, so it drops nothing"
                    " unless another plugin in the chain of the pod's network enforces it"
                )

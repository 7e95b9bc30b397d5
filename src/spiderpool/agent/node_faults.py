"""Faults of a node as Events about its Node: told when they are found, and again while they last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from spiderpool.api.core_v1 import Node
from spiderpool.api.event_reasons import EventReason
from spiderpool.kube.events import Recorder, Reminders
from spiderpool.telemetry import logger

log = logger("upkeep")


class NodeFaults:
    """Tells the faults of a node. ``node`` returns its Node, None while that is not known."""

    def __init__(self, node: Callable[[], Node | None], recorder: Recorder) -> None:
        self._node = node
        self._recorder = recorder
        self._reminders: defaultdict[EventReason[Node], Reminders[Any]] = defaultdict(Reminders)
        self._found: dict[EventReason[Node], frozenset[Any]] = {}  # keys of what the last look has found

    def look(self, reason: EventReason[Node], found: Mapping[Any, str], now: float) -> None:
        """Tell those of these sentences that are new, or that were last told half an hour ago; ``now`` in seconds."""
        for key in found.keys() - self._found.get(reason, frozenset()):
            log.warning("fault of the node's network", fault=found[key])
        self._found[reason] = frozenset(found)
        reminders = self._reminders[reason]
        reminders.retain(found)
        for key, sentence in found.items():
            if reminders.due(key, now) and self.report(reason, sentence):
                reminders.note(key, now)

    def report(self, reason: EventReason[Node], message: str) -> bool:
        """Record an Event about the Node; False where it is not known, or too many other Events wait."""
        node = self._node()
        return node is not None and self._recorder.event(node, reason, message)

"""Says by an Event when addresses stay registered only because a node's agent does not say that it knows its pools."""

from __future__ import annotations

from collections.abc import Callable

from spiderpool.api import event_reasons
from spiderpool.cloudcontroller.eni_families import ENIFamily
from spiderpool.kube.events import Recorder, Reminders
from spiderpool.telemetry import logger

REPORT_AFTER = 300.0
"""Seconds after which an agent is late that should have followed its pools: it takes some seconds."""
REMEDY = (
    "Check that spiderpool-agent runs on this node in the version of spiderpool-cloud; if it hangs, restart its pod"
)

log = logger("addresses")


class AgentDelays:
    """The ENIs whose addresses wait for an agent, reported for each node, and again while one of its ENIs waits."""

    def __init__(self, recorder: Recorder, clock: Callable[[], float]) -> None:
        self._recorder = recorder
        self._clock = clock
        self._since: dict[tuple[str, int], tuple[str, float]] = {}  # key of a waiting ENIFamily → node, and since when
        self._reminders: Reminders[str] = Reminders()  # of nodes

    def begin(self, family: ENIFamily, reason: str) -> None:
        """Addresses wait, for this reason: for the first time or still."""
        node, now = family.node.name, self._clock()
        _, since = self._since.setdefault(family.key, (node, now))
        if now - since < REPORT_AFTER or not self._reminders.due(node, now):
            return
        text = f"spare addresses of ENI {family.eni.identity} stay registered: {reason}. {REMEDY}"
        if self._recorder.event(family.node, event_reasons.AGENT_POOLS_NOT_OBSERVED, text):
            self._reminders.note(node, now)
            log.warning("agent does not know the pools", node=node, eni=family.eni.identity, reason=reason)

    def end(self, key: tuple[str, int]) -> None:
        """Nothing waits for the agent in this family, or the family is gone."""
        self._since.pop(key, None)
        self._reminders.retain({node for node, _ in self._since.values()})

    def retain(self, keys: set[tuple[str, int]]) -> None:
        """End all families but these."""
        for key in self._since.keys() - keys:
            self.end(key)

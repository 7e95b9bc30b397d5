"""Checks of the traffic in a running lab: probes that are sent side by side, and the verdict on their answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.probes import Answer, TrafficProbe

ROUNDS, PROBES_PER_ROUND = 5, 6
"""Up to 30 probes for a check that several endpoints answer: of two, one stays unseen with a probability of 2⁻²⁹."""
ATTEMPTS = 2
"""Rounds for a check that is not answered: a node that has just started may be too busy at first."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check. Results of one ``topic`` are shown together; ``text`` names the check."""

    topic: str
    text: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Expectation:
    """The answer that a probe must get; an empty set or 0 allows any.

    ``answered_by``: the pods that must answer, each at least once. ``seen_as``: the client addresses that the server
    may see. ``forwarded_for``: the client addresses that a proxy may name in X-Forwarded-For. ``status``: of HTTP.
    """

    answered: bool = True
    answered_by: frozenset[str] = frozenset()
    seen_as: frozenset[str] = frozenset()
    forwarded_for: frozenset[str] = frozenset()
    status: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """A probe sent from ``place`` (a node, or the internet), its description and the answer that it must get."""

    topic: str
    place: str
    text: str
    probe: TrafficProbe
    expected: Expectation = Expectation()


@dataclass(slots=True)
class _PendingCheck:
    """A check and the answers to it so far."""

    check: Check
    answers: list[Answer] = field(default_factory=list)
    rounds: int = 0

    @property
    def probes(self) -> list[TrafficProbe]:
        """The probes of one round: several where several endpoints must answer."""
        several = len(self.check.expected.answered_by) > 1
        return [self.check.probe] * (PROBES_PER_ROUND if several else 1)

    @property
    def is_open(self) -> bool:
        """Whether another round may change the result: an answer or an endpoint is missing, and no answer is wrong."""
        if self._is_unanswered():
            return self.rounds < ATTEMPTS
        return not self.rounds or (not self._fault() and bool(self._missing_endpoints()))

    def add(self, answers: list[Answer]) -> None:
        """Add the answers of one more round. They replace those of a round in which an answer was missing."""
        earlier = [] if self._is_unanswered() else self.answers
        self.answers = [*earlier, *answers]
        self.rounds += 1

    def result(self) -> CheckResult:
        missing = ", ".join(sorted(self._missing_endpoints()))
        fault = self._fault() or (f"never answered by {missing}" if missing else "")
        return CheckResult(self.check.topic, self.check.text, not fault, fault)

    def _is_unanswered(self) -> bool:
        return self.check.expected.answered and not all(answer.ok for answer in self.answers)

    def _fault(self) -> str:
        faults = (fault(self.check.expected, answer) for answer in self.answers)
        return next(filter(None, faults), "")

    def _missing_endpoints(self) -> set[str]:
        required = self.check.expected.answered_by if self.check.expected.answered else frozenset()
        return set(required) - {_reported(answer, "pod") for answer in self.answers}


def run_checks(cluster: LabCluster, checks: Iterable[Check]) -> list[CheckResult]:
    """Run all checks and return their results in order.

    Places send their probes side by side. A check whose endpoints have not all answered is repeated, which is safe
    because probes change nothing.
    """
    pending = [_PendingCheck(check) for check in checks]
    for _ in range(ROUNDS):
        if still_open := [check for check in pending if check.is_open]:
            _run_round(cluster, still_open)
    return [check.result() for check in pending]


def fault(expected: Expectation, answer: Answer) -> str:
    """What is wrong with one answer, in words; empty if nothing is."""
    if answer.ok != expected.answered:
        return answer.error or "there was an answer"
    if not answer.ok:
        return ""
    pod, client, forwarded_for = (_reported(answer, name) for name in ("pod", "client", "forwardedFor"))
    if expected.status and answer.status != expected.status:
        return f"status {answer.status}"
    if expected.answered_by and pod not in expected.answered_by:
        return f"answered by {pod or 'somebody unknown'}"
    if expected.seen_as and client not in expected.seen_as:
        return f"seen as {client or 'nobody'} instead of {' or '.join(sorted(expected.seen_as))}"
    if expected.forwarded_for and forwarded_for not in expected.forwarded_for:
        return f"forwarded for {forwarded_for or 'nobody'} instead of {' or '.join(sorted(expected.forwarded_for))}"
    return ""


def _run_round(cluster: LabCluster, checks: Sequence[_PendingCheck]) -> None:
    by_place: dict[str, list[_PendingCheck]] = {}
    for pending in checks:
        by_place.setdefault(pending.check.place, []).append(pending)
    with ThreadPoolExecutor(len(by_place)) as threads:
        for _ in threads.map(lambda place: _run_at(cluster, place, by_place[place]), by_place):
            continue  # reading the results raises what a thread has raised


def _run_at(cluster: LabCluster, place: str, checks: list[_PendingCheck]) -> None:
    probes = [(pending, pending.probes) for pending in checks]
    answers = iter(cluster.probe(place, [probe for _, several in probes for probe in several]))
    for pending, several in probes:
        pending.add(list(islice(answers, len(several))))


def _reported(answer: Answer, name: str) -> str:
    """A field that the server reports in its answer; empty for an answer without a body."""
    if not answer.ok or not answer.body:
        return ""
    try:
        return str(json.loads(answer.body)[name])
    except (ValueError, KeyError, TypeError):  # answered by a program that is not one of the lab's servers
        return ""

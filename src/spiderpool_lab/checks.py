"""Questions to a running lab and what must come of them: asked all at once, judged one by one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.probes import Answer, TrafficProbe

ROUNDS, PROBES_A_ROUND = 5, 6
"""A Service with two endpoints hides one in 30 answers with probability 2⁻²⁹."""
HEARINGS = 2
"""Rounds for a question that is not answered: a node that begins to serve may be too busy at first."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its outcome."""

    topic: str
    question: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must come of a question; empty sets allow anybody.

    ``by``: who answers, each of them in a few rounds. ``seen_as``: as whom the far end may see who asks, and
    ``forwarded_for``: for whom a proxy between says that it asks. ``status`` is that of HTTP; 0 allows any.
    """

    answered: bool = True
    by: frozenset[str] = frozenset()
    seen_as: frozenset[str] = frozenset()
    forwarded_for: frozenset[str] = frozenset()
    status: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """A probe from a place (a node, or the internet), what it stands for and what must come of it."""

    topic: str
    place: str
    text: str
    probe: TrafficProbe
    expected: Expectation = Expectation()


@dataclass(slots=True)
class _PendingQuestion:
    """A question and all answers to it so far."""

    question: Question
    answers: list[Answer] = field(default_factory=list)
    heard: int = 0

    @property
    def copies(self) -> list[TrafficProbe]:
        several = len(self.question.expected.by) > 1
        return [self.question.probe] * (PROBES_A_ROUND if several else 1)

    @property
    def is_open(self) -> bool:
        """Whether nothing is wrong yet but that not everybody has answered, or that it was heard once in vain."""
        if self._in_vain():
            return self.heard < HEARINGS
        return not self.heard or (not self._fault() and bool(self._missing()))

    def add(self, answers: list[Answer]) -> None:
        """What was heard in one more round; it makes up for what was asked in vain before."""
        kept = [] if self._in_vain() else self.answers
        self.answers = [*kept, *answers]
        self.heard += 1

    def check(self) -> Check:
        missing = ", ".join(sorted(self._missing()))
        fault = self._fault() or (f"never answered by {missing}" if missing else "")
        return Check(self.question.topic, self.question.text, not fault, fault)

    def _in_vain(self) -> bool:
        return self.question.expected.answered and not all(answer.ok for answer in self.answers)

    def _fault(self) -> str:
        faults = (fault(self.question.expected, answer) for answer in self.answers)
        return next(filter(None, faults), "")

    def _missing(self) -> set[str]:
        wanted = self.question.expected.by if self.question.expected.answered else frozenset()
        return set(wanted) - {_told(answer, "pod") for answer in self.answers}


def ask(cluster: LabCluster, questions: Iterable[Question]) -> list[Check]:
    """Ask all questions, the places side by side, again where not everybody has answered; outcomes in order."""
    hearings = [_PendingQuestion(question) for question in questions]
    for _ in range(ROUNDS):
        if waiting := [hearing for hearing in hearings if hearing.is_open]:
            _hear(cluster, waiting)
    return [hearing.check() for hearing in hearings]


def fault(expected: Expectation, answer: Answer) -> str:
    """What is wrong with one answer; empty if nothing is."""
    if answer.ok != expected.answered:
        return answer.error or "there was an answer"
    if not answer.ok:
        return ""
    who, client, behind = (_told(answer, what) for what in ("pod", "client", "forwardedFor"))
    if expected.status and answer.status != expected.status:
        return f"status {answer.status}"
    if expected.by and who not in expected.by:
        return f"answered by {who or 'somebody unknown'}"
    if expected.seen_as and client not in expected.seen_as:
        return f"seen as {client or 'nobody'} instead of {' or '.join(sorted(expected.seen_as))}"
    if expected.forwarded_for and behind not in expected.forwarded_for:
        return f"forwarded for {behind or 'nobody'} instead of {' or '.join(sorted(expected.forwarded_for))}"
    return ""


def _hear(cluster: LabCluster, hearings: Sequence[_PendingQuestion]) -> None:
    by_place: dict[str, list[_PendingQuestion]] = {}
    for hearing in hearings:
        by_place.setdefault(hearing.question.place, []).append(hearing)
    with ThreadPoolExecutor(len(by_place)) as threads:
        for _ in threads.map(lambda place: _hear_at(cluster, place, by_place[place]), by_place):
            continue  # only to raise what a thread has raised


def _hear_at(cluster: LabCluster, place: str, hearings: list[_PendingQuestion]) -> None:
    asked = [(hearing, hearing.copies) for hearing in hearings]
    answers = cluster.probe(place, [probe for _, copies in asked for probe in copies])
    heard = iter(answers)
    for hearing, copies in asked:
        hearing.add(list(islice(heard, len(copies))))


def _told(answer: Answer, what: str) -> str:
    """What the server says of itself or of the client; empty for answers without a body."""
    if not answer.ok or not answer.body:
        return ""
    try:
        return str(json.loads(answer.body)[what])
    except (ValueError, KeyError, TypeError):
        return ""

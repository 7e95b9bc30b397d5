"""What the answers to the questions of a connectivity test mean, and what to look at next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from spiderpool.cli.connectivity.matrix import TITLES, Question, Topic
from spiderpool.cli.connectivity.prober import LARGE_LOST


class ProbeLine(msgspec.Struct, frozen=True):
    """A line that the prober writes into its log."""

    round: int = 0
    id: int = -1
    ok: bool = False
    ms: float = 0.0
    by: str = ""
    seen: str = ""
    error: str = ""
    latency: float = 0.0
    """Milliseconds of a round trip, half of all being shorter."""
    rate: float = 0.0
    """Mbit in a second."""
    done: bool = False
    """Whether the round is over."""
    serves: int = 0
    fatal: str = ""


@dataclass(frozen=True, slots=True)
class ConnectivityRow:
    """One question, and what became of it."""

    topic: Topic
    source: str
    target: str
    question: str
    kind: str
    ok: bool
    milliseconds: float | None = None
    answer: str = ""
    """What was measured, or what failed."""
    remedy: str = ""
    """What to look at where it failed."""
    family: int | None = None
    """4 or 6; None: the question is about both."""


def read_lines(log: str) -> list[ProbeLine]:
    """The lines of a log that are the prober's; the last one may be half written, and others may be an error's."""
    found = []
    for line in log.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=ProbeLine))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return found


def judge(
    asked: Sequence[Question], answers: Mapping[int, ProbeLine], silent: Mapping[str, str]
) -> list[ConnectivityRow]:
    """A row for each question; its number is its place. ``silent``: why there is no answer of a pod."""
    return [_row(question, answers.get(number), silent) for number, question in enumerate(asked)]


def _row(question: Question, line: ProbeLine | None, silent: Mapping[str, str]) -> ConnectivityRow:
    if line is None:
        failure = silent.get(question.pod, f"pod {question.pod} did not answer in time")
    else:
        failure = line.error if not line.ok else _wrong(question, line)
    measured = f"{line.rate:g} Mbit/s, {line.latency:g} ms" if line and line.rate and not failure else ""
    return ConnectivityRow(
        topic=question.topic,
        source=question.source,
        target=question.target,
        question=question.text,
        kind=question.kind + (f" from {question.bind}" if question.bind else ""),
        ok=not failure,
        milliseconds=line.ms if line and not failure else None,
        answer=failure or measured,
        remedy=_remedy(question, failure) if failure else "",
        family=question.family,
    )


def _wrong(question: Question, line: ProbeLine) -> str:
    """What is wrong with an answer; empty: nothing."""
    if question.answered_by and line.by not in question.answered_by:
        return f"answered by {line.by or 'somebody unknown'}"
    if question.seen_as and line.seen not in question.seen_as:
        return f"seen as {line.seen or 'nobody'} instead of {' or '.join(sorted(question.seen_as))}"
    return ""


def _remedy(question: Question, failure: str) -> str:
    if failure == LARGE_LOST:
        return "the MTUs on the way: `ip link` on both nodes, and the MTU of the network"
    if failure.startswith("seen as"):
        return "who translates addresses on the way: rules of kube-proxy and of the cloud's gateway"
    if failure == "Connection refused" and question.topic is Topic.TO_NODE:
        return f"a packet filter of node {question.nodes[-1]}"
    return " and ".join(_commands(question))


def _commands(question: Question) -> Iterator[str]:
    match question.topic:
        case Topic.CLUSTER_IP | Topic.NODE_PORT:
            yield f"kube-proxy on node {question.nodes[0]}, `spiderpoolctl doctor --node {question.nodes[0]}`"
        case Topic.DNS:
            yield "`kubectl --namespace kube-system get pods -l k8s-app=kube-dns`, and the ClusterIP questions above"
        case Topic.LOAD_BALANCER:
            yield "`kubectl describe service`, whose Events say what the balancer lacks"
        case Topic.EGRESS:
            yield "the gateway of the pool, and the NAT gateway or the elastic address behind it"
        case Topic.OTHER_NODE | Topic.SECOND_NETWORK:
            yield from (f"`spiderpoolctl doctor --node {node}`" for node in question.nodes)
            yield "security groups between the nodes"
        case _:
            yield from (f"`spiderpoolctl doctor --node {node}`" for node in question.nodes)


def verdict(rows: Iterable[ConnectivityRow]) -> str:
    """All of it in a sentence; it names what the failures have in common."""
    found = list(rows)
    failed = [each for each in found if not each.ok]
    if not found:
        return "Nothing was asked"
    if not failed:
        return f"All {len(found)} questions were answered as they should be"
    common = _in_common(failed, [each for each in found if each.ok])
    return f"{len(failed)} of {len(found)} questions failed{f': all of them {common}' if common else ''}"


def _in_common(failed: Sequence[ConnectivityRow], passed: Sequence[ConnectivityRow]) -> str:
    """What all failures have and no success has: a source, a family, a topic; empty where nothing is."""
    traits: dict[str, Callable[[ConnectivityRow], str]] = {
        "from": lambda each: each.source,
        "about": lambda each: TITLES[each.topic],
        "by": lambda each: f"IPv{each.family}" if each.family else "",
    }
    for word, trait in traits.items():
        values = {trait(each) for each in failed}
        if len(values) == 1 and "" not in values and values.isdisjoint({trait(each) for each in passed}):
            return f"{word} {values.pop()}"
    return ""

"""The life of a connectivity test: its pods are made, put their questions, and are removed, whatever happens."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Event, Namespace, Node, Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.connection import Cluster
from spiderpool.cli.connectivity import objects
from spiderpool.cli.connectivity.judgement import ConnectivityRow, ProbeLine, judge, read_lines
from spiderpool.cli.connectivity.matrix import (
    NODE_TOPICS,
    PAYLOAD,
    TITLES,
    AskedServices,
    ProbeInterface,
    ProbePod,
    Question,
    Topic,
)
from spiderpool.cli.connectivity.objects import ProbeFrame, ProbeSite
from spiderpool.cli.plan.pods import ENDED
from spiderpool.cli.printing import Say
from spiderpool.core.addresses import version_of_text
from spiderpool.core.annotations import FIRST_INTERFACE
from spiderpool.core.ipam.history import seconds
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Conflict, Forbidden, Invalid, NotFound

POLL_INTERVAL = 0.5
"""Seconds between two looks at pods and their logs."""
QUESTION_TIMEOUT = 2.0
"""Seconds that a pod waits for each answer; it tries twice."""
SETTLING = 3.0
"""Seconds before what failed is asked once more: kube-proxy follows new pods after a moment."""
REMOVAL_TIMEOUT = 60.0
"""Seconds for the removal of the Namespace and its pods."""
LOGS_AT_ONCE = 8
TAIL = 5
"""Last lines of a log that a look reads. The one that is waited for is the last; others may be an error's."""
LINE_BYTES = 1024
"""Bytes of a line that is read: more than the prober writes into one."""


@dataclass(slots=True)
class ProbeRun:
    """A test whose pods exist."""

    cluster: Cluster
    frame: ProbeFrame
    deadline: float
    """Of `time.monotonic`."""
    say: Say
    silent: dict[str, str] = field(default_factory=dict)
    """Pods that cannot put questions, and why."""
    notes: list[str] = field(default_factory=list)
    """What the test left out."""
    refused: str = ""
    """Why pods on the host network may not be made."""
    rounds: int = 0
    _began: float = field(default_factory=time.monotonic)
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOGS_AT_ONCE))

    async def start(self, sites: Sequence[ProbeSite], nodes: Mapping[str, Node]) -> objects.ProbeService:
        """Make everything but the Namespace; the Service as it is stored."""
        client, timeout = self.cluster.client, self.cluster.timeout
        await client.create(objects.program(self.frame), timeout=timeout)
        service = await client.create(objects.service(self.frame), timeout=timeout)
        for site in sites:
            addresses = () if site.network else nodes[site.node].internal_addresses
            try:
                await self._create(objects.pod(self.frame, site, addresses))
            except (Forbidden, Invalid) as error:
                if site.network:
                    raise
                self.refused = error.message  # such as by a policy: the pods of networks can still be tested
        return service

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps the answer from being whole."""
        if not self.refused:
            return ()
        options = " ".join(f"--without {each.value}" for each in Topic if each in NODE_TOPICS)
        text = (
            f"pods on the host network were refused, so nodes were not asked: {self.refused}; without them: {options}"
        )
        return (text,)

    async def _create(self, pod: objects.ProbePodObject) -> None:
        """Make a pod. A new Namespace gets its service account after a moment; until then pods are refused."""
        while True:
            try:
                await self.cluster.client.create(pod, timeout=self.cluster.timeout)
            except Forbidden as error:
                if "serviceaccount" not in error.message or self._is_over(reserve=0.9):
                    raise
                await asyncio.sleep(POLL_INTERVAL)
            else:
                return

    async def until_running(self, sites: Sequence[ProbeSite]) -> dict[str, Pod]:
        """The pods that run, once all do or the time is over; why others do not is in ``silent``."""
        wanted = {site.name for site in sites}
        while True:
            found = {each.name: each for each in await self.cluster.needed(Pod, self.frame.namespace)}
            running = {name: each for name, each in found.items() if each.status.is_running and each.status.podIPs}
            ended = {name for name, each in found.items() if each.status.phase in ENDED}
            if wanted <= running.keys() | ended or self._is_over(reserve=0.5):
                break
            await asyncio.sleep(POLL_INTERVAL)
        for name in wanted - running.keys():
            self.silent[name] = await self._why_not_running(name)
        return running

    def _is_over(self, reserve: float = 0.0) -> bool:
        """Whether the time is over, but for a part of it that is kept for what follows."""
        return time.monotonic() > self.deadline - reserve * (self.deadline - self._began)

    async def _why_not_running(self, name: str) -> str:
        fields = f"involvedObject.name={name}"
        events = await self.cluster.list(Event, self.frame.namespace, fields=fields) or ()
        ordered = sorted(events, key=lambda each: each.lastTimestamp or "")
        refusals = [each for each in ordered if each.reason == event_reasons.ADDRESS_REFUSED.name]
        warnings = refusals or [each for each in ordered if each.type == "Warning"]
        if warnings:
            return f"{warnings[-1].reason}: {warnings[-1].message}"
        if fatal := [each.fatal for each in (await self._log(name, TAIL))[0] if each.fatal]:
            return fatal[0]
        return "it does not run, and no Event says why"

    async def until_serving(self, running: Mapping[str, Pod]) -> dict[str, Pod]:
        """Those of the pods that listen by now, which each says in its log; why others do not is in ``silent``."""
        left, said = await self._until_said(running, lambda line: bool(line.serves or line.fatal), reserve=0.4)
        dumb = {pod: "it runs, but did not say in time that it listens" for pod, fault in left.items() if not fault}
        fatal = {pod: each.fatal for pod, lines in said.items() for each in lines if each.fatal}
        self.silent |= {pod: fault for pod, fault in left.items() if fault} | dumb | fatal
        return {name: pod for name, pod in running.items() if name not in dumb.keys() | fatal.keys()}

    async def put(self, asked: Sequence[Question], fields: dict[str, Any]) -> dict[int, ProbeLine]:
        """The answers to a round of questions, by their place among ``asked``, as far as they come in time."""
        self.rounds += 1
        by_pod: dict[str, list[tuple[int, Question]]] = {}
        for place, question in enumerate(asked):
            if question.pod not in self.silent:
                by_pod.setdefault(question.pod, []).append((place, question))
        for pod, listed in by_pod.items():
            text = objects.questions_annotation(self.rounds, listed, fields)
            body = {"metadata": {"annotations": {objects.QUESTIONS: text}}}
            await self.cluster.client.patch(Pod, pod, body, self.frame.namespace, timeout=self.cluster.timeout)
        return await self._answers({pod: len(listed) for pod, listed in by_pod.items()})

    async def _answers(self, counts: Mapping[str, int]) -> dict[int, ProbeLine]:
        """What pods say of so many questions, once all are done or the time is over; who is not is silent from now."""
        left, _ = await self._until_said(counts, lambda line: line.done and line.round == self.rounds)
        for pod, fault in left.items():
            self.silent[pod] = fault or f"pod {pod} did not answer in time; a longer --timeout gives it more"
        found: dict[int, ProbeLine] = {}

        async def read(pod: str) -> None:
            lines, fault = await self._log(pod, counts[pod] + TAIL)
            found.update({each.id: each for each in lines if each.round == self.rounds and not each.done})
            if fault:
                self.silent[pod] = fault

        await asyncio.gather(*(read(pod) for pod in counts if not left.get(pod)))
        return found

    async def _until_said(
        self, pods: Iterable[str], is_said: Callable[[ProbeLine], bool], reserve: float = 0.0
    ) -> tuple[dict[str, str], dict[str, list[ProbeLine]]]:
        """Look at the ends of logs until each has a certain line: those without it, and why; the others' ends."""
        left, said = dict.fromkeys(pods, ""), dict[str, list[ProbeLine]]()

        async def look(pod: str) -> None:
            lines, left[pod] = await self._log(pod, TAIL)
            if any(map(is_said, lines)):
                said[pod] = lines
                del left[pod]

        while True:
            await asyncio.gather(*map(look, tuple(left)))
            if not left or self._is_over(reserve):
                return left, said
            await asyncio.sleep(POLL_INTERVAL)

    async def _log(self, pod: str, count: int) -> tuple[list[ProbeLine], str]:
        """The last lines of a log, or why it cannot be read, such as a kubelet that the API server does not reach."""
        path = f"{Pod.KIND.object_path(self.frame.namespace, pod)}/log"
        bounds = {"tailLines": str(count), "limitBytes": str(count * LINE_BYTES)}
        try:
            async with self._reading:
                content = await self.cluster.client.get_raw(path, bounds, timeout=self.cluster.timeout)
        except Forbidden:
            raise
        except SpiderpoolError as error:
            return [], f"the log of pod {pod} cannot be read: {error.message}"
        return read_lines(content.decode(errors="replace")), ""

    async def put_all(self, asked: Sequence[Question]) -> list[ConnectivityRow]:
        """A row for each question; what fails is asked once more a moment later."""
        fields: dict[str, Any] = {"timeout": QUESTION_TIMEOUT, "payload": PAYLOAD}
        answers = await self.put(asked, fields)
        rows = judge(asked, answers, self.silent)
        failed = [place for place, row in enumerate(rows) if not row.ok and asked[place].pod not in self.silent]
        if failed and not self._is_over():
            self.say(f"{len(failed)} of {len(asked)} questions failed; they are asked once more")
            await asyncio.sleep(SETTLING)
            again = await self.put([asked[place] for place in failed], fields)
            answers |= {failed[place]: line for place, line in again.items()}
        return judge(asked, answers, self.silent)

    async def measure(self, pairs: Sequence[Question], seconds: float) -> list[ConnectivityRow]:
        """Throughput and latency, one pair after the other."""
        rows = []
        for pair in pairs:
            answers = await self.put([pair], {"timeout": QUESTION_TIMEOUT, "seconds": seconds})
            rows += judge([pair], answers, self.silent)
        return rows


# --- what the pods are


async def with_addresses(
    cluster: Cluster, sites: Sequence[ProbeSite], running: Mapping[str, Pod], nodes: Mapping[str, Node]
) -> list[ProbePod]:
    """The pods that run with the addresses of each interface, by their records."""
    uids = {pod.metadata.uid for pod in running.values()}
    records = [each for each in await cluster.list(SpiderIP) or () if each.spec.podUID in uids]
    found = []
    for site in sites:
        if site.name in running:
            interfaces = _interfaces(running[site.name], records)
            if not site.network:
                interfaces = (ProbeInterface("", nodes[site.node].internal_addresses),)
            found.append(ProbePod(site.name, site.node, site.network, interfaces))
    return found


def _interfaces(pod: Pod, records: Iterable[SpiderIP]) -> tuple[ProbeInterface, ...]:
    """Its interfaces, the first one first; without records what its status says of the first one."""
    by_name: dict[str, list[str]] = {}
    for record in records:
        if record.spec.podUID == pod.metadata.uid:
            by_name.setdefault(record.spec.interface, []).append(record.spec.address.partition("/")[0])
    by_name = by_name or {FIRST_INTERFACE: [each.ip or "" for each in pod.status.podIPs or ()]}
    return tuple(ProbeInterface(name, tuple(sorted(by_name[name], key=version_of_text))) for name in sorted(by_name))


def asked_services(frame: ProbeFrame, service: objects.ProbeService) -> AskedServices:
    """What the pods' own Service offers."""
    ports = [each.get("nodePort") for each in service.spec.get("ports", ()) if each.get("protocol") == "TCP"]
    return AskedServices(
        port=frame.port,
        node_port=ports[0] if ports else None,
        cluster_ips=tuple(service.spec.get("clusterIPs") or ()),
        name=f"{service.name}.{frame.namespace}.svc",
    )


def address_rows(run: ProbeRun, sites: Iterable[ProbeSite], pods: Iterable[ProbePod]) -> list[ConnectivityRow]:
    """Whether each pod runs with its addresses."""
    known = {each.name: each for each in pods}
    return [_address_row(run, site, known.get(site.name)) for site in sites]


def _address_row(run: ProbeRun, site: ProbeSite, pod: ProbePod | None) -> ConnectivityRow:
    title = f"{site.network} on {site.node}" if site.network else f"node {site.node}"
    where = f"`spiderpoolctl explain pod {run.frame.namespace}/{site.name}` (with --keep)"
    return ConnectivityRow(
        topic=Topic.ADDRESS,
        source=title,
        target=" ".join(pod.addresses) if pod else site.name,
        question=TITLES[Topic.ADDRESS],
        kind="start",
        ok=pod is not None,
        answer="ok" if pod else run.silent.get(site.name, ""),
        remedy="" if pod else f"{where}, `spiderpoolctl doctor --node {site.node}`",
    )


# --- coming and going


@asynccontextmanager
async def own_namespace(cluster: Cluster, frame: ProbeFrame, say: Say, *, keep: bool) -> AsyncIterator[None]:
    """A Namespace while the context lasts, or longer if it is to be kept."""
    made = await _create_namespace(cluster, frame)
    try:
        yield
    finally:
        if keep:
            say(f"Namespace {frame.namespace} is kept; its pods end after {frame.seconds} s, or by --clean-up")
        else:
            say(f"removing Namespace {frame.namespace}")
            if not await remove(cluster, [made]):
                say(f"Namespace {frame.namespace} is still being removed")


async def _create_namespace(cluster: Cluster, frame: ProbeFrame) -> Namespace:
    """Make it; without the label for pods on the host network where a policy forbids that one."""
    try:
        made = objects.namespace_object(frame, is_privileged=frame.has_nodes)
        return await cluster.client.create(made, timeout=cluster.timeout)
    except (Forbidden, Invalid):
        if not frame.has_nodes:
            raise
        made = objects.namespace_object(frame, is_privileged=False)
        return await cluster.client.create(made, timeout=cluster.timeout)


def new_token() -> str:
    """What the pods of a test know of each other, and nobody else on the network."""
    return secrets.token_hex(16)


def new_name() -> str:
    """The name of a Namespace."""
    return f"{objects.PREFIX}{secrets.token_hex(3)}"


async def leftovers(cluster: Cluster, *, expired: bool) -> list[Namespace]:
    """Namespaces of former tests: all, or those whose time is over by the API server's clock."""
    found = await cluster.list(Namespace, labels=objects.LIFETIME) or ()
    ours = [each for each in found if objects.NAME.fullmatch(each.name) and not each.terminating]
    if not expired or not ours:
        return ours
    now = await _server_time(cluster)
    return [each for each in ours if is_expired(each, now)]


async def _server_time(cluster: Cluster) -> str | None:
    """The time of the API server: when an object would be made that is not made."""
    wanted = Namespace(metadata=ObjectMeta(name=new_name()))
    return (await cluster.client.create(wanted, timeout=cluster.timeout, is_dry=True)).metadata.creationTimestamp


def is_expired(namespace: Namespace, now: str | None) -> bool:
    """Whether the time of a test's Namespace is over; ``now`` is a time of the API server."""
    text = (namespace.metadata.labels or {}).get(objects.LIFETIME, "")
    made, then = seconds(namespace.metadata.creationTimestamp), seconds(now)
    if made is None or then is None:
        return False
    return not text.isdigit() or made + int(text) <= then


async def remove(cluster: Cluster, namespaces: Sequence[Namespace], timeout: float = REMOVAL_TIMEOUT) -> bool:
    """Delete Namespaces with all that is in them; whether they are gone within the timeout.

    One of the same name that somebody made since is another one, and stays.
    """
    for each in namespaces:
        with suppress(NotFound, Conflict):
            await cluster.client.delete(Namespace, each.name, timeout=cluster.timeout, uid=each.metadata.uid)
    end = time.monotonic() + timeout
    remaining = {each.name: each.metadata.uid for each in namespaces}
    while remaining and time.monotonic() < end:
        for name, uid in tuple(remaining.items()):
            found = await cluster.client.find(Namespace, name, timeout=cluster.timeout)
            if found is None or found.metadata.uid != uid:
                del remaining[name]
        if remaining:
            await asyncio.sleep(POLL_INTERVAL)
    return not remaining

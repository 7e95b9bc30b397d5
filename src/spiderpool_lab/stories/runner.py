"""Plays stories one after the other on one lab, checks the addresses after each, and notes what was seen."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from spiderpool.errors import SpiderpoolError
from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.cni_calls import CniRecord
from spiderpool_lab.stories import audit, contract, leftovers
from spiderpool_lab.stories.contract import Trace
from spiderpool_lab.stories.report import Report, StoryOutcome
from spiderpool_lab.stories.stage import Scale, Stage
from spiderpool_lab.stories.story import Story

_SETTLE_TIMEOUT = 45.0
"""Seconds after a story within which kernels and records have to agree, and its pods have to be gone."""
_COLLECTION_TIMEOUT = 75.0
"""Seconds within which a kubelet has collected the sandboxes of pods that are gone."""
_KINDS = "deployment,statefulset,daemonset,job,pod,service,poddisruptionbudget"

Json = dict[str, Any]


class Runner:
    """Plays stories on a cluster that is up and has its networks."""

    def __init__(self, cluster: LabCluster, scale: Scale, *, progress: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.scale = scale
        self.progress = progress
        self.outcomes: dict[str, StoryOutcome] = {}  # story → what came of it
        self._stages: dict[str, Stage] = {}  # story → where it was played
        self._statuses: dict[str, dict[str, str]] = {}  # story → pod → phase and reason at its end
        self._cuts: dict[str, list[float]] = {}  # node → when its power was cut, in Unix seconds
        self._kept: dict[str, list[CniRecord]] = {}  # node → calls of disks that were thrown away
        self._before = leftovers.conditions(cluster)  # node → its condition before the first story

    def play(self, story: Story) -> StoryOutcome:
        """Play one story, check the addresses, delete what it made, and check again, also that nodes are as before."""
        stage = Stage(self.cluster, f"story-{story.name}", self.scale, self._cuts, self._kept)
        self._stages[story.name] = stage
        started = time.monotonic()
        faults = _faults(lambda: self._prepare(stage)) or _faults(lambda: story.play(stage))
        faults += self._settled("at its end", self.disorder)
        self._statuses[story.name] = _last_statuses(stage)
        faults += _faults(lambda: self._clear(stage))
        faults += self._settled("after its pods", lambda: self.disorder() + self._left(stage))
        faults += self._settled("left behind", self._left_on_nodes)
        faults += audit.overlaps(self._possessions())
        seconds = time.monotonic() - started
        calls = Counter(call.command + ("!" if call.status else "") for call in stage.calls())
        outcome = self.outcomes[story.name] = StoryOutcome(story.name, story.title, seconds, faults, dict(calls))
        self.progress("; ".join([f"{'pass' if outcome.passed else 'FAIL'}  {story.name}, {seconds:.0f} s", *faults]))
        return outcome

    def _prepare(self, stage: Stage) -> None:
        """Make the story's Namespace, and wait until pods may be made in it: controllers may come late, too."""
        self.cluster.plane.kubectl("create", "namespace", stage.namespace)
        stage.wait("the account of pods", lambda: stage.objects("serviceaccounts"))

    def disorder(self) -> list[str]:
        """Addresses that are twice in kernels, or differ between kernels and records; none if all is well."""
        found = audit.kernel_addresses(self.cluster)
        return audit.twice_in_kernels(found) + audit.unlike_records(audit.record_addresses(self.cluster), found)

    def trace(self, story: str) -> Trace:
        """What kubelet and runtime did in a story that was played. Their late DELs may come up to a minute later."""
        pods: dict[str, dict[str, list[CniRecord]]] = defaultdict(dict)
        for call in self._stages[story].calls():
            pods[call.pod.partition("/")[2]].setdefault(call.container, []).append(call)
        lives = {name: list(containers.values()) for name, containers in pods.items()}
        return contract.trace(lives, self._statuses[story])

    def report(self) -> Report:
        """What was seen so far."""
        info = self.cluster.objects("nodes")[0]["status"]["nodeInfo"]
        versions = (
            f"Kubernetes {info['kubeletVersion']}, {info['containerRuntimeVersion']}, Linux {info['kernelVersion']}"
        )
        return Report(versions, dict(self.outcomes), {name: self.trace(name) for name in self.outcomes})

    def wait_for_removals(self) -> None:
        """Wait until every sandbox has had its late DELs, for a little more than a kubelet's period."""
        deadline = time.monotonic() + _COLLECTION_TIMEOUT
        while self._unremoved() and time.monotonic() < deadline:
            time.sleep(1.0)

    def _unremoved(self) -> set[str]:
        """The containers whose last call is a DEL with their result: two more are to come."""
        last = {call.container: call.shape for stage in self._stages.values() for call in stage.calls()}
        return {container for container, shape in last.items() if shape in ("DEL netns result", "DEL result")}

    def _left(self, stage: Stage) -> list[str]:
        records = [record["spec"] for record in self.cluster.objects("spiderips")]
        mine = [
            f"{spec['address']} of {spec['pod']} is still held"
            for spec in records
            if spec["namespace"] == stage.namespace
        ]
        return mine + [f"pod {name} is still there" for name in stage.pods()]

    def _left_on_nodes(self) -> list[str]:
        now = leftovers.conditions(self.cluster)
        found = [
            f"on {node} {one}" for node, before in self._before.items() for one in leftovers.changes(before, now[node])
        ]
        return [*found, *leftovers.unready(now, self.cluster.objects("nodes"))]

    def _settled(self, when: str, look: Callable[[], list[str]]) -> list[str]:
        """What is wrong and stays so; a node that does not answer is wrong as well."""
        deadline = time.monotonic() + _SETTLE_TIMEOUT
        while wrong := _found(look):
            if time.monotonic() > deadline:
                return [f"{when}: {one}" for one in wrong]
            time.sleep(1.0)
        return []

    def _clear(self, stage: Stage) -> None:
        stage.kubectl("delete", _KINDS, "--all", f"--timeout={_SETTLE_TIMEOUT * 2:.0f}s")

    def _possessions(self) -> Iterable[audit.Possession]:
        for node in (node.name for node in self.cluster.fabric.topology.nodes):
            stage = next(iter(self._stages.values()))
            yield from audit.possessions(stage.calls_of(node), self._cuts.get(node, ()))


def _found(look: Callable[[], list[str]]) -> list[str]:
    """What a look finds, or why it finds nothing."""
    try:
        return look()
    except SpiderpoolError as error:
        return [error.message]


def _faults(work: Callable[[], object]) -> list[str]:
    """What went wrong with some work, in words."""
    try:
        work()
    except SpiderpoolError as error:
        return messages(error)
    return []


def messages(error: BaseException | None) -> list[str]:
    """The message of an error, after those of the errors during whose handling it was raised."""
    if error is None:
        return []
    earlier = [] if error.__suppress_context__ else messages(error.__context__)
    return [*earlier, *([error.message] if isinstance(error, SpiderpoolError) else [])]


def _last_statuses(stage: Stage) -> dict[str, str]:
    """Pod → phase and reason of its status."""
    statuses = {name: pod["status"] for name, pod in stage.pods().items()}
    return {name: f"{one.get('phase', '')} {one.get('reason', '')}".strip() for name, one in statuses.items()}

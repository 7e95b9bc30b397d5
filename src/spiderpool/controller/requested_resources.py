"""The resources of free addresses that pods request, and what each stands for: whoever makes pods can name any.

What is learned of pods is learned one by one, in turns with other tasks: a pod with very many networks takes long.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from spiderpool.api import event_reasons
from spiderpool.api.address_resources import OTHERS, RequestingPod
from spiderpool.api.core_v1 import Namespace, Pod
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.ipam.gc import is_finished
from spiderpool.core.network.address_requests import AddressRequirement, RequirementRules, requirements
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.turns import in_turns
from spiderpool.kube.workqueue import WorkQueue, resync
from spiderpool.telemetry import logger

LINGER = 600.0
"""Seconds for which a resource is advertised that no pod requests any more: the next job may be about to come."""
MOST_OF_NAMESPACE = 32
"""Resources that are advertised since pods of one Namespace request them, beside networks of our own Namespace."""
PART_OF_FREE = 0.5
"""A Namespace gets another one while it has less than this part of the room that is left. Six that take what they can
have 24 of 192 each."""
LAST_ROOM = 32
"""Of the room that is left at last, a Namespace gets one, and only if it has none: so the next 32 get one each."""
MOST = 256
"""Resources that are advertised in all beside the default network: each is an entry in the status of Nodes."""
MOST_OF_OTHERS = 192
"""Those of them that are no networks of our own Namespace, which only administrators make."""
MOST_REMEMBERED = 10_000
"""Pods of which is remembered what they need, while they have no address."""
REFUSED = "pods of the Namespaces whose resources had no room"
"""A key of the queue beside those of pods."""

log = logger("advertising")


def requested(pod: Pod | None) -> Mapping[str, int]:
    """How many of each resource a pod requests."""
    return pod.address_requests if isinstance(pod, RequestingPod) else {}


@dataclass(frozen=True, slots=True)
class PodListers:
    """Informers to read from; their owner runs them."""

    pods: Informer[Pod]
    namespaces: Informer[Namespace]


@dataclass(frozen=True, slots=True)
class PodNeeds:
    """What a pod needs of its node, and the networks that were read for it."""

    uid: str | None
    annotations: Mapping[str, str] | None
    requirements: Sequence[AddressRequirement]
    networks: Set[str]


class PodRequirements:
    """What pods need of their nodes, remembered until the Namespace or a network changes that decides about it."""

    def __init__(self, namespaces: Informer[Namespace], rules: RequirementRules) -> None:
        self._namespaces = namespaces
        self._rules = rules
        self._known: dict[str, PodNeeds] = {}  # pod's key → what it needs; the oldest first

    def of(self, pod: Pod) -> Sequence[AddressRequirement]:
        """What each interface of a pod needs, remembered for the next time."""
        known = self._known.get(pod.key)
        if known is None or (known.uid, known.annotations) != (pod.metadata.uid, pod.metadata.annotations):
            self.forget(pod.key)
            if len(self._known) >= MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
            known = self._known[pod.key] = self.read(pod)
        return known.requirements

    def read(self, pod: Pod) -> PodNeeds:
        """The same, and not remembered."""
        networks: set[str] = set()

        def definition(key: str) -> NetworkAttachmentDefinition | None:
            networks.add(key)
            return self._rules.definition(key)

        namespace = self._namespaces.get(pod.metadata.namespace or "")
        found = requirements(pod, namespace, replace(self._rules, definition=definition))
        return PodNeeds(pod.metadata.uid, pod.metadata.annotations, tuple(found.values()), networks)

    def forget(self, pod: str) -> None:
        """Forget a pod that is gone or has its addresses."""
        self._known.pop(pod, None)

    def forget_network(self, network: str) -> list[str]:
        """Forget what a network decides about; returns the pods."""
        return self._forget_where(lambda _, needs: network in needs.networks)

    def forget_namespace(self, namespace: str) -> list[str]:
        """Forget what a Namespace decides about; returns the pods."""
        return self._forget_where(lambda pod, _: pod.startswith(f"{namespace}/"))

    def _forget_where(self, is_stale: Callable[[str, PodNeeds], bool]) -> list[str]:
        stale = [pod for pod, needs in self._known.items() if is_stale(pod, needs)]
        for pod in stale:
            del self._known[pod]
        return stale


class RequestedResources:
    """The resources that pods request, and what each stands for. ``changed`` is called when there is another one."""

    def __init__(
        self, listers: PodListers, rules: RequirementRules, changed: Callable[[], None], recorder: Recorder
    ) -> None:
        self._recorder = recorder
        self._pods = listers.pods
        self._our_namespace = rules.networks.namespace
        self._changed = changed
        self._queue = WorkQueue(self._look, "requested-resources")  # of pods' keys, and REFUSED
        self._requesting: Counter[str] = Counter()  # resource → how many pods request it
        self._unplaced: Counter[str] = Counter()  # resource → how many of them have no node yet
        self._idle_since: dict[str, float] = {}  # resource with room that no pod requests → since when
        self._room_of: dict[str, str] = {}  # resource with room → Namespace of its first pod; our networks: ""
        self._of_namespace: Counter[str] = Counter()  # Namespace, or "" → how many of them
        self._refused: set[str] = set()  # Namespaces with pods that request resources without room
        self._unexplained: dict[str, dict[str, Pod]] = {}  # resource with room → by Namespace the last pod with it
        self._networks: dict[str, Set[str]] = {}  # key of such a pod → the networks that were read for it
        self._our_networks: dict[str, AddressRequirement] = {}  # resource → a network of our own Namespace
        default = rules.networks.cluster_network
        self._default = [AddressRequirement(default)] if default else []
        self.requirements = {each.resource: each for each in self._default}
        self.of_pods = PodRequirements(listers.namespaces, rules)

    async def run(self) -> None:
        """Learn and forget until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(resync(LINGER / 10, lambda: self.forget_idle(time.monotonic())))

    @property
    def unplaced(self) -> list[str]:
        """The resources that pods without a node request."""
        return [resource for resource in self.requirements if resource in self._unplaced]

    def follow(self, old: Pod | None, new: Pod | None) -> bool:
        """Take note of what a pod that has come, gone or changed requests; whether that changes ``unplaced``."""
        before, after = _names(old), _names(new)
        _count(self._requesting, before, after)
        for resource in after - before:
            self._idle_since.pop(resource, None)
        changes = _count(self._unplaced, _names(old, unplaced=True), _names(new, unplaced=True))
        if old is not None and (new is None or new.status.podIPs or is_finished(new)):
            self.of_pods.forget(old.key)
        if new is not None:
            self._give_room(new, after - before)
        return changes

    def on_network(self, key: str, *, exists: bool) -> list[str]:
        """Look again at what a network decides about that has come, gone or changed; returns pods on nodes, by key."""
        if key.startswith(f"{self._our_namespace}/"):
            requirement = AddressRequirement(key)
            if exists:
                self._our_networks[requirement.resource] = requirement
                if requirement.resource in self._requesting:
                    self._give_room_to_ours(requirement)
            else:
                self._our_networks.pop(requirement.resource, None)
        self._look_again(lambda pod: key in self._networks.get(pod.key, ()))
        return self.of_pods.forget_network(key)

    def on_namespace(self, name: str) -> list[str]:
        """The same for a Namespace."""
        self._look_again(lambda pod: pod.metadata.namespace == name)
        return self.of_pods.forget_namespace(name)

    def forget_idle(self, now: float) -> None:
        """Drop the resources that no pod has requested for a while."""
        idle = [each for each in self._room_of if each not in self._requesting]
        gone = [each for each in idle if now - self._idle_since.setdefault(each, now) >= LINGER]
        for resource in gone:
            self._take_room(resource)
            if self.requirements.pop(resource, None) is not None:
                self._changed()

    # --- room

    def _give_room(self, pod: Pod, resources: Iterable[str]) -> None:
        """Give those resources of a pod room that are not known, as far as there is some, and look at the pod."""
        namespace = pod.metadata.namespace or ""
        for resource in sorted(set(resources) - self.requirements.keys()):
            if (ours := self._our_networks.get(resource)) is not None:
                if not self._give_room_to_ours(ours):
                    self._refuse(pod, resource)
            elif resource in self._room_of or self._has_room(namespace):
                if resource not in self._room_of:
                    self._room_of[resource] = namespace
                    self._of_namespace[namespace] += 1
                self._unexplained.setdefault(resource, {})[namespace] = pod
                self._queue.add(pod.key)
            else:
                self._refuse(pod, resource)

    def _give_room_to_ours(self, requirement: AddressRequirement) -> bool:
        resource = requirement.resource
        if resource in self.requirements:
            return True
        self._take_room(resource)  # that of the pods that came before the network
        if len(self._room_of) >= MOST:
            return False
        self._room_of[resource] = ""
        self._of_namespace[""] += 1
        self._learn(requirement)
        return True

    def _has_room(self, namespace: str) -> bool:
        of_others = len(self._room_of) - self._of_namespace[""]
        free = min(MOST - len(self._room_of), MOST_OF_OTHERS - of_others)
        share = PART_OF_FREE * free if free > LAST_ROOM else min(free, 1)
        return self._of_namespace[namespace] < min(MOST_OF_NAMESPACE, share)

    def _take_room(self, resource: str) -> None:
        """Take the room of a resource, if it has any, for one that had none."""
        self._idle_since.pop(resource, None)
        self._unexplained.pop(resource, None)
        if (namespace := self._room_of.pop(resource, None)) is not None:
            self._of_namespace[namespace] -= 1
            if not self._of_namespace[namespace]:
                del self._of_namespace[namespace]
            if self._refused:
                self._queue.add(REFUSED)

    def _refuse(self, pod: Pod, resource: str) -> None:
        namespace = pod.metadata.namespace or ""
        if namespace not in self._refused:
            log.warning("not advertised: too many lists of pools", namespace=namespace, pod=pod.name, resource=resource)
            self._recorder.event(
                pod,
                event_reasons.TOO_MANY_POOL_LISTS,
                f"Nodes do not advertise {resource}, so this pod may wait for a node: Namespace {namespace} has "
                f"{self._of_namespace[namespace]} networks and lists of pools that they advertise, which is its share "
                "of what is left; let its pods name fewer different ones",
            )
        self._refused.add(namespace)

    # --- what they stand for

    def _look_again(self, is_concerned: Callable[[Pod], bool]) -> None:
        for pod in self._examples():
            if is_concerned(pod):
                self._queue.add(pod.key)

    def _examples(self) -> list[Pod]:
        """The pods that may tell what a resource stands for which is not known yet."""
        return [pod for pods in self._unexplained.values() for pod in pods.values()]

    async def _look(self, key: str) -> None:
        """Look at a pod: only pods tell what the resource of a list of pools stands for."""
        if key == REFUSED:
            await self._look_at_refused()
            return
        examples = {pod.key: pod for pod in self._examples()}
        self._networks = {pod: networks for pod, networks in self._networks.items() if pod in examples}
        if (pod := examples.get(key)) is None:
            return
        needs = self.of_pods.read(pod)
        self._networks[key] = needs.networks
        for requirement in needs.requirements:
            if requirement.resource in self._unexplained:
                self._learn(requirement)

    async def _look_at_refused(self) -> None:
        refused, self._refused = self._refused, set()
        async for pod in in_turns(self._pods.items()):
            if pod.metadata.namespace in refused and self._pods.get(pod.key) is pod:
                self._give_room(pod, _names(pod))

    def _learn(self, requirement: AddressRequirement) -> None:
        self._unexplained.pop(requirement.resource, None)
        self.requirements[requirement.resource] = requirement
        self._changed()


def _names(pod: Pod | None, *, unplaced: bool = False) -> Set[str]:
    """The resources that a pod requests; ``unplaced``: only where it waits for a node."""
    if pod is None or (unplaced and (pod.spec.nodeName or is_finished(pod))):
        return frozenset()
    return requested(pod).keys() - {OTHERS}


def _count(counter: Counter[str], before: Iterable[str], after: Iterable[str]) -> bool:
    """Count what has gone and come, without keys that nothing has; whether there is another key, or one less."""
    keys = len(counter)
    gone, come = set(before) - set(after), set(after) - set(before)
    is_new = any(each not in counter for each in come)
    counter.update(come)
    counter.subtract(gone)
    for each in gone:
        if counter[each] <= 0:
            del counter[each]
    return is_new or len(counter) != keys

"""What must hold in every moment of a simulation, and what must hold once the world is quiet."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from spiderpool.agent.pool_cache import LONGEST_BELIEF, SHORT_READ
from spiderpool.agent.record_writes import CALL_TIMEOUT
from spiderpool.agent.repair import CONFIRM
from spiderpool.api.applications import StatefulSet
from spiderpool.api.cni import CNICall
from spiderpool.api.core_v1 import Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import IP_OWNER_LABEL, IP_POOL_LABEL, RELEASE_ANNOTATION, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.core.addresses import object_name
from spiderpool.core.ipam.allocation import cooldown_is_over
from tests.simulation.cloud_checks import CloudChecks, addresses_of
from tests.simulation.kernel import Namespace
from tests.support.api_store import Body, Change

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

MOST_REQUESTS = 150
"""Requests to the API server that an ADD may send: it may try each of some 80 addresses once."""
OWNERS = ("statefulsets", "virtualmachines", "virtualmachineinstances")
LOOKED_AT = CONFIRM + 30.0
"""Seconds in which the agent of a record that another one has deleted hears of it, and looks for a sandbox with it."""
BELIEVED = CALL_TIMEOUT + LONGEST_BELIEF
"""Seconds from a read of a pool that took long until no ADD is refused by it any more: docs/usage/addresses.md."""
SETTLED = 120.0
"""Seconds after which every agent has seen a change of a pool."""


@dataclass(frozen=True)
class Violation:
    """Something that must not be."""

    rule: str
    text: str
    time: float
    subjects: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rule}: {self.text} (at {self.time:.3f} s)"


class ViolationError(Exception):
    """Ends a run."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation


class Checks:
    """Looks at every write of a record and at every address that comes up or goes down in a sandbox."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.violation: Violation | None = None
        self.most_requests = 0
        self.adds: Counter[str] = Counter()
        """ADDs by how they ended."""
        self._freed: dict[str, tuple[float, str]] = {}  # address → when it lost its last record, and the node of that
        self._adds: dict[str, list[float]] = {}  # node → when the ADDs that run began
        self._slow_add: dict[str, float] = {}  # node → when the last ADD ended that took longer than `SHORT_READ`
        self._pool_changed: dict[str, float] = {}
        self._owner_changed: dict[str, float] = {}
        self.last_delete: dict[str, float] = {}
        """UID of a pod → when its last DEL was answered."""
        self._attached: dict[str, list[Namespace]] = {}  # UID of a pod → its attached sandbox
        self._cloud = CloudChecks(cluster, self._fail)
        self._held: dict[str, tuple[str, float]] = {}  # record → its holder, and when the write that says so was sent
        self._sticky: dict[str, str] = {}  # digest of the owner, interface and family → address that it has
        cluster.ledger.on_up = self._up
        cluster.ledger.on_down = self._down
        cluster.api.store.listeners.append(self._written)

    # --- at every step

    def _up(self, namespace: Namespace, address: str) -> None:
        self._cluster.note(f"{address} is up in {namespace.container} of {namespace.pod}", address, namespace.uid)
        forfeited = self._cluster.administrator.is_forfeited
        living = [each for each in self._cluster.ledger.living(address) if not forfeited(each, address)]
        if len(living) > 1 and namespace in living and len({machine_of(each.pod) or each for each in living}) > 1:
            sandboxes = " and ".join(f"{each.container} of {each.pod} on {each.node}" for each in living)
            self._fail("address in two living sandboxes", f"{address} is in {sandboxes}", address)

    def _down(self, namespace: Namespace, address: str) -> None:
        self._cluster.note(f"{address} is down in {namespace.container} of {namespace.pod}", address, namespace.uid)

    def _written(self, change: Change) -> None:
        plural, _, name = change.key
        now = self._cluster.loop.time()
        if plural == "spiderippools" and (change.old or {}).get("spec") != (change.new or {}).get("spec"):
            self._pool_changed[name] = now
            self._cluster.note(f"pool {name} is now {json.dumps((change.new or {}).get('spec'))}", name)
        if plural in OWNERS:
            self._owner_changed[f"{change.key[1]}/{name}"] = now
            self._cluster.note(f"{plural} {name} is {'changed' if change.new else 'gone'}")
        if plural == "spiderips":
            self._record_written(change, now)

    def _record_written(self, change: Change, now: float) -> None:
        name = change.key[2]
        self._note_record(change)
        if change.new is None:
            self._freed[name] = now, (change.old or {})["spec"]["node"]
        else:
            self._freed.pop(name, None)
        if _is_given_up(change.new) and not _is_given_up(change.old):
            self._record_given_up(change, name)
        holder = None if change.new is None else _holder(change.new)
        self._check_held(change, holder)
        self._check_in_use(change, holder)

    def _record_given_up(self, change: Change, name: str) -> None:
        owner = (change.old or {}).get("metadata", {}).get("labels", {}).get(IP_OWNER_LABEL)
        slot = f"{owner} {(change.old or {})['spec']['interface']} {'.' in name}"
        if _is_released_by_hand(change.old):
            self._sticky.pop(slot, None)
        elif owner and self._sticky.get(slot) == name:
            self._check_sticky_release(change, slot)

    def _check_held(self, change: Change, holder: str | None) -> None:
        name = change.key[2]
        if holder is None or change.new is None:
            self._held.pop(name, None)
            return
        if self._held.get(name, ("", 0.0))[0] != holder:
            self._held[name] = holder, self._cluster.api.sent
        self._check_single(change.new, holder)

    def _check_in_use(self, change: Change, holder: str | None) -> None:
        name, administrator = change.key[2], self._cluster.administrator
        for namespace in self._cluster.ledger.living(name):
            if namespace.uid == holder:
                administrator.returned(namespace, name)
            elif (
                namespace.attached
                and not self._is_machines(namespace, change.new)
                and not administrator.answers_for(namespace, name)
            ):
                what = "has no record" if holder is None else f"now belongs to {holder}"
                self._fail(
                    "address of a living sandbox is free",
                    f"{name} {what}, and {namespace.container} of {namespace.pod} on {namespace.node} has it",
                    name,
                    namespace.uid,
                )

    def _note_record(self, change: Change) -> None:
        name = change.key[2]
        if change.new is None:
            self._cluster.note(f"record {name} is deleted", name, (change.old or {})["spec"]["podUID"])
            return
        spec = change.new["spec"]
        state = f"released at {spec['releasedAt']}" if spec.get("releasedAt") else f"held by {spec['podUID']}"
        text = f"record {name} of {spec['namespace']}/{spec['pod']} on {spec['node']}, {spec['interface']}: {state}"
        self._cluster.note(text, name, spec["podUID"])

    def _check_single(self, record: Body, holder: str) -> None:
        """A sandbox that is attached gets no second address.

        But for a create that was sent before a DEL and carried out after it: only garbage collection knows of that,
        and until then others may write the record, as a command that releases it.
        """
        name = record["metadata"]["name"]
        if self._held[name][1] < self.last_delete.get(holder, 0.0):
            return
        for namespace in self._attached.get(holder, ()):
            ips = namespace.names()
            forfeits = any(self._cluster.administrator.is_forfeited(namespace, ip) for ip in ips)
            if not namespace.ending and ips and name not in ips and not forfeits:
                has = ", ".join(sorted(ips))
                text = f"{namespace.container} of {namespace.pod} has {has}, and {name} is held for it"
                self._fail("two records of one interface", text, name, holder, *ips)

    def _check_sticky_release(self, change: Change, owner: str) -> None:
        """A sticky owner loses its address only when it needs it no more: its pool always suits it.

        One that was deleted, or scaled, and is there again may have been seen without need of it meanwhile.
        """
        assert change.old is not None
        spec = change.old["spec"]
        kept = spec.get("owner") or {}
        changed = self._owner_changed.get(f"{kept.get('namespace')}/{kept.get('name')}", 0.0)
        settled = self._cluster.loop.time() - changed > SETTLED
        if self._needs(spec) and settled and not self._has_another(change.old):
            pod = f"{spec['namespace']}/{spec['pod']}"
            self._fail("sticky owner loses its address", f"{change.key[2]} of {pod} is given up", change.key[2])
        self._sticky.pop(owner, None)

    def _has_another(self, record: Body) -> bool:
        """Whether the owner of a record has another one for the interface, as after a migration that has failed."""
        label, spec = record["metadata"]["labels"][IP_OWNER_LABEL], record["spec"]
        return any(
            (body["metadata"].get("labels") or {}).get(IP_OWNER_LABEL) == label
            and body["spec"]["interface"] == spec["interface"]
            and ("." in body["spec"]["address"]) == ("." in spec["address"])
            for body in self._cluster.bodies(SpiderIP).values()
        )

    def attached(self, namespace: Namespace, ips: list[str]) -> None:
        """An ADD has succeeded with these addresses of the first interface."""
        subjects = (*ips, namespace.uid)
        self._cloud.attached(namespace)
        self._attached[namespace.uid] = [namespace]
        if len({"." in ip for ip in ips}) != len(ips) or not ips:
            self._fail("one address per family", f"{namespace.container} of {namespace.pod} has {ips}", *subjects)
        for ip in sorted(namespace.names()):
            record = self._cluster.body(SpiderIP, ip)
            wrong = record is None or _holder(record) != namespace.uid
            if wrong and not self._is_machines(namespace, record):
                if self._cluster.administrator.answers_for(namespace, ip):
                    continue
                self._fail(
                    "address of a living sandbox is free",
                    f"{namespace.container} of {namespace.pod} got {ip}, whose record is {_shown(record)}",
                    *subjects,
                )
            elif record and (owner := (record["metadata"].get("labels") or {}).get(IP_OWNER_LABEL)):
                self._check_sticky(owner, ip, record)
        self._check_granted(namespace)

    def _check_granted(self, namespace: Namespace) -> None:
        """An ADD that succeeds has got one record for each interface and family, and left no other behind.

        What was sent before the pod's last DEL does not count, as in `_check_single`.
        """
        since, slots = self.last_delete.get(namespace.uid, 0.0), dict[tuple[str, bool], str]()
        for name, (holder, sent) in self._held.items():
            if holder != namespace.uid or sent < since:
                continue
            body = self._cluster.body(SpiderIP, name)
            assert body is not None
            other = slots.setdefault((body["spec"]["interface"], "." in name), name)
            if other != name:
                text = f"an ADD of {namespace.container} of {namespace.pod} took {other} and {name}"
                self._fail("two records of one interface", text, other, name, namespace.uid)

    def _check_sticky(self, owner: str, ip: str, record: Body) -> None:
        owner = f"{owner} {record['spec']['interface']} {'.' in ip}"
        former = self._sticky.get(owner)
        kept = self._cluster.body(SpiderIP, former) if former else None
        if former and former != ip and kept is not None:
            text = f"{record['spec']['pod']} got {ip} and had {former}"
            self._fail("sticky owner gets another address", text, ip, former)
        self._sticky[owner] = ip

    def count(self, call: CNICall, requests: int) -> None:
        """An ADD has sent so many requests."""
        self.most_requests = max(self.most_requests, requests)
        if requests > MOST_REQUESTS:
            self._fail(
                "bounded requests", f"an ADD of {call.cni_args} sent {requests} requests", call.required_pod().uid
            )

    def refused(self, node: str, error: Exception, begin: float) -> None:
        """An ADD was refused on a node: no pool that the pod may use had a free address all the time."""
        text = str(error)
        if not text.startswith(("no IPv4 address for", "no IPv6 address for")):
            return
        for pool in text.split(": ", 1)[1].split("; "):
            name = pool.split(": ")[0].removeprefix("pool ").split(" ")[0]
            body = self._cluster.body(SpiderIPPool, name)
            if body is None or "in use" not in pool or not self._is_settled(name):
                continue
            excluded = addresses_of(body, "excludeIPs")
            for address in (object_name(each) for each in addresses_of(body) if each not in excluded):
                since, former = self._freed.get(address, (0.0, ""))
                wait = LOOKED_AT if former == node else 0.0
                if self._may_believe(node, name, since, begin):
                    wait = max(wait, BELIEVED)
                free = self._cluster.body(SpiderIP, address) is None and since + wait < begin
                if free and not self._is_forfeited(address):
                    violation = self._violation("refusal is untrue", f"{text}; but {address} was free", address, name)
                    self._cluster.loop.call_later(1.0, self._confirm, violation, address, begin - 0.1)

    def _may_believe(self, node: str, pool: str, freed: float, begin: float) -> bool:
        """Whether an agent that refuses an ADD may go by a read of the pool from before an address was freed.

        Only one that took long spares it another read. Some ADD has waited for that read, and so took as long.
        """
        now, listed = self._cluster.loop.time(), self._cluster.api.listed.get((node, f"{IP_POOL_LABEL}={pool}"), 0.0)
        others = [each for each in self._adds.get(node, ()) if each != begin]
        slow = any(now - each >= SHORT_READ for each in others) or now - self._slow_add.get(node, -BELIEVED) < BELIEVED
        return slow and listed < freed

    def add_begins(self, node: str, begin: float) -> None:
        """A node's agent is given an ADD."""
        self._adds.setdefault(node, []).append(begin)

    def add_ends(self, node: str, begin: float) -> None:
        """The ADD that began then has ended."""
        self._adds[node].remove(begin)
        if self._cluster.loop.time() - begin >= SHORT_READ:
            self._slow_add[node] = self._cluster.loop.time()

    def _confirm(self, violation: Violation, address: str, since: float) -> None:
        """An address was free indeed if no other ADD was about to take it."""
        if self.violation is None and not self._cluster.api.is_tried(address, since):
            self.violation = violation

    # --- once the world is quiet

    def settled(self) -> list[Violation]:
        """What is not as it should be after one collection."""
        cloud = [self._violation(*each) for each in self._cloud.settled()]
        return [*self._leaks(), *self._lost(), *self._counters(), *self._endpoints(), *self._files(), *cloud]

    def _leaks(self) -> list[Violation]:
        found = []
        for (_, _, name), body in self._cluster.bodies(SpiderIP).items():
            spec = body["spec"]
            used = any(each.uid == spec["podUID"] for each in self._cluster.ledger.living(name))
            if spec.get("releasedAt"):
                record, pool = self._typed(SpiderIP, body), self._cluster.body(SpiderIPPool, spec["pool"])
                now = self._cluster.wall_clock()() - 7300.0  # by the clock that is most behind
                if cooldown_is_over(record, self._typed(SpiderIPPool, pool) if pool else None, now):
                    found.append(self._violation("leak", f"{name} cools for ever", name))
            elif not used and not self._needs(spec) and not self._waits(spec):
                text = f"{name} is held by {spec['podUID']} of {spec['namespace']}/{spec['pod']}, which has it not"
                found.append(self._violation("leak", text, name, spec["podUID"]))
        return found

    def _lost(self) -> list[Violation]:
        found = []
        for address, holders in self._cluster.ledger.holders.items():
            for namespace in holders:
                record = self._cluster.body(SpiderIP, address)
                wrong = record is None or _holder(record) != namespace.uid
                forfeits = self._cluster.administrator.is_forfeited(namespace, address)
                if namespace.attached and wrong and not forfeits and not self._is_machines(namespace, record):
                    text = f"{address} of {namespace.pod} has record {_shown(record)}"
                    found.append(self._violation("address of a living sandbox is free", text, address, namespace.uid))
        return found

    def _counters(self) -> list[Violation]:
        records = Counter(body["spec"]["pool"] for body in self._cluster.bodies(SpiderIP).values())
        found = []
        for (_, _, name), body in self._cluster.bodies(SpiderIPPool).items():
            told = (body.get("status") or {}).get("allocatedIPCount", 0)
            if told != records[name]:
                found.append(self._violation("counters", f"pool {name} says {told}, records are {records[name]}", name))
        return found

    def _endpoints(self) -> list[Violation]:
        uids = {body["spec"]["podUID"] for body in self._cluster.bodies(SpiderIP).values() if _holder(body)}
        wanted = set()
        for (_, namespace, name), body in self._cluster.bodies(Pod).items():
            hashed = (body["metadata"].get("annotations") or {}).get("kubernetes.io/config.hash")
            if {body["metadata"]["uid"], hashed} & uids:
                wanted.add(f"{namespace}/{name}")
        present = {f"{namespace}/{name}" for _, namespace, name in self._cluster.bodies(SpiderEndpoint)}
        return [
            self._violation(
                "endpoints", f"pod {key} {'lacks its' if key in wanted else 'is gone and has an'} endpoint", key
            )
            for key in sorted(wanted ^ present)
        ]

    def _files(self) -> list[Violation]:
        found = []
        for node in self._cluster.nodes:
            containers = {each.container for each in node.kernel.namespaces.values()}
            for path in sorted((node.directory / "sandboxes").glob("*.json")):
                if path.stem not in containers:
                    found.append(self._violation("files", f"{path.name} of {node.name} stays for ever", path.stem))
        return found

    # --- facts

    @staticmethod
    def _is_machines(namespace: Namespace, record: Body | None) -> bool:
        """Whether a record belongs to the virtual machine of a sandbox: it has it in the pod to which it moves, too."""
        owner = (record or {}).get("spec", {}).get("owner") or {}
        machine = machine_of(namespace.pod)
        return machine is not None and owner.get("name") == machine

    def _is_forfeited(self, address: str) -> bool:
        """Whether a sandbox uses an address without a record, by the word of an administrator."""
        living, forfeited = self._cluster.ledger.living(address), self._cluster.administrator.is_forfeited
        return any(forfeited(each, address) for each in living)

    def _needs(self, spec: Body) -> bool:
        """Whether the sticky owner of a record still needs it."""
        owner = spec.get("owner")
        if not owner:
            return False
        key = f"{owner['namespace']}/{owner['name']}"
        if owner["kind"] == "StatefulSet":
            body = self._cluster.body(StatefulSet, key)
            ordinal = int(spec["pod"].rpartition("-")[2])
            return body is not None and ordinal < body["spec"]["replicas"]
        return any(self._cluster.body(kind, key) is not None for kind in (VirtualMachine, VirtualMachineInstance))

    def _waits(self, spec: Body) -> bool:
        """Whether the pod of a record lives and has no sandbox, as where no address is left for its other interface."""
        kubelets = [node.kubelet for node in self._cluster.nodes if node.kubelet]
        workers = [kubelet.workers.get(spec["podUID"]) for kubelet in kubelets]
        return any(worker is not None and worker.namespace is None for worker in workers)

    def _is_settled(self, pool: str) -> bool:
        """Whether all agents have seen the last change of a pool: not while some of them were cut off."""
        changed = max(self._pool_changed.get(pool, 0.0), self._cluster.reached_at)
        return self._cluster.loop.time() - changed > SETTLED

    @staticmethod
    def _typed(kind: Any, body: Body) -> Any:
        return msgspec.convert(body, type=kind)

    def _violation(self, rule: str, text: str, *subjects: str) -> Violation:
        return Violation(rule, text, self._cluster.loop.time(), subjects)

    def _fail(self, rule: str, text: str, *subjects: str) -> None:
        if self.violation is None:
            self.violation = self._violation(rule, text, *subjects)


def _holder(record: Body) -> str | None:
    spec = record["spec"]
    return None if spec.get("releasedAt") else str(spec["podUID"])


def _is_released_by_hand(record: Body | None) -> bool:
    metadata = (record or {}).get("metadata", {})
    return bool((metadata.get("annotations") or {}).get(RELEASE_ANNOTATION) == metadata.get("uid"))


def _is_given_up(record: Body | None) -> bool:
    """Whether nobody has a record any more: it is gone, or cools down, after which it goes whoever wants it then."""
    return record is None or bool(record["spec"].get("releasedAt"))


def _shown(record: Body | None) -> str:
    return "missing" if record is None else json.dumps(record["spec"])


def machine_of(pod: str) -> str | None:
    """The virtual machine of a pod by its key; None for another pod."""
    words = pod.rpartition("/")[2].split("-")
    return words[2] if words[:2] == ["virt", "launcher"] else None

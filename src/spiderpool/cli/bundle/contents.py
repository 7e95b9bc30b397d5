"""`bundle`: a support archive of what there is to know about an installation, without credentials.

Secrets are not read. Whatever goes into the archive passes `redaction`: objects by their keys, other text by its form.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from spiderpool import __version__
from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from spiderpool.api.apiextensions_v1 import CustomResourceDefinition
from spiderpool.api.applications import DaemonSet, Deployment
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.core_v1 import ConfigMap, Event, Node, Service
from spiderpool.api.crd import KINDS
from spiderpool.api.daemon_pods import DaemonPod
from spiderpool.api.discovery_v1 import SERVICE_LABEL, EndpointSlice
from spiderpool.api.meta import Object
from spiderpool.api.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding
from spiderpool.cli.bundle import redaction
from spiderpool.cli.connection import Cluster
from spiderpool.cli.doctor.diagnosis import Diagnosis, examine
from spiderpool.cli.doctor.look import DEFINITIONS, daemon_pods, known_node
from spiderpool.cli.installation import (
    AGENT,
    COMPONENT_LABEL,
    COMPONENTS,
    CONTROLLER,
    DEFAULT_NAMESPACE,
    LEASES,
)
from spiderpool.cli.policies import CONFIG
from spiderpool.cli.printing import Report, View, printed
from spiderpool.cli.status import Status, read_status
from spiderpool.errors import SpiderpoolError

MOST_BYTES = 16 * 1024 * 1024
"""Bytes of one file with objects; the objects after that are left out."""
LOG_BYTES = 2 * 1024 * 1024
"""Bytes of the end of one container's log."""
LOG_LINES = 20_000
"""Lines of the end of a log that are asked for."""
LOG_READINGS = 8
"""Times that a log is asked for at most, with half the lines each time."""
MOST_LOG_READ = 4 * LOG_BYTES
"""Bytes that the kubelet sends of these lines at most: it leaves out the last ones then."""
BEFORE_CUT = 64 * 1024
"""Bytes before the end of a log that are redacted with it: a credential that begins there is not cut in two."""
MOST_AGENTS = 20
"""Agents of which logs are taken, those first that are not ready, or whose node has findings."""
PAGE = "500"
WIDTH = 120
ALWAYS_LEFT_OUT = (
    "Secrets, and pods and workloads that are not ours: they are not read into the archive",
    "credentials: values of keys that are called password, token, secret, access key and the like, private keys, JSON"
    " Web Tokens, and access keys of the cloud are replaced by REDACTED, in objects as in logs",
)


@dataclass(frozen=True, slots=True)
class Content:
    """The text of a file, and what of it is left out."""

    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class BundlePart:
    """A file that is to be in the archive."""

    name: str
    description: str
    read: Callable[[], Awaitable[Content]]
    """Raises SpiderpoolError."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Objects of one kind: all, or those that selectors and names choose."""

    kind: type[Object]
    namespace: str | None = None
    params: Sequence[tuple[str, str]] = ()
    names: frozenset[str] = frozenset()
    """Empty: any."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is to be written, as far as it is known before the files are read."""

    diagnosis: Diagnosis
    status: Status | None
    parts: tuple[BundlePart, ...]
    left_out: list[str] = field(default_factory=list)

    @property
    def versions(self) -> tuple[str, ...]:
        """Versions, in words."""
        found = self.status.components if self.status else ()
        daemons = (f"{each.name} {each.version}" for each in found if each.version)
        kubernetes = self.status.kubernetes if self.status else None
        return (f"spiderpoolctl {__version__}", f"Kubernetes {kubernetes or 'not known'}", *daemons)


async def prepare(cluster: Cluster, namespace: str | None, node: str | None, now: datetime) -> Bundle:
    """Examine a cluster, and say which files the archive will have.

    Raises ApiUnavailable where nothing answers, Refused for a node that does not exist. A report that fails is left
    out: that is when an archive is needed most.
    """
    await cluster.go_on()
    await known_node(cluster, node)
    left_out = [*ALWAYS_LEFT_OUT]
    try:
        diagnosis = redaction.report(await examine(cluster, namespace, node, now))
    except Exception as error:  # whatever it is
        failed = f"doctor has failed: {redaction.text(repr(error))}"
        diagnosis = Diagnosis(namespace or DEFAULT_NAMESPACE, node, (), (failed,), unread=("doctor",))
        left_out.append(failed)
    home = diagnosis.namespace
    status: Status | None = None
    try:
        status = redaction.report(await read_status(cluster, home))
    except Exception as error:  # whatever it is
        left_out.append(f"status has failed: {redaction.text(repr(error))}")
    pods = await daemon_pods(cluster, home)
    chosen = chosen_pods(pods, diagnosis)
    omitted = len(pods) - len(chosen)
    left_out += [f"logs of {omitted} agents: name one by --node"] if omitted else []
    parts = (*_reports(diagnosis, status), *_objects(cluster, home), *logs(cluster, chosen))
    return Bundle(diagnosis, status, parts, left_out)


def chosen_pods(pods: Iterable[DaemonPod], diagnosis: Diagnosis) -> list[DaemonPod]:
    """The pods whose logs are taken: all but agents, and the agents that matter most."""
    concerned = {each.node for each in diagnosis.findings} | {diagnosis.node}
    agents: list[DaemonPod] = []
    others: list[DaemonPod] = []
    for each in pods:
        (agents if (each.metadata.labels or {}).get(COMPONENT_LABEL) == AGENT else others).append(each)
    agents.sort(
        key=lambda each: (
            each.spec.nodeName != diagnosis.node,
            each.ready,
            each.spec.nodeName not in concerned,
            each.key,
        )
    )
    return [*others, *agents[:MOST_AGENTS]]


async def content_of(part: BundlePart) -> Content:
    """A file, or why there is nothing in it."""
    try:
        return await part.read()
    except SpiderpoolError as error:
        return Content("", f"not read: {redaction.text(error.message)}")


# --- reports


def _reports(diagnosis: Diagnosis, status: Status | None) -> Iterator[BundlePart]:
    view = View(wide=True, width=WIDTH)
    reports: dict[str, Report] = {"doctor": diagnosis} | ({"status": status} if status else {})
    for name, report in reports.items():
        for ending, output, what in (("txt", "wide", "for people"), ("json", "json", "for programs")):
            text = f"{printed(report, output, view)}\n"
            yield BundlePart(f"{name}.{ending}", f"answer of `spiderpoolctl {name}`, {what}", _constant(text))


def _constant(text: str) -> Callable[[], Awaitable[Content]]:
    async def read() -> Content:
        return Content(text)

    return read


# --- objects


def _objects(cluster: Cluster, home: str) -> Iterator[BundlePart]:
    """One file for each kind, one object on each line."""
    ours = ("labelSelector", f"{COMPONENT_LABEL} in ({','.join(COMPONENTS)})")
    everywhere: tuple[type[Object], ...] = (*KINDS, Node)
    at_home: tuple[type[Object], ...] = (Deployment, DaemonSet, DaemonPod, Role, RoleBinding)
    webhooks: tuple[type[Object], ...] = (MutatingWebhookConfiguration, ValidatingWebhookConfiguration)
    roles: tuple[type[Object], ...] = (ClusterRole, ClusterRoleBinding)
    lists = [
        *(Listed(kind) for kind in everywhere),
        *(Listed(kind, home, (ours,)) for kind in at_home),
        *(Listed(kind, None, (ours,)) for kind in roles),
        *(Listed(kind, None, (_named(CONTROLLER),)) for kind in webhooks),
        Listed(ConfigMap, home, (_named(CONFIG),)),
        Listed(Service, home, (_named(CONTROLLER),)),
        Listed(EndpointSlice, home, (("labelSelector", f"{SERVICE_LABEL}={CONTROLLER}"),)),
        Listed(Lease, home, names=frozenset(LEASES.values())),
    ]
    for each in lists:
        address = each.kind.KIND
        name = f"{address.plural}.{address.group}" if address.group else address.plural
        where = f" in {each.namespace}" if each.namespace else ""
        yield BundlePart(f"objects/{name}.jsonl", f"{address.name} objects{where}", _reader(cluster, [each]))
    definitions = [Listed(CustomResourceDefinition, params=(_named(each),)) for each in DEFINITIONS]
    address = CustomResourceDefinition.KIND
    name = f"objects/{address.plural}.{address.group}.jsonl"
    yield BundlePart(name, f"{address.name} objects", _reader(cluster, definitions))
    events = [Listed(Event, params=(("fieldSelector", f"source={each}"),)) for each in COMPONENTS]
    yield BundlePart("objects/events.jsonl", "Events of our daemons", _reader(cluster, events))


def _named(name: str) -> tuple[str, str]:
    return "fieldSelector", f"metadata.name={name}"


def _reader(cluster: Cluster, lists: Sequence[Listed]) -> Callable[[], Awaitable[Content]]:
    async def read() -> Content:
        lines: list[str] = []
        size = 0
        for each in lists:
            async for document in _pages(cluster, each):
                line = json.dumps(redaction.value(document), ensure_ascii=False)
                size += len(line)
                if size > MOST_BYTES:
                    return Content("".join(lines), f"the first {len(lines)} objects only: the others are too large")
                lines.append(f"{line}\n")
        return Content("".join(lines))

    return read


class ListMetadata(msgspec.Struct):
    """metav1.ListMeta, in part."""

    continue_: str = msgspec.field(default="", name="continue")


class ObjectList(msgspec.Struct):
    """A list of objects of any kind, in part."""

    items: list[dict[str, Any]] | None = None
    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)


async def _pages(cluster: Cluster, listed: Listed) -> Any:
    """The documents of a list, page by page. Raises SpiderpoolError."""
    address = listed.kind.KIND
    params = dict(listed.params) | {"limit": PAGE}
    while True:
        content = await cluster.client.get_raw(address.path(listed.namespace), params, timeout=cluster.timeout)
        found = msgspec.json.decode(content, type=ObjectList)
        for each in found.items or ():
            if not listed.names or each.get("metadata", {}).get("name") in listed.names:
                yield {"apiVersion": address.api_version, "kind": address.name} | each
        if not found.metadata.continue_:
            return
        params["continue"] = found.metadata.continue_


# --- logs


def logs(cluster: Cluster, pods: Iterable[DaemonPod]) -> Iterator[BundlePart]:
    """The logs of all containers, and of those before them that have ended."""
    for pod in pods:
        restarts = {
            each.name: each.restartCount for each in (*pod.status.initContainerStatuses, *pod.status.containerStatuses)
        }
        for container in (*pod.spec.initContainers, *pod.spec.containers):
            where = f"logs/{pod.name}/{container.name}"
            what = f"log of container {container.name} of pod {pod.key} on node {pod.spec.nodeName or '?'}"
            yield BundlePart(f"{where}.log", what, _log(cluster, pod, container.name))
            if restarts.get(container.name):
                yield BundlePart(
                    f"{where}.previous.log",
                    f"{what}, before its last restart",
                    _log(cluster, pod, container.name, previous=True),
                )


def _log(
    cluster: Cluster, pod: DaemonPod, container: str, *, previous: bool = False
) -> Callable[[], Awaitable[Content]]:
    path = f"{pod.KIND.object_path(pod.metadata.namespace, pod.name)}/log"
    params = {"container": container, "limitBytes": str(MOST_LOG_READ)} | ({"previous": "true"} if previous else {})

    async def read() -> Content:
        lines = 2 * LOG_LINES
        for _ in range(LOG_READINGS):
            lines //= 2
            found = await cluster.client.get_raw(path, params | {"tailLines": str(lines)}, timeout=cluster.timeout)
            if len(found) < MOST_LOG_READ:
                break
        return _end_of_log(found, lines)

    return read


def _end_of_log(found: bytes, lines: int) -> Content:
    """What goes into the archive of an answer to the question for the last ``lines`` of a log."""
    begin = max(0, len(found) - LOG_BYTES - BEFORE_CUT)
    begin = found.find(b"\n", begin) + 1 if begin else 0
    redacted = redaction.text(found[begin:].decode("utf-8", "replace")).encode()
    notes = []
    if begin or len(redacted) > LOG_BYTES:
        notes.append(f"at most the last {LOG_BYTES} bytes")
    elif found.count(b"\n") >= lines:
        notes.append(f"the last {lines} lines only")
    if len(found) >= MOST_LOG_READ:
        notes.append(f"the newest lines are not in it: the last {lines} have more than {MOST_LOG_READ} bytes")
    return Content(redacted[-LOG_BYTES:].decode("utf-8", "replace"), "; ".join(notes))

"""Injects networks, and the resources that they need of a node, into a new pod.

The annotation of the pod, otherwise that of its namespace, selects every SpiderMultusConfig that has the annotation's
key and value as a label. Resources are injected into the first container.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from spiderpool.api.address_resources import whole
from spiderpool.api.core_v1 import Pod, PodSpec
from spiderpool.api.decoding import decode
from spiderpool.api.meta import Kind, Object
from spiderpool.api.multusconfig import (
    NETWORK_INJECT,
    RDMA_INJECT,
    IbsriovConfig,
    IpoibConfig,
    MacvlanConfig,
    MultusConfigSpec,
    SpiderMultusConfig,
    SriovConfig,
)
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION
from spiderpool.api.pod_readiness import PodReadinessGate
from spiderpool.core.admission.faults import is_label_value
from spiderpool.core.admission.multusconfig import (
    inject_faults,
    injected_resource,
)
from spiderpool.core.network.multusconfig import attachment_name, interface_block
from spiderpool.core.network.pod_networks import MOST_NETWORKS
from spiderpool.errors import BadConfig

NIC_RESOURCE = "spidernet.io/{}-nic"
"""Resource of a node that has a NIC of this name; it lets the scheduler choose such a node."""
ONE = "1"
"""Quantity of a NIC."""

Quantities = dict[str, Any]
Annotations = Mapping[str, str]


class ContainerResources(msgspec.Struct, omit_defaults=True):
    """core/v1 ResourceRequirements, in part."""

    limits: Quantities | None = None
    requests: Quantities | None = None


class PodContainer(msgspec.Struct, omit_defaults=True):
    """core/v1 Container, in part."""

    resources: ContainerResources | None = None


class NewPodSpec(msgspec.Struct, omit_defaults=True):
    """core/v1 PodSpec, in part."""

    containers: list[PodContainer] = msgspec.field(default_factory=list)
    initContainers: list[PodContainer] | None = None  # noqa: N815
    hostNetwork: bool | None = None  # noqa: N815
    nodeName: str | None = None  # noqa: N815
    readinessGates: list[PodReadinessGate] | None = None  # noqa: N815


class NewPod(Object, kw_only=True):
    """core/v1 Pod as it is before it is stored, in part."""

    KIND: ClassVar[Kind] = Pod.KIND

    spec: NewPodSpec = msgspec.field(default_factory=NewPodSpec)


class CannotInject(BadConfig):
    """The networks that an annotation requests do not exist or cannot be injected, or the annotation is wrong."""


@dataclass(frozen=True, slots=True)
class InjectionRequest:
    """The annotation by which a pod, or its namespace, requests networks."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"annotation {self.key}={self.value!r}"


def injection_request(annotations: Annotations) -> InjectionRequest | None:
    """The request in the annotations of a pod or namespace, None when there is none.

    The annotation for RDMA wins over the other. A request with an empty value is for no network; on a pod it overrides
    the namespace's.
    """
    return next(
        (InjectionRequest(key, annotations[key]) for key in (RDMA_INJECT, NETWORK_INJECT) if key in annotations), None
    )


def network_selector(request: InjectionRequest) -> str:
    """The label selector of the requested networks. Raises CannotInject when the value is no label value."""
    if not is_label_value(request.value):
        raise CannotInject(f"{request} cannot select networks: write a value that a label may have")
    return f"{request.key}={request.value}"


def with_networks(
    pod: NewPod, namespace: str, request: InjectionRequest, configs: Iterable[SpiderMultusConfig]
) -> NewPod:
    """The pod with the selected networks, after those that it names itself, and with the resources they need.

    Raises CannotInject when no network is selected, or one that cannot be injected.
    """
    chosen = sorted((config for config in configs if not config.terminating), key=_nic_order)
    if not chosen:
        raise CannotInject(
            f"{request} matches no SpiderMultusConfig; create one with that annotation, or remove it here"
        )
    for config in chosen:
        _require_injectable(config, request)
    resources = dict.fromkeys(filter(None, (_resource(config.spec) for config in chosen)))
    annotated = _with_annotation(pod, namespace, [_attachment_key(config) for config in chosen])
    return _with_limits(annotated, {name: ONE for name in resources if not _is_limited(pod, name)})


def with_nic_resources(
    pod: NewPod, namespace: str, default_namespace: str, configs: Iterable[SpiderMultusConfig]
) -> NewPod:
    """The pod with one resource for each NIC under the networks in its annotations.

    ``default_namespace`` is that of a default network whose annotation has no namespace. Raises CannotInject when an
    annotation cannot be read.
    """
    named = set(_named_networks(pod.metadata.annotations or {}, namespace, default_namespace))
    blocks = [interface_block(config.spec) for config in configs if config.spec and _attachment_key(config) in named]
    nics = dict.fromkeys(nic for block in blocks for nic in _nics(block))
    return _with_resources(pod, dict.fromkeys(map(NIC_RESOURCE.format, nics), ONE))


def with_address_requests(pod: NewPod, requests: Mapping[str, int]) -> NewPod:
    """The pod with what it needs of its node's free addresses.

    A resource that it names itself stays as it is, unless it names more than it needs: that would keep others away.
    """
    added = _with_resources(pod, {name: str(count) for name, count in requests.items()})
    for name, count in requests.items():
        if _named(added, name) > count:
            added = _with_no_more(added, name, count)
    return added


def with_readiness_gates(pod: NewPod, gates: Iterable[str]) -> NewPod:
    """The pod with a readiness gate of each of these conditions."""
    present = pod.spec.readinessGates or []
    added = [PodReadinessGate(gate) for gate in gates if PodReadinessGate(gate) not in present]
    return replace(pod, spec=replace(pod.spec, readinessGates=[*present, *added])) if added else pod


def as_stored(pod: NewPod, namespace: str) -> Pod:
    """A new pod as it will be read, as far as its networks depend on it."""
    spec = PodSpec(nodeName=pod.spec.nodeName, hostNetwork=pod.spec.hostNetwork)
    return Pod(metadata=replace(pod.metadata, namespace=namespace), spec=spec)


def _require_injectable(config: SpiderMultusConfig, request: InjectionRequest) -> None:
    faults = list(inject_faults(request.key, config.spec or MultusConfigSpec()))
    if faults:
        raise CannotInject(f"{request} matches SpiderMultusConfig {config.key}, which cannot be used: {faults[0]}")


def _nic_order(config: SpiderMultusConfig) -> tuple[str, str]:
    """Sort key: by name of the NIC, so that a pod's interfaces have the order of the node's NICs."""
    match interface_block(config.spec or MultusConfigSpec()):
        case MacvlanConfig(master=masters, bond=bond):
            first = bond.name if bond and len(masters) > 1 else next(iter(masters), "")
        case SriovConfig(resourceName=name):
            first = name or ""
        case _:
            first = ""
    return first, config.key


def _attachment_key(config: SpiderMultusConfig) -> str:
    return f"{config.metadata.namespace}/{attachment_name(config)}"


def _resource(spec: MultusConfigSpec | None) -> str | None:
    block = interface_block(spec) if spec else None
    return injected_resource(block) if isinstance(block, MacvlanConfig | SriovConfig | IbsriovConfig) else None


def _nics(block: object) -> list[str]:
    match block:
        case MacvlanConfig(master=masters):
            return masters
        case IpoibConfig(master=master):
            return [master]
        case _:
            return []


def _with_annotation(pod: NewPod, namespace: str, keys: list[str]) -> NewPod:
    annotations = pod.metadata.annotations or {}
    text = annotations.get(NETWORKS_ANNOTATION, "").strip()
    present = _networks(text, namespace)
    value = _appended(text, [key for key in keys if key not in present])
    return replace(pod, metadata=replace(pod.metadata, annotations={**annotations, NETWORKS_ANNOTATION: value}))


def _appended(text: str, keys: list[str]) -> str:
    """The annotation with more networks, in the form that the user chose: a JSON list, or names with commas."""
    if not text.startswith("["):
        return ",".join([*([text] if text else []), *keys])
    elements = [dict(zip(("namespace", "name"), key.split("/"), strict=True)) for key in keys]
    return msgspec.json.encode([*_decoded(text), *elements]).decode()


def _named_networks(annotations: Annotations, namespace: str, default_namespace: str) -> list[str]:
    default = _networks(annotations.get(DEFAULT_NETWORK_ANNOTATION, ""), default_namespace)
    return [*default, *_networks(annotations.get(NETWORKS_ANNOTATION, ""), namespace)]


def _networks(text: str, namespace: str) -> list[str]:
    """``namespace/name`` of each network of an annotation. Raises CannotInject when it cannot be read."""
    text = text.strip()
    if text.startswith("["):
        items = _decoded(text)
        _check_number(len(items))
        return [f"{item.get('namespace') or namespace}/{item.get('name')}" for item in items]
    _check_number(text.count(",") + 1)
    names = [word.strip().partition("@")[0] for word in text.split(",")]
    return [name if "/" in name else f"{namespace}/{name}" for name in names if name]


def _check_number(networks: int) -> None:
    if networks > MOST_NETWORKS:
        raise CannotInject(
            f"an annotation names {networks} networks; at most {MOST_NETWORKS} are possible: remove some"
        )


def _decoded(text: str) -> list[dict[str, Any]]:
    try:
        return decode(text, list[dict[str, Any]])
    except msgspec.DecodeError as error:
        raise CannotInject(f"annotation {NETWORKS_ANNOTATION} is no JSON list of networks: {error}") from error


def _resources(pod: NewPod) -> list[ContainerResources]:
    return [container.resources or ContainerResources() for container in pod.spec.containers]


def _is_limited(pod: NewPod, name: str) -> bool:
    return any(name in (resources.limits or {}) for resources in _resources(pod))


def _is_mentioned(pod: NewPod, name: str) -> bool:
    return _is_limited(pod, name) or any(name in (resources.requests or {}) for resources in _resources(pod))


def _named(pod: NewPod, name: str) -> int:
    """How much of a resource all containers of a pod name together."""
    return sum(_quantity(container, name) for container in (*pod.spec.containers, *(pod.spec.initContainers or ())))


def _quantity(container: PodContainer, name: str) -> int:
    resources = container.resources or ContainerResources()
    return max(whole(str((each or {}).get(name, 0))) for each in (resources.limits, resources.requests))


def _with_no_more(pod: NewPod, name: str, left: int) -> NewPod:
    """The pod whose containers name so much of a resource together, the first of them first."""

    def limited(container: PodContainer) -> PodContainer:
        nonlocal left
        resources, own = container.resources, _quantity(container, name)
        if resources is None or not own:
            return container
        given = min(own, left)
        left -= given
        changed = {
            field: {**quantities, name: str(given)}
            for field in ("limits", "requests")
            if name in (quantities := getattr(resources, field) or {})
        }
        return replace(container, resources=replace(resources, **changed))

    containers = [limited(each) for each in pod.spec.containers]
    first = [limited(each) for each in pod.spec.initContainers] if pod.spec.initContainers else pod.spec.initContainers
    return replace(pod, spec=replace(pod.spec, containers=containers, initContainers=first))


def _with_resources(pod: NewPod, quantities: Mapping[str, str]) -> NewPod:
    """The pod with limits and requests, which are equal for extended resources, but for what it mentions itself."""
    added = {name: quantity for name, quantity in quantities.items() if not _is_mentioned(pod, name)}
    return _with_quantities(_with_limits(pod, added), "requests", added)


def _with_limits(pod: NewPod, quantities: Mapping[str, str]) -> NewPod:
    return _with_quantities(pod, "limits", quantities)


def _with_quantities(pod: NewPod, field: str, added: Mapping[str, str]) -> NewPod:
    """The pod whose first container has these quantities in ``field``: ``limits`` or ``requests``."""
    if not added or not pod.spec.containers:
        return pod
    first, *others = pod.spec.containers
    resources = first.resources or ContainerResources()
    quantities = {**(getattr(resources, field) or {}), **added}
    container = replace(first, resources=replace(resources, **{field: quantities}))
    return replace(pod, spec=replace(pod.spec, containers=[container, *others]))

"""What a new pod gets for the networks that it asks for by annotation: their names, and the resources they need.

Networks are injected for an annotation of the pod, or else of its namespace: every SpiderMultusConfig that
carries the annotation's key and value as a label. Resources are injected into the first container.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from spiderpool.api.core_v1 import Pod
from spiderpool.api.meta import Kind, Object
from spiderpool.api.multusconfig import (
    IbsriovConfig,
    IpoibConfig,
    MacvlanConfig,
    MultusConfigSpec,
    SpiderMultusConfig,
    SriovConfig,
)
from spiderpool.api.nad import DEFAULT_NETWORK_ANNOTATION, NETWORKS_ANNOTATION
from spiderpool.core.admission.faults import is_label_value
from spiderpool.core.admission.multusconfig import (
    NETWORK_INJECT,
    RDMA_INJECT,
    inject_faults,
    injected_resource,
)
from spiderpool.core.network.multusconfig import attachment_name, interface_block
from spiderpool.errors import BadConfig

NIC_RESOURCE = "spidernet.io/{}-nic"
"""Resource that stands for a NIC of the node, by the NIC's name."""
ONE = "1"

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
    hostNetwork: bool | None = None  # noqa: N815


class NewPod(Object, kw_only=True):
    """core/v1 Pod as it is before it is stored, in part."""

    KIND: ClassVar[Kind] = Pod.KIND

    spec: NewPodSpec = msgspec.field(default_factory=NewPodSpec)


class CannotInject(BadConfig):
    """An annotation asks for what there is not, or for what cannot be given in this way."""


@dataclass(frozen=True, slots=True)
class InjectionRequest:
    """The annotation by which a pod, or its namespace, asks for networks."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"annotation {self.key}={self.value!r}"


def wish(annotations: Annotations) -> InjectionRequest | None:
    """What the annotations of a pod or namespace ask for. With an empty value they ask for nothing."""
    return next(
        (InjectionRequest(key, annotations[key]) for key in (RDMA_INJECT, NETWORK_INJECT) if key in annotations), None
    )


def selector_of(asked: InjectionRequest) -> str:
    """The label selector of the networks that are asked for. Raises CannotInject."""
    if not is_label_value(asked.value):
        raise CannotInject(f"{asked} cannot select networks: write a value that a label may have")
    return f"{asked.key}={asked.value}"


def with_networks(
    pod: NewPod, namespace: str, asked: InjectionRequest, configs: Iterable[SpiderMultusConfig]
) -> NewPod:
    """The pod with these networks, after those that it names itself, and with the resources they need.

    Raises CannotInject when there is no network, or one that cannot be given in this way.
    """
    chosen = sorted((config for config in configs if not config.terminating), key=_order)
    if not chosen:
        raise CannotInject(f"{asked} matches no SpiderMultusConfig; create one with that annotation, or remove it here")
    for config in chosen:
        _require_injectable(config, asked)
    resources = dict.fromkeys(filter(None, (_resource(config.spec) for config in chosen)))
    named = _with_annotation(pod, namespace, [_attachment_key(config) for config in chosen])
    return _with_limits(named, [name for name in resources if not _is_limited(pod, name)])


def with_nic_resources(pod: NewPod, namespace: str, ours: str, configs: Iterable[SpiderMultusConfig]) -> NewPod:
    """The pod with one resource for each NIC under the networks that it names.

    ``ours`` is the namespace of a default network that is named without one.
    """
    wanted = set(_named_networks(pod.metadata.annotations or {}, namespace, ours))
    blocks = [interface_block(each.spec) for each in configs if each.spec and _attachment_key(each) in wanted]
    nics = dict.fromkeys(nic for block in blocks for nic in _nics(block))
    names = [name for name in map(NIC_RESOURCE.format, nics) if not _is_mentioned(pod, name)]
    return _with_requests(_with_limits(pod, names), names)


def _require_injectable(config: SpiderMultusConfig, asked: InjectionRequest) -> None:
    faults = list(inject_faults(asked.key, config.spec or MultusConfigSpec()))
    if faults:
        raise CannotInject(f"{asked} matches SpiderMultusConfig {config.key}, which cannot be used: {faults[0]}")


def _order(config: SpiderMultusConfig) -> tuple[str, str]:
    """By NIC, so that a pod's interfaces come in the order of the node's."""
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
    """The annotation in the form in which the user wrote it: a JSON list, or names with commas."""
    if not text.startswith("["):
        return ",".join([*([text] if text else []), *keys])
    elements = [dict(zip(("namespace", "name"), key.split("/"), strict=True)) for key in keys]
    return msgspec.json.encode([*_decoded(text), *elements]).decode()


def _named_networks(annotations: Annotations, namespace: str, ours: str) -> list[str]:
    default = _networks(annotations.get(DEFAULT_NETWORK_ANNOTATION, ""), ours)
    return [*default, *_networks(annotations.get(NETWORKS_ANNOTATION, ""), namespace)]


def _networks(text: str, namespace: str) -> list[str]:
    """``namespace/name`` of each network of an annotation. Raises CannotInject."""
    text = text.strip()
    if text.startswith("["):
        return [f"{each.get('namespace') or namespace}/{each.get('name')}" for each in _decoded(text)]
    names = [word.strip().partition("@")[0] for word in text.split(",")]
    return [name if "/" in name else f"{namespace}/{name}" for name in names if name]


def _decoded(text: str) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]])
    except msgspec.DecodeError as error:
        raise CannotInject(f"annotation {NETWORKS_ANNOTATION} is no JSON list of networks: {error}") from error


def _resources(pod: NewPod) -> list[ContainerResources]:
    return [container.resources or ContainerResources() for container in pod.spec.containers]


def _is_limited(pod: NewPod, name: str) -> bool:
    return any(name in (each.limits or {}) for each in _resources(pod))


def _is_mentioned(pod: NewPod, name: str) -> bool:
    return _is_limited(pod, name) or any(name in (each.requests or {}) for each in _resources(pod))


def _with_limits(pod: NewPod, names: list[str]) -> NewPod:
    return _with_quantities(pod, "limits", names)


def _with_requests(pod: NewPod, names: list[str]) -> NewPod:
    return _with_quantities(pod, "requests", names)


def _with_quantities(pod: NewPod, field: str, names: list[str]) -> NewPod:
    """One of each resource for the first container."""
    if not names or not pod.spec.containers:
        return pod
    first, *others = pod.spec.containers
    resources = first.resources or ContainerResources()
    quantities = {**(getattr(resources, field) or {}), **dict.fromkeys(names, ONE)}
    container = replace(first, resources=replace(resources, **{field: quantities}))
    return replace(pod, spec=replace(pod.spec, containers=[container, *others]))

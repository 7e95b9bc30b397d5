"""A simulated cloud for plans: what each step does to a balancer, and Services and nodes to plan for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, assert_never

import msgspec

from spiderpool.api.core_v1 import Node, Service
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind, BalancerOptions, options_of, read_options
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, build_model
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.printing import FAULT, NOTE, NOTHING, service_dry_run
from spiderpool.core.cloud.loadbalancer.settling import waits
from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    CreateBalancer,
    CreateGroup,
    CreateListener,
    CreateSourceList,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    DeleteSourceList,
    GroupStep,
    ListenerStep,
    RemoveServers,
    ServerStep,
    SetBalancer,
    SetGroup,
    SetListener,
    SetSourceList,
    SetWeights,
    SourceListStep,
    StartListener,
    Step,
    Tag,
    Unprotect,
    Untag,
)
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerConfiguration,
    Listener,
    ObservedLoadBalancer,
    ServerGroup,
    Settings,
    SourceList,
)

UID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
KINDS: dict[str, BalancerKind] = {kind.name: kind for kind in (CLB, NLB)}
CONFIGURATION = BalancerConfiguration(cluster="c1", vpc="vpc-1", vswitch="vsw-1")
HTTP = {"port": 80, "nodePort": 30698}
SECURE = {"port": 443, "nodePort": 30443}


def service(*ports: dict[str, Any], **spec: Any) -> Service:
    """A Service ``default/web``; ``annotations`` are given without their prefix, other keywords go into its spec."""
    annotations = {key if "/" in key else PREFIX + key: value for key, value in spec.pop("annotations", {}).items()}
    listed = [
        dict({"protocol": "TCP", "targetPort": 80, "nodePort": 32000 + place}, **port)
        for place, port in enumerate(ports)
    ]
    body = {
        "metadata": {"namespace": "default", "name": "web", "uid": UID, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": listed, **spec},
    }
    return msgspec.convert(body, Service)


def node(name: str, *, ready: bool = True, **spec: Any) -> Node:
    """A node whose instance is ``i-<name>``, with an address for a letter; ``labels`` and ``taints`` as given."""
    labels = spec.pop("labels", {})
    body = {
        "metadata": {"name": name, "labels": labels},
        "spec": {"providerID": f"cn-hangzhou.i-{name}", **spec},
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
            "addresses": [{"type": "InternalIP", "address": f"10.1.0.{ord(name)}"}] if len(name) == 1 else None,
        },
    }
    return msgspec.convert(body, Node)


def endpoints(*pods: tuple[str, str], port: int = 80, name: str = "", ready: bool = True, **more: Any) -> EndpointSlice:
    """A slice of pods, each an address and the name of its node; further conditions by ``conditions``."""
    conditions = {"ready": ready, **more.pop("conditions", {})}
    body = {
        "metadata": {"namespace": "default", "name": "web-1"},
        "addressType": more.pop("family", "IPv4"),
        "ports": [{"name": name, "port": port, "protocol": more.pop("protocol", "TCP")}],
        "endpoints": [{"addresses": [address], "nodeName": on, "conditions": conditions} for address, on in pods],
    }
    return msgspec.convert(body, EndpointSlice)


def options(kind: str, annotations: Mapping[str, str]) -> BalancerOptions:
    """What valid annotations ask of a kind; they are given without their prefix."""
    found = read_options({PREFIX + key: value for key, value in annotations.items()}, KINDS[kind])
    assert not found.faults + found.remarks
    return found


def difference(before: Settings, after: Settings) -> dict[str, str | None]:
    """The settings that changed, None for those that were removed."""
    return {key: after.get(key) for key in [*before, *after] if before.get(key) != after.get(key)}


def model_of(
    requested: Service, snapshot: BackendSnapshot, configuration: BalancerConfiguration = CONFIGURATION
) -> LoadBalancerModel:
    """The desired state, for a classic balancer or a network one."""
    kind = NLB if requested.spec.loadBalancerClass else CLB
    return build_model(requested, options_of(requested, kind), snapshot, configuration)


def planned_text(
    requested: Service,
    kind: BalancerKind,
    snapshot: BackendSnapshot,
    configuration: BalancerConfiguration = CONFIGURATION,
    observed: ObservedLoadBalancer | None = None,
) -> str:
    """What would be done for a Service as text: notes, faults and numbered steps."""
    found = service_dry_run(requested, kind, snapshot, configuration, observed)
    steps = [f"{number}. {step}" for number, step in enumerate(found.steps, 1)]
    lines = [*(f"{NOTE}{note}" for note in found.notes), *(f"{FAULT}{fault}" for fault in found.faults), *steps]
    return "\n".join(lines if steps or found.model is None else [*lines, NOTHING])


def carried_out(steps: Iterable[Step], observed: ObservedLoadBalancer | None) -> ObservedLoadBalancer | None:
    """The balancer after the steps; None: it was deleted."""
    for step in steps:
        observed = _do(step, observed)
    return observed


def reached(model: LoadBalancerModel, observed: ObservedLoadBalancer | None) -> ObservedLoadBalancer:
    """What is there after a plan, and another where a listener waited for its new group; then no steps are left."""
    after = carried_out(plan(model, observed), observed)
    assert after is not None
    if observed is not None and waits(model, observed, ()):
        after = carried_out(plan(model, after), after)
        assert after is not None
    assert plan(model, after) == ()
    return after


def _do(step: Step, observed: ObservedLoadBalancer | None) -> ObservedLoadBalancer | None:
    if isinstance(step, CreateBalancer):
        assert observed is None
        model = step.model
        made = {**model.creation, **model.fixed, **model.initial}
        return ObservedLoadBalancer("lb-1", model.name, "198.51.100.1", made, {**model.tags, **model.origin})
    assert observed is not None
    match step:
        case SetBalancer(_, _, changes) | Unprotect(_, changes):
            return replace(observed, settings={**observed.settings, **{each.parameter: each.new for each in changes}})
        case Tag(tags):
            return replace(observed, tags={**observed.tags, **dict(tags)})
        case Untag(keys):
            return replace(observed, tags={key: value for key, value in observed.tags.items() if key not in keys})
        case DeleteBalancer(identity):
            assert identity == observed.identity
            assert all(observed.settings.get(key, value) == value for key, value in CLB.unprotected.items())
            return None
        case _:
            return _with_parts(step, observed)


def _with_parts(
    step: GroupStep | ServerStep | ListenerStep | SourceListStep, observed: ObservedLoadBalancer
) -> ObservedLoadBalancer:
    match step:
        case CreateListener() | SetListener() | StartListener() | DeleteListener():
            return replace(observed, listeners=_listeners(step, observed))
        case CreateSourceList() | SetSourceList() | DeleteSourceList():
            return replace(observed, source_lists=_source_lists(step, observed))
        case _:
            return replace(observed, groups=_groups(step, observed))


def _source_lists(
    step: CreateSourceList | SetSourceList | DeleteSourceList, observed: ObservedLoadBalancer
) -> tuple[SourceList, ...]:
    """A list has entries, and none is deleted that a listener or the balancer uses."""
    lists = {each.name: each for each in observed.source_lists}
    match step:
        case CreateSourceList(_, sources):
            assert sources.entries
            assert sources.name not in lists
            lists[sources.name] = replace(sources, identity=f"list-{sources.name}")
        case SetSourceList(_, sources, added, removed):
            present = lists[sources.name]
            assert (present.entries - removed) | added == sources.entries
            lists[sources.name] = sources
        case DeleteSourceList(name, identity):
            used = [observed.settings, *(each.settings for each in observed.listeners)]
            assert not any(name in lists_of(settings) for settings in used)
            assert lists.pop(name).identity == identity
    return tuple(lists.values())


def lists_of(settings: Settings) -> list[str]:
    """The lists by which a listener or a balancer of these settings admits clients."""
    named = "" if settings.get("AclStatus") == "off" else settings.get("AclId", "")
    return [each for each in (*named.split(","), *settings.get("SecurityGroupIds", "").split(",")) if each]


def _groups(
    step: CreateGroup | SetGroup | DeleteGroup | AddServers | SetWeights | RemoveServers, observed: ObservedLoadBalancer
) -> tuple[ServerGroup, ...]:
    """A group that a listener leads to cannot be deleted; no server can be added twice, or changed while absent."""
    groups = {group.name: group for group in observed.groups}
    match step:
        case CreateGroup(_, group):
            assert group.name not in groups
            groups[group.name] = ServerGroup(group.name, group.settings, frozenset(), f"rsp-{len(groups)}")
        case SetGroup(group, changes):
            settings = {**groups[group.name].settings, **{each.parameter: each.new for each in changes}}
            groups[group.name] = replace(groups[group.name], settings=settings)
        case DeleteGroup(name, identity):
            assert name not in {listener.group for listener in observed.listeners}
            assert groups.pop(name).identity == identity
        case AddServers(name, servers):
            keys = {server.key for server in groups[name].servers}
            assert not keys & {server.key for server in servers}
            groups[name] = replace(groups[name], servers=groups[name].servers | set(servers))
        case SetWeights(name, servers) | RemoveServers(name, servers):
            present = {server.key: server for server in groups[name].servers}
            for server in servers:
                del present[server.key]
            remaining = frozenset(present.values()) | (
                frozenset(servers) if isinstance(step, SetWeights) else frozenset()
            )
            groups[name] = replace(groups[name], servers=remaining)
        case _:
            assert_never(step)
    return tuple(groups.values())


def _listeners(
    step: CreateListener | SetListener | StartListener | DeleteListener, observed: ObservedLoadBalancer
) -> tuple[Listener, ...]:
    """A listener needs its group, and a redirect the listener that it leads to."""
    listeners = {listener.key: listener for listener in observed.listeners}
    listener = step.listener
    match step:
        case CreateListener():
            assert not any(listener.overlaps(each) for each in listeners.values())
            assert not listener.group or observed.group(listener.group)
            target = listener.settings.get("ForwardPort")
            assert not target or (int(target), "tcp") in listeners
            listeners[listener.key] = listener
        case SetListener():
            former = listeners[listener.key]
            assert former.protocol == listener.protocol
            assert not listener.group or observed.group(listener.group)
            settings = {**former.settings, **listener.settings}
            listeners[listener.key] = replace(listener, settings=settings, running=former.running)
        case StartListener():
            listeners[listener.key] = replace(listeners[listener.key], running=True)
        case DeleteListener():
            del listeners[listener.key]
        case _:
            assert_never(step)
    return tuple(listeners.values())

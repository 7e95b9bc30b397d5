"""What keeps nodes from moving between Spiderpool's own release, in Go, and ours; each with its remedy."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator

import msgspec

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.cli.migration.look import MigrationState
from spiderpool.core.ipam.migration_groups import Group, split
from spiderpool.core.network.pod_networks import qualified
from spiderpool.errors import Refused


def obstacles(state: MigrationState) -> Iterator[str]:
    """What has to be put right before any node can move."""
    if state.finished:
        return
    yield from _former(state)
    yield from _settings(state)
    yield from _installation(state)
    for pool in state.go.pools:
        yield from _networks(pool, state.places.former[0])
    for group in split(state.groups, state.labels):
        yield (
            f"nodes {', '.join(group.nodes)} are served by common pools ({', '.join(group.pools)}), and some have "
            "moved: take back what was changed of these pools, or of the nodes' labels"
        )


def _former(state: MigrationState) -> Iterator[str]:
    """Whether it is known which agents have to end."""
    namespace, name = state.places.former
    if state.places.removed and state.old is not None:
        yield f"--removed says that the other release is removed, and DaemonSet {namespace}/{name} is there"
    if not state.places.removed and state.old is None:
        yield (
            f"there is no DaemonSet {namespace}/{name}, so nobody knows which agents have to end: name it by --from; "
            "if the other release is removed and none of its agents runs, say so by --removed"
        )
    if why := why_no_agents(state):
        yield why


def why_no_agents(state: MigrationState) -> str | None:
    """Why a DaemonSet that was found is not that of the other release's agents: those are mounted its ConfigMap."""
    if state.old is None or state.old.reads(state.places.config):
        return None
    return (
        f"DaemonSet {'/'.join(state.places.former)} does not mount ConfigMap {state.places.config}, as the other "
        "release's agents do: name that of the agents by --from, or their ConfigMap by --config"
    )


def _settings(state: MigrationState) -> Iterator[str]:
    namespace, _ = state.places.former
    if state.places.namespace == namespace:
        yield f"both releases would be in Namespace {namespace}: name another one for ours by --namespace"
    if state.settings is None and state.places.removed:
        yield (
            f"there is no ConfigMap {state.places.config} in Namespace {state.places.namespace}, which says whose "
            "addresses are fixed where the other release is removed: install our agents first"
        )
    elif state.settings is None:
        yield (
            f"there is no ConfigMap {state.places.config} in Namespace {namespace}, which says whose addresses are "
            "fixed: name the other release by --from and --config"
        )
    elif (state.settings.get("iaasNetworkProvider") or {}).get("serverUrl"):
        yield "iaasNetworkProvider.serverUrl is set: that server keeps addresses as well, and has no counterpart here"


def _installation(state: MigrationState) -> Iterator[str]:
    upgrade = (
        f"helm upgrade spiderpool charts/spiderpool --namespace {state.places.namespace} --reset-then-reuse-values "
        "--set migration.agentsOnly=true"
    )
    is_first = state.old is not None or state.places.removed
    if not state.served or state.ours is None:
        yield f"our agents are not installed in Namespace {state.places.namespace}: see the command above"
    elif not state.ours.is_for_new_nodes and is_first:
        yield f"our agents are not limited to nodes that have moved: {upgrade}"
    if state.has_controller and is_first:
        yield f"our controller is installed, which would write over the records of the other release: {upgrade}"


def _networks(pool: SpiderIPPool, namespace: str) -> Iterator[str]:
    """Each release takes a network that is named without a Namespace for one of its own Namespace."""
    named = pool.spec.multusName or []
    if bare := [each for each in named if "/" not in each]:
        wanted = {"spec": {"multusName": [qualified(each, namespace) for each in named]}}
        patch = shlex.quote(msgspec.json.encode(wanted).decode())
        yield (
            f"pool {pool.name} names network {', '.join(bare)} without its Namespace, which each release takes for "
            f"its own: kubectl patch spiderippool {pool.name} --type merge -p {patch}"
        )


def chosen(state: MigrationState, nodes: Collection[str]) -> list[Group]:
    """The groups of some nodes. Raises Refused for a Node that does not exist."""
    if missing := {*nodes} - {node.name for node in state.nodes}:
        raise Refused(f"there is no Node {', '.join(sorted(missing))}")
    return [group for group in state.groups if {*nodes} & {*group.nodes}]


def unready(state: MigrationState, nodes: Collection[str]) -> Iterator[str]:
    """Nodes that are to move and whose agents may run although their pods seem to have ended."""
    ready = {node.name for node in state.nodes if node.ready}
    for group in chosen(state, nodes):
        for name in group.nodes:
            if name not in ready and name not in state.new_nodes:
                yield f"Node {name} is not ready, so nobody knows whether its agent has ended: see to it, or delete it"


def why_not_given_back(state: MigrationState, ours: Collection[str]) -> str | None:
    """Why nodes cannot be given back now; ``ours`` are the Namespaces with agents of ours."""
    namespace, name = state.places.former
    if state.old is None:
        return (
            f"there is no DaemonSet {name} in Namespace {namespace}: the other release has been removed, and nothing "
            "is left that nodes could be given back to"
        )
    if why := why_no_agents(state):
        return why
    if state.ours is not None or ours:
        return (
            "our agents run: remove them first, and what they have installed, by helm uninstall spiderpool "
            f"--namespace {next(iter(ours), state.places.namespace)}"
        )
    if state.has_controller:
        return (
            "our controller runs, which would write over what the other release lives by: remove it by helm uninstall "
            f"spiderpool --namespace {state.places.namespace}"
        )
    return None

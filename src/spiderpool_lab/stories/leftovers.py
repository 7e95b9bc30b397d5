"""What a story has left behind that would disturb the next one: nodes that are not as they were before the first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.node import CNI_CONFIGURATION, CNI_EXECUTABLES, STATE
from spiderpool_lab.stories.stage import is_ready

_CLOCK_TOLERANCE = 30.0
"""Seconds that a node's clock may differ from ours."""
_LOOK = f"""
echo "clock $(date +%s)"
for file in {STATE}/*.pid; do
    echo "daemon $(basename $file .pid) $(grep State: /proc/$(cat $file)/status || echo State: gone)"
done
sha256sum {CNI_CONFIGURATION}/* {CNI_EXECUTABLES}/*
"""


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """A node: how many seconds its clock is ahead of ours, its daemons that do not run, and its files of CNI.

    ``files``: path → digest of its content.
    """

    ahead: float
    idle: frozenset[str]
    files: Mapping[str, str]


def conditions(cluster: LabCluster) -> dict[str, NodeCondition]:
    """The conditions of all nodes by name. Raises IOFailure if one does not answer."""
    found = {}
    for node in cluster.fabric.topology.nodes:
        lines = cluster.machines.client(node.name).exec(["sh", "-c", _LOOK], timeout=60).stdout.splitlines()
        found[node.name] = parse(lines, time.time())
    return found


def parse(lines: Iterable[str], now: float) -> NodeCondition:
    """The condition that a look at a node has printed."""
    ahead, idle, files = 0.0, set(), {}
    for line in lines:
        match line.split():
            case ["clock", seconds]:
                ahead = float(seconds) - now
            case ["daemon", name, _, state, *_] if state in ("T", "Z", "gone"):
                idle.add(name)
            case [digest, path] if path.startswith("/"):
                files[path] = digest
    return NodeCondition(ahead, frozenset(idle), files)


def changes(before: NodeCondition, after: NodeCondition) -> Iterator[str]:
    """What is not as it was, or as it has to be."""
    if abs(after.ahead) > _CLOCK_TOLERANCE:
        yield f"its clock is {after.ahead:.0f} s ahead"
    yield from (f"{daemon} does not run" for daemon in sorted(after.idle))
    for path in sorted(before.files.keys() | after.files.keys()):
        if before.files.get(path) != after.files.get(path):
            yield f"{path} is {'gone' if path not in after.files else 'another' if path in before.files else 'new'}"


def unready(names: Iterable[str], nodes: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the Nodes of these names."""
    by_name = {node["metadata"]["name"]: node for node in nodes}
    for name in names:
        if not is_ready(by_name.get(name, {})):
            yield f"node {name} is not Ready"
        elif by_name[name]["spec"].get("unschedulable"):
            yield f"node {name} is cordoned"

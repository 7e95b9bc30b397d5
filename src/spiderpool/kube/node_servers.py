"""The cloud servers of Nodes, as their agents describe them in SpiderServers."""

from __future__ import annotations

from collections.abc import Callable

from spiderpool.api.core_v1 import Node
from spiderpool.api.spiderserver import Instance, SpiderServer
from spiderpool.core.cloud.instances import defect
from spiderpool.kube.informer import Informer


class NodeServers:
    """The servers of the Nodes of a cluster, which are read from an informer that its owner runs."""

    def __init__(self, informer: Informer[SpiderServer]) -> None:
        self.informer = informer
        self._defects: dict[str, str] = {}  # name → why its description cannot be right
        informer.subscribe(self._check)

    def of(self, node: Node) -> Instance | None:
        """The server of a Node; None when there is no description of it that can be right."""
        found = self.informer.get(node.name)
        return found.spec if found and found.is_of(node) and node.name not in self._defects else None

    def defect(self, name: str) -> str | None:
        """Why the description of a Node's server cannot be right; None when it can, or there is none."""
        return self._defects.get(name)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Call ``changed`` with the name of each Node of which another server is described, or none any more."""

        def call(old: SpiderServer | None, new: SpiderServer | None) -> None:
            if old and new and _part(old) == _part(new):
                return
            if either := new or old:
                changed(either.name)

        self.informer.subscribe(call)

    def _check(self, old: SpiderServer | None, new: SpiderServer | None) -> None:
        """Check a description once, not at each look: thousands are looked at for one address."""
        if old is not None:
            self._defects.pop(old.name, None)
        if new is not None and (reason := defect(new.spec)):
            self._defects[new.name] = reason


def _part(server: SpiderServer) -> object:
    """What of a SpiderServer is not about the object itself."""
    return server.spec, server.metadata.ownerReferences

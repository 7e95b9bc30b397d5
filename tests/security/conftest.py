"""Fixtures of other folders: real network namespaces, a node with an agent, and a cluster in a simulated account."""

from tests.agent.conftest import nothing_is_left
from tests.cloudcontroller.conftest import account, no_proxy, simulated
from tests.cloudcontroller.service_cluster import cluster
from tests.kernel.fixtures import kind, strict, wide, world

__all__ = ["account", "cluster", "kind", "no_proxy", "nothing_is_left", "simulated", "strict", "wide", "world"]

"""Fixtures of other folders: real network namespaces, and a cluster in a simulated account."""

from tests.cloudcontroller.conftest import account, no_proxy, simulated
from tests.cloudcontroller.service_cluster import cluster
from tests.kernel.fixtures import world

__all__ = ["account", "cluster", "no_proxy", "simulated", "world"]

"""What happens to a simulated cluster: one operation is one event of a pod, node, pool, leader or the API server.

An operation draws its details from a seed of its own, so that a run can be repeated without some of the others.
"""

from __future__ import annotations

from random import Random

from tests.simulation import (
    administrator_operations,
    cloud_operations,
    machine_operations,
    pod_operations,
    pool_operations,
)
from tests.simulation.cluster import Cluster
from tests.simulation.effects import EFFECTS, WEIGHTS, Operation

REGISTERED = (administrator_operations, cloud_operations, machine_operations, pod_operations, pool_operations)
"""The modules whose import registers operations."""


def draw(random: Random, count: int) -> list[Operation]:
    """So many operations."""
    kinds = random.choices([*WEIGHTS], [*WEIGHTS.values()], k=count)
    return [Operation(kind, random.expovariate(0.7), random.getrandbits(40)) for kind in kinds]


def carry_out(cluster: Cluster, what: Operation) -> bool:
    """Carry an operation out now."""
    return EFFECTS[what.kind](cluster, Random(what.seed))

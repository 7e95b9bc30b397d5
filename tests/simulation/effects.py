"""Operations of a simulation by name: how likely each is, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.simulation.cluster import Cluster

Effect = Callable[[Cluster, Random], bool]
"""Carries an operation out; False when there was nothing to carry it out on."""

EFFECTS: dict[str, Effect] = {}
WEIGHTS: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Operation:
    """One event of a run."""

    kind: str
    gap: float
    """Seconds since the one before."""
    seed: int


def operation(weight: float) -> Callable[[Effect], Effect]:
    """Register an effect under its name."""

    def register(effect: Effect) -> Effect:
        name = effect.__name__
        EFFECTS[name], WEIGHTS[name] = effect, weight
        return effect

    return register

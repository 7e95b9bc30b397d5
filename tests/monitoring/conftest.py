"""Agents, pods and pools, as the tests of agents have them."""

from __future__ import annotations

from tests.agent.conftest import make_agent, make_pods, pool

__all__ = ["make_agent", "make_pods", "pool"]

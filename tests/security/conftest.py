"""Fixtures of tests/kernel and tests/agent: real network namespaces."""

from tests.agent.conftest import nothing_is_left
from tests.kernel.fixtures import world

__all__ = ["nothing_is_left", "world"]

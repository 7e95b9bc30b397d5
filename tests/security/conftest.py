"""Fixtures of tests/kernel and tests/agent: real network namespaces."""

from tests.agent.conftest import nothing_is_left
from tests.kernel.fixtures import kind, strict, wide, world

__all__ = ["kind", "nothing_is_left", "strict", "wide", "world"]

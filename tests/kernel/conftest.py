"""Fixtures for tests against real network namespaces; tests/agent uses the same."""

from tests.kernel.fixtures import backend, kind, strict, wide, world

__all__ = ["backend", "kind", "strict", "wide", "world"]

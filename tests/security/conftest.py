"""Fixtures of tests/kernel: real network namespaces."""

from tests.kernel.fixtures import world

__all__ = ["world"]

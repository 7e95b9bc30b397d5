from tests.kernel.fixtures import kind, wide, world

__all__ = ["kind", "wide", "world"]

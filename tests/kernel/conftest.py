from tests.kernel.fixtures import kind, world

__all__ = ["kind", "world"]

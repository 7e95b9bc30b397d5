"""Fixtures that need root: a world of namespaces, and each kind of link and packet filter that this kernel has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from spiderpool.kernel import hostports, marks, sources
from spiderpool.kernel.programs import Backend
from spiderpool_lab import namespaces
from tests.kernel.environment import World, has_backend, has_kind


@pytest.fixture
def world() -> Iterator[World]:
    """A node with one NIC and a router; removed after the test."""
    world = World()
    try:
        world.build()
        yield world
    finally:
        world.destroy()


@pytest.fixture
def wide(world: World) -> World:
    """A world with two NICs, two families and a client beyond the router."""
    world.widen()
    return world


@pytest.fixture
def strict(world: World) -> None:
    """The node drops what pods send under false source addresses, as with an agent: nothing else may suffer from it."""
    namespaces.call_in(world.node, sources.RULES.load)


@cache
def _has_kind(kind: str) -> bool:
    return has_kind(kind)


@pytest.fixture(params=["ipvlan", "macvlan"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each of ipvlan and macvlan that this kernel has."""
    kind: str = request.param
    if not _has_kind(kind):
        pytest.skip(f"this kernel has no {kind}")
    return kind


@cache
def _has_backend(backend: Backend) -> bool:
    return has_backend(backend)


@pytest.fixture(params=["nft", "iptables"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Each packet filter that this kernel has, as the only one that our rules use."""
    backend: Backend = request.param
    if not _has_backend(backend):
        pytest.skip(f"this kernel has no {backend}")
    for rules in (marks, hostports):
        monkeypatch.setattr(rules, "_backends", [backend])
    return backend

"""Caches that are filled by hand, without an API server, for tests that count what one change costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spiderpool.api.meta import Object
from spiderpool.kube.client import Client
from spiderpool.kube.informer import Informer
from tests.support.clients import client_of


def unused_client() -> Client:
    """A client of an API server that nobody asks for anything."""
    return client_of("http://localhost")


def fill(caches: Mapping[type[Object], Informer[Any]], objects: Iterable[Object]) -> None:
    """Put objects into the caches of their kinds, as first lists do; those of other kinds are left out."""
    for version, obj in enumerate(objects, 1):
        if cache := caches.get(type(obj)):
            note(cache, obj, version)


def note(cache: Informer[Any], obj: Object, version: int) -> None:
    """Put an object into a cache, as an event of a watch does."""
    obj.metadata.resourceVersion = str(version)
    cache.note(obj)

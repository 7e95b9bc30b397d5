"""Reads the parts of the history of addresses, few at a time: each is large."""

from __future__ import annotations

from collections.abc import AsyncIterator

from spiderpool.api.iphistory import SpiderIPHistory
from spiderpool.core.ipam.history import unpack
from spiderpool.kube.client import Client
from spiderpool.telemetry import logger

PAGE = 16
"""Parts that are read at a time: one or two megabytes."""

log = logger("histories")


async def parts(client: Client, *, timeout: float) -> AsyncIterator[tuple[int, SpiderIPHistory, str]]:
    """Number, object and rows of each part, in their order. Rows that nobody can read are none, with a log line.

    ``timeout`` is that of each request. Raises SpiderpoolError, among them NotFound where the cluster has no such kind.
    """
    rest = ""
    while True:
        page = await client.page(SpiderIPHistory, None, rest, limit=PAGE, timeout=timeout)
        for part in page.items:
            if (number := part.number) is not None:
                yield number, part, rows_in(part)
        rest = page.rest
        if not rest:
            return


def rows_in(part: SpiderIPHistory) -> str:
    """The rows of a part; none where nobody can read them."""
    try:
        return unpack(part.spec.data)
    except ValueError as error:
        log.warning("part of the history cannot be read", part=part.name, error=str(error))
        return ""

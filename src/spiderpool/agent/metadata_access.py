"""Keeps pods from the cloud's metadata service, or gives them access again where the settings say so.

Outside clouds there is none, and its address may be anybody's: there nothing is loaded.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address

from spiderpool.cloud import registry
from spiderpool.errors import is_bug
from spiderpool.kernel import metadata_filter
from spiderpool.kernel.events import address_changes
from spiderpool.kernel.namespaces import run_inside
from spiderpool.telemetry import METADATA_OPEN, logger

LOOK = 60.0
"""Seconds between two looks at the rules, and at which NICs there are."""
PAUSE = 5.0
"""Seconds before addresses are followed again after a failure."""

OPEN = "pods reach the cloud's metadata service"

log = logger("metadata-access")


async def keep_from_metadata(provider: str, *, blocked: bool) -> None:
    """Keep pods from a provider's metadata service, or not; without a provider remove what was loaded earlier."""
    if provider:
        await _look_after(registry.provider(provider).metadata_address, blocked=blocked)
    else:
        await _remove([each.metadata_address for each in registry.PROVIDERS.values()])


async def _remove(addresses: list[IPv4Address]) -> None:
    for address in addresses:
        try:
            await run_inside(None, partial(metadata_filter.unload, address))
        except Exception as error:
            details = getattr(error, "details", "")
            log.warning(
                "rules of a cloud stay", address=str(address), error=str(error), details=details, exc_info=is_bug(error)
            )


async def _look_after(address: IPv4Address, *, blocked: bool) -> None:
    """Load the rules at once, after each change of the node's addresses, which they let pass, and every minute."""
    work = partial(metadata_filter.load if blocked else metadata_filter.unload, address)
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_follow_addresses(changed))
        said = ""
        while True:
            changed.clear()
            try:
                await run_inside(None, work)
                METADATA_OPEN.set(not blocked)
                said = ""
            except Exception as error:
                METADATA_OPEN.set(1)
                if str(error) != said:
                    said = str(error)
                    details = getattr(error, "details", "")
                    log.warning(OPEN, error=said, details=details, exc_info=is_bug(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await changed.wait()


async def _follow_addresses(changed: asyncio.Event) -> None:
    while True:
        try:
            async for _ in address_changes(at_once=True):
                changed.set()
        except Exception as error:
            log.warning("addresses of the node not followed", error=str(error), pause=PAUSE, exc_info=is_bug(error))
        await asyncio.sleep(PAUSE)

"""Keeps pods from the cloud's metadata service, or gives them access again where the settings say so."""

from __future__ import annotations

import asyncio
from contextlib import suppress

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


async def keep_from_metadata(*, blocked: bool) -> None:
    """Load the rules at once, after each change of the node's addresses, which they let pass, and every minute."""
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_follow_addresses(changed))
        said = ""
        while True:
            changed.clear()
            try:
                await run_inside(None, metadata_filter.load if blocked else metadata_filter.unload)
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

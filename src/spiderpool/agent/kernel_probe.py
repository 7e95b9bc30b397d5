"""Whether this node's kernel can make interfaces for pods at all: the part of STATUS that is not about the agent."""

from __future__ import annotations

from spiderpool.errors import KernelFailure
from spiderpool.kernel.features import KINDS, missing_kinds
from spiderpool.telemetry import logger

log = logger("kernel")


class KernelProbe:
    """Probes the kernel once, and again while no interface can be made: a module may be loaded meanwhile."""

    def __init__(self) -> None:
        self._fault: str | None = None  # None: not probed yet

    async def fault(self) -> str:
        """A sentence if no pod can be attached; empty if some can. A network that the kernel lacks fails at its ADD."""
        if self._fault is None or self._fault:
            self._fault = await self._probe()
        return self._fault

    async def _probe(self) -> str:
        try:
            missing = await missing_kinds()
        except KernelFailure as error:
            return (
                f"spiderpool-agent may not make interfaces ({error}): "
                "give its container the capabilities NET_ADMIN and SYS_ADMIN"
            )
        if missing:
            log.info("kinds of interfaces that this kernel has not", missing=missing)
        if set(missing) < set(KINDS):
            return ""
        return f"this kernel can make none of {', '.join(KINDS)}: load the module of the kind that the networks use"

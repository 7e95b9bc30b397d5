"""Notices the cloud's own controller, which may serve the same Services.

It may have other duties, such as routes and nodes, so that it runs is no fault. That both change one Service is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from spiderpool.api import event_reasons
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.core_v1 import Service
from spiderpool.cloud.loadbalancers import OtherControllerMarks
from spiderpool.cloudcontroller.service_state import ServiceStates
from spiderpool.errors import NotReady
from spiderpool.kube.client import Client
from spiderpool.telemetry import logger

LEAST_PAUSE = 0.1
"""Seconds between two readings of the Lease at least."""

log = logger("services")


class ChangedByAnother(NotReady):
    """The other controller has changed a Service that we serve; its balancer waits for the next attempt."""


@dataclass(slots=True)
class OtherController:
    """What is known of the cloud's own controller."""

    client: Client
    states: ServiceStates
    marks: OtherControllerMarks | None
    """None: the cloud has no controller of its own."""
    pause: float
    """Seconds between two readings of its Lease, in which a living holder renews it."""
    is_alive: bool | None = None
    """None: not known yet, as that takes two readings of a Lease that has a holder."""

    async def run(self) -> None:
        """Reads its Lease until cancelled."""
        version: str | None = None
        while True:
            try:
                version = await self._read(version)
            except Exception:  # a bug or an outage here must not stop the reconcilers
                log.exception("the Lease of the other controller cannot be read")
            await asyncio.sleep(max(self.pause, LEAST_PAUSE))

    async def _read(self, former: str | None) -> str | None:
        """Reads its Lease; returns the version, which changes as long as somebody holds it."""
        if self.marks is None:
            self.is_alive = False
            return None
        lease = await self.client.find(Lease, self.marks.lease, self.marks.namespace)
        version = lease.metadata.resourceVersion if lease else None
        is_held = lease is not None and bool(lease.spec.holderIdentity)
        if not is_held:
            self.is_alive = False
        elif former is not None:
            self.is_alive = version != former
        return version

    def check(self, service: Service) -> None:
        """Records that it runs. Raises ChangedByAnother, once for each change of its, when it changes this Service."""
        if self.marks is None:
            return
        warning = (
            f"the controller that holds the Lease {self.marks.namespace}/{self.marks.lease} runs in this cluster, too:"
            " see that its controllers of Services are switched off"
        )
        self.states.record(service, event_reasons.OTHER_CONTROLLER_RUNS, *([warning] if self.is_alive else []))
        state = self.states.of(service.key)
        former, state.other_mark = state.other_mark, (service.metadata.labels or {}).get(self.marks.label, "")
        if former is not None and state.other_mark not in ("", former):
            state.applied = None
            raise ChangedByAnother(
                f"another controller serves this Service as well: it has changed the label {self.marks.label}. Switch"
                " off its controllers of Services, or those of spiderpool-cloud; until then both change one load"
                " balancer"
            )

"""The API client and the Event recorder that the reconcilers of spiderpool-cloud share."""

from __future__ import annotations

from dataclasses import dataclass

from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder


@dataclass(frozen=True, slots=True)
class Cluster:
    """The API server, and the Events that are recorded there."""

    client: Client
    recorder: Recorder

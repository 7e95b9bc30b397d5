"""How the stand-in for kubelet and container runtime times what it does."""

from __future__ import annotations

import msgspec

Span = tuple[float, float]
"""The least and the most seconds; a time between both is drawn."""


class StandIn(msgspec.Struct, frozen=True, kw_only=True):
    """Times of the stand-in. The defaults are what kubelet 1.37 with containerd 2.4 was seen to do on an idle node.

    ``seed`` repeats what is drawn. ``deletion``: from the end of a pod's containers until the first DEL, 10 to 40 on a
    busy node. ``collection``: from the first DEL until a sandbox is removed by two more. ``resync``: until a mirror pod
    that was deleted is made again. ``backoff``: before a container is restarted.
    """

    seed: int | None = None
    deletion: Span = (0.0, 0.0)
    collection: Span = (3.0, 30.0)
    resync: Span = (10.0, 40.0)
    backoff: float = 1.0

"""Chooses what the nodes of a lab run on, by probing this machine's kernel."""

from __future__ import annotations

import enum
import os
import subprocess

from spiderpool.errors import BadConfig

OVERRIDE = "SPIDERPOOL_LAB_BACKEND"
_PROBE = "ip link add probe0 type veth peer name probe1 && ip link add link probe0 name probe2 type ipvlan mode l2"


class NodeBackend(enum.Enum):
    """``NATIVE``: a node is a network namespace. ``UML``: a node is a User Mode Linux kernel of its own."""

    NATIVE = "native"
    UML = "uml"


def choose() -> NodeBackend:
    """The backend named by $SPIDERPOOL_LAB_BACKEND; without it, native if this kernel has ipvlan, else UML."""
    chosen = os.environ.get(OVERRIDE)
    if chosen is None:
        return NodeBackend.NATIVE if _has_ipvlan() else NodeBackend.UML
    try:
        return NodeBackend(chosen)
    except ValueError:
        names = " or ".join(backend.value for backend in NodeBackend)
        raise BadConfig(f"{OVERRIDE} is {chosen!r}; set it to {names}, or unset it to choose by probing") from None


def _has_ipvlan() -> bool:
    """Whether this kernel has ipvlan, tried in a network namespace that ends with its only process."""
    probe = subprocess.run(["unshare", "--net", "sh", "-c", _PROBE], capture_output=True, timeout=10, check=False)
    return probe.returncode == 0

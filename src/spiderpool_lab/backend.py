"""What the nodes of a lab run on; chosen by trying what this machine's kernel can do."""

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
    """What the environment variable SPIDERPOOL_LAB_BACKEND says, else native if this kernel has ipvlan."""
    wanted = os.environ.get(OVERRIDE)
    if wanted is None:
        return NodeBackend.NATIVE if _has_ipvlan() else NodeBackend.UML
    try:
        return NodeBackend(wanted)
    except ValueError:
        names = " or ".join(backend.value for backend in NodeBackend)
        raise BadConfig(f"{OVERRIDE} is {wanted!r}; set it to {names}, or unset it to choose by probing") from None


def _has_ipvlan() -> bool:
    """Whether ipvlan links can be made, tried in a namespace that vanishes with its only process."""
    probe = subprocess.run(["unshare", "--net", "sh", "-c", _PROBE], capture_output=True, timeout=10, check=False)
    return probe.returncode == 0

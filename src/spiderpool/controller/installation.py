"""The objects that the installation makes for the controller, which may change them but neither make nor delete them.

Whoever may make Secrets can read the token of any ServiceAccount of the Namespace: by a Secret of another type.
"""

from __future__ import annotations

from spiderpool.errors import BadConfig

AGAIN = "repeat the installation (helm upgrade --reset-then-reuse-values)"
"""What makes them once more."""


def missing(what: str) -> BadConfig:
    """The error about an object that does not exist."""
    return BadConfig(f"{what} does not exist: {AGAIN}")


def unusable(what: str, why: Exception) -> BadConfig:
    """The error about an object that cannot hold what the controller has to write."""
    return BadConfig(f"{what} cannot be used: delete it and {AGAIN}; {why}")

"""Parts of a target that an input runs one after the other, whatever error another part ends with."""

from __future__ import annotations

from collections.abc import Callable

from spiderpool.errors import SpiderpoolError


def each_alone(*parts: Callable[[], object]) -> None:
    """Call all parts. A part may raise our errors, but not their base class, by which the agent tells of its bugs."""
    for part in parts:
        try:
            part()
        except SpiderpoolError as error:
            if type(error) is SpiderpoolError:
                raise

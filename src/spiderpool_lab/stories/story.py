"""What a story is, and the table of all stories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spiderpool.errors import SpiderpoolError

if TYPE_CHECKING:
    from spiderpool_lab.stories.stage import Stage

Play = Callable[["Stage"], None]


class StoryFailed(SpiderpoolError):
    """Something did not happen as a story says."""


@dataclass(frozen=True, slots=True)
class Story:
    """A story: its ``name``, what it is about, and the function that plays it.

    ``real_only`` is the reason why fast nodes cannot play it. ``steady`` means that every run has the same CNI calls,
    so that those of real and fast nodes can be compared. With ``own_kernel`` nodes must have one each.
    """

    name: str
    title: str
    play: Play
    real_only: str = ""
    steady: bool = True
    own_kernel: bool = False


STORIES: dict[str, Story] = {}
"""Name → story, in the order in which they are played."""


def story(*, real_only: str = "", steady: bool = True, own_kernel: bool = False) -> Callable[[Play], Play]:
    """Add a function to the table, by its name with hyphens; its title is the first line of its docstring."""

    def add(play: Play) -> Play:
        name, title = play.__name__.replace("_", "-"), (play.__doc__ or "").splitlines()[0].rstrip(".")
        STORIES[name] = Story(name, title, play, real_only, steady, own_kernel)
        return play

    return add


def expect(holds: object, what: str) -> None:
    """Raise StoryFailed, saying what must hold, unless it does."""
    if not holds:
        raise StoryFailed(f"not so: {what}")

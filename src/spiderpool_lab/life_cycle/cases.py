"""The cases: what an administrator does with helm, and what must hold then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from spiderpool.errors import BadConfig
from spiderpool_lab.life_cycle.stage import LifeStage
from spiderpool_lab.stories.story import StoryFailed, expect

Play = Callable[[LifeStage], None]

CROWD = 4
"""Pods that start at once: a node has one CPU, and answers late while it starts more than two."""


@dataclass(frozen=True, slots=True)
class Case:
    """A case by its name. Its title is the first line of the docstring of the function that plays it.

    ``loses`` is the reason why requests may be lost, but for no more than the share ``most`` of them.
    """

    name: str
    title: str
    play: Play
    loses: str = ""
    most: float = 0.0


CASES: dict[str, Case] = {}
"""Name → case, in the order in which they are played."""


def case(*, loses: str = "", most: float = 0.0) -> Callable[[Play], Play]:
    """Add a function to the table, by its name with hyphens."""

    def add(play: Play) -> Play:
        name, title = play.__name__.replace("_", "-"), (play.__doc__ or "").splitlines()[0].rstrip(".")
        CASES[name] = Case(name, title, play, loses, most)
        return play

    return add


@case()
def nothing(stage: LifeStage) -> None:
    """Nothing is done: what the load and the client see of a cluster that is left alone."""
    agents = stage.agents().keys()
    before = stage.probes().answered
    stage.wait("the client has been answered 200 times", lambda: stage.probes().answered >= before + 200)
    expect(stage.agents().keys() == agents, "agents are those of before")


@case()
def upgrade(stage: LifeStage) -> None:
    """Helm upgrade with a changed value replaces all agents."""
    former = stage.agents().keys()
    stage.release.upgrade("--set", "spiderpoolAgent.podAnnotations.case=upgrade")
    stage.release.wait()
    expect(stage.agents().keys().isdisjoint(former), "every agent is a new one")


@case()
def pods_start(stage: LifeStage) -> None:
    """Four pods start at once, and nothing else is done."""
    with _crowd(stage):
        pass


@case(
    loses="a lab node has one CPU, for which servers wait while pods and an agent start; no packet is dropped",
    most=0.05,
)
def upgrade_while_pods_start(stage: LifeStage) -> None:
    """Helm upgrade replaces all agents while four pods start."""
    with _crowd(stage):
        stage.release.upgrade("--set", "spiderpoolAgent.podAnnotations.case=crowd")
        stage.release.wait()


@contextmanager
def _crowd(stage: LifeStage) -> Iterator[None]:
    """Pods that start at once while the context lasts, and then run with addresses of their own; they go at its end."""
    stage.scale("crowd", CROWD)
    try:
        yield
        stage.wait(f"{CROWD} pods are ready", lambda: len(stage.ready("crowd")) == CROWD)
        addresses = [address for found in stage.ready("crowd").values() for address in found]
        expect(len({*addresses}) == len(addresses) == 2 * CROWD, "every pod has an address of each family of its own")
    finally:
        stage.scale("crowd", 0)
        stage.wait("they are gone", lambda: not stage.cluster.objects("pods", "--selector", "app=crowd"))


@case()
def rollback(stage: LifeStage) -> None:
    """Helm upgrade and then helm rollback, which replace all agents twice."""
    stage.release.upgrade("--set", "spiderpoolAgent.podAnnotations.case=rollback")
    stage.release.wait()
    former = stage.agents().keys()
    stage.release.rollback()
    stage.release.wait()
    expect(stage.agents().keys().isdisjoint(former), "every agent is a new one")


@case()
def wrong_value(stage: LifeStage) -> None:
    """Helm upgrade with a wrong value is refused, and nothing is changed."""
    agents = stage.agents().keys()
    try:
        stage.release.upgrade("--set", "ipam.enableIPv4=perhaps")
    except BadConfig as refusal:
        expect("enableIPv4" in refusal.message, f"the refusal names the value: {refusal.message}")
    else:
        raise StoryFailed("not so: helm refuses the value")
    expect(stage.agents().keys() == agents, "agents are those of before")


@case()
def image_missing(stage: LifeStage) -> None:
    """An upgrade names an image that no node has; the same command with the right one repairs it."""
    stage.release.upgrade("--set", "spiderpoolAgent.image.tag=absent")
    stage.wait("an agent waits for its image", lambda: any(map(_waits_for_image, stage.agents().values())))
    stage.release.upgrade()
    stage.release.wait()


@case(
    loses="a node without a network list is not Ready, and Kubernetes takes its pods out of Services meanwhile",
    most=0.25,
)
def removal(stage: LifeStage) -> None:
    """Helm uninstall leaves nothing but records and pools, and running pods their network; helm install finds them."""
    records = stage.records()
    stage.release.uninstall()
    stage.wait("nothing of the release is left", lambda: not stage.left())
    expect(stage.records() == records, "the records of running pods are those of before")
    stage.cluster.install()
    expect(stage.records() == records, "they still are after another installation")


def _waits_for_image(pod: dict[str, dict[str, list[dict[str, dict[str, dict[str, str]]]]]]) -> bool:
    waiting = [status["state"].get("waiting", {}) for status in pod["status"].get("containerStatuses", [])]
    return any(state.get("reason") in ("ErrImagePull", "ImagePullBackOff") for state in waiting)

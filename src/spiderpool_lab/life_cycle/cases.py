"""The cases: what an administrator does with helm, and what must hold then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from spiderpool.api import event_reasons
from spiderpool.errors import BadConfig
from spiderpool_lab.chart import NAMESPACE, RELEASE
from spiderpool_lab.life_cycle.earlier import REGISTRY as EARLIER
from spiderpool_lab.life_cycle.stage import LifeStage
from spiderpool_lab.product.images import AGENT, REGISTRY, archives, tag
from spiderpool_lab.stories.story import StoryFailed, expect

Play = Callable[[LifeStage], None]

DAEMONS = {"spiderpool-agent", "spiderpool-controller", "spiderpool-cloud"}
ELSEWHERE, PULL_SECRET = "network", "registry"
_PULL_SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "type": "kubernetes.io/dockerconfigjson",
    "metadata": {"name": PULL_SECRET, "namespace": ELSEWHERE},
    "stringData": {".dockerconfigjson": '{"auths": {}}'},
}
NODE = "master"
"""The node to which something happens. The client asks the other one."""
CROWD = 4
"""Pods that start at once: a node has one CPU, and answers late while it starts more than two."""


@dataclass(frozen=True, slots=True)
class Case:
    """A case by its name. Its title is the first line of the docstring of the function that plays it.

    ``loses`` is the reason why requests may be lost, but for no more than the share ``most`` of them. Those with
    ``earlier`` need the earlier version. One that ``replaces`` pods of the application may leave it others.
    """

    name: str
    title: str
    play: Play
    loses: str = ""
    most: float = 0.0
    earlier: bool = False
    replaces: bool = False


CASES: dict[str, Case] = {}
"""Name → case, in the order in which they are played."""


def case(
    *, loses: str = "", most: float = 0.0, earlier: bool = False, replaces: bool = False
) -> Callable[[Play], Play]:
    """Add a function to the table, by its name with hyphens."""

    def add(play: Play) -> Play:
        name, title = play.__name__.replace("_", "-"), (play.__doc__ or "").splitlines()[0].rstrip(".")
        CASES[name] = Case(name, title, play, loses, most, earlier, replaces)
        return play

    return add


@case(earlier=True)
def update_from_earlier(stage: LifeStage) -> None:
    """Helm upgrade from the earlier version replaces all daemons, under pods to which its agents gave addresses."""
    expect(stage.earlier() == DAEMONS, "all daemons are of the earlier version")
    with _crowd(stage, first=True):
        stage.release.upgrade()
        stage.release.wait()
        expect(not stage.earlier(), "no daemon is of the earlier version")
    _come_and_go(stage)


FIRST = next(iter(CASES))
"""The case that finds the earlier version installed."""


@case(earlier=True)
def rollback_to_earlier(stage: LifeStage) -> None:
    """Helm rollback brings the earlier version back, on today's custom resources, and helm upgrade today's."""
    stage.release.rollback()
    stage.release.wait()
    expect(stage.earlier() == DAEMONS, "all daemons are of the earlier version")
    _come_and_go(stage)
    with _crowd(stage, first=True):
        stage.release.upgrade()
        stage.release.wait()


@case(earlier=True)
def earlier_agents(stage: LifeStage) -> None:
    """Agents of the earlier version run with today's controller and spiderpool-cloud, while pods come and go."""
    _with_earlier(stage, "spiderpoolAgent.image.registry")
    expect(stage.earlier() == {"spiderpool-agent"}, "agents alone are of the earlier version")
    _come_and_go(stage)
    with _crowd(stage, first=True):
        stage.release.upgrade()
        stage.release.wait()


@case(earlier=True)
def earlier_controllers(stage: LifeStage) -> None:
    """Today's agents run with the controller and spiderpool-cloud of the earlier version, while pods come and go."""
    _with_earlier(stage, "spiderpoolController.image.registry", "spiderpoolCloud.image.registry")
    expect(stage.earlier() == DAEMONS - {"spiderpool-agent"}, "agents are not of the earlier version")
    _come_and_go(stage)
    with _crowd(stage, first=True):
        stage.release.upgrade()
        stage.release.wait()


def _with_earlier(stage: LifeStage, *values: str) -> None:
    """Give some daemons the images of the earlier version. Custom resources stay today's."""
    assigned = (f"spiderpoolInit.image.registry={REGISTRY}", *(f"{value}={EARLIER}" for value in values))
    stage.release.upgrade(*(word for value in assigned for word in ("--set", value)))
    stage.release.wait()


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


def _come_and_go(stage: LifeStage) -> None:
    """Pods start and end, and others do after them."""
    for _ in range(2):
        with _crowd(stage):
            pass


@contextmanager
def _crowd(stage: LifeStage, *, first: bool = False) -> Iterator[None]:
    """Pods that start at once, ``first`` or while the context lasts, and then have addresses; they go at its end."""
    stage.scale("crowd", CROWD)
    try:
        if first:
            _wait_for_crowd(stage)
        yield
        _wait_for_crowd(stage)
        addresses = [address for found in stage.ready("crowd").values() for address in found]
        expect(len({*addresses}) == len(addresses) == 2 * CROWD, "every pod has an address of each family of its own")
    finally:
        stage.scale("crowd", 0)
        stage.wait("they are gone", lambda: not stage.cluster.objects("pods", "--selector", "app=crowd"))


def _wait_for_crowd(stage: LifeStage) -> None:
    stage.wait(f"{CROWD} pods are ready", lambda: len(stage.ready("crowd")) == CROWD)


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
    _remove(stage)
    expect(stage.records() == records, "the records of running pods are those of before")
    stage.cluster.install()
    expect(stage.records() == records, "they still are after another installation")


@case(
    loses="a node without a network list is not Ready, and Kubernetes takes its pods out of Services meanwhile",
    most=0.35,
)
def another_namespace(stage: LifeStage) -> None:
    """The product is removed, installed in a Namespace of its own with a pull secret, and moved back."""
    records = stage.records()
    _remove(stage)
    with stage.elsewhere(ELSEWHERE):
        stage.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ELSEWHERE}}, _PULL_SECRET)
        stage.cluster.install("--set", f"global.imagePullSecrets[0].name={PULL_SECRET}")
        pods = stage.daemons()
        named = [pod["spec"].get("imagePullSecrets", []) for pod in pods]
        expect(bool(pods) and all({"name": PULL_SECRET} in each for each in named), "every pod names the pull secret")
        _come_and_go(stage)
        _refuse_another(stage)
        expect(stage.records() == records, "the records of running pods are those of before")
        _remove(stage)
    stage.cluster.install()
    expect(stage.records() == records, "they still are after the move back")


def _remove(stage: LifeStage) -> None:
    stage.release.uninstall()
    stage.wait("nothing of the release is left", lambda: not stage.left())


def _refuse_another(stage: LifeStage) -> None:
    """A second release, in another Namespace, is refused with the name of the first."""
    place = stage.release.namespace
    with stage.elsewhere(NAMESPACE):
        try:
            stage.cluster.install()
        except BadConfig as refusal:
            said = f"is installed in this cluster already, as release {RELEASE} in Namespace {place}"
            expect(said in refusal.message, f"the refusal names the first release: {refusal.message}")
        else:
            raise StoryFailed("not so: helm refuses a second release")


@case(loses="a pod on a node without power answers nothing, until that node boots or is not Ready", most=0.6)
def node_reboots(stage: LifeStage) -> None:
    """A node loses its power and boots with the disk that it had: its pods have their addresses again."""
    stage.logged()
    since = stage.started(NODE)
    stage.cut_power(NODE)
    stage.boot(NODE, keep_disk=True)
    stage.wait("its pods were started again", lambda: _are_later(stage.started(NODE), since))
    stage.release.wait()
    _come_and_go(stage)


def _are_later(now: dict[str, str], before: dict[str, str]) -> bool:
    return now.keys() == before.keys() and all(now[pod] > before[pod] for pod in now)


@case(
    loses="a pod that is evicted has a second to end, in which kube-proxy still sends it connections",
    most=0.1,
    replaces=True,
)
def node_replaced(stage: LifeStage) -> None:
    """A node is drained, deleted, and added again under its name, as a new server with an empty disk."""
    _remove_node(stage)
    stage.boot(NODE, keep_disk=False)
    stage.release.wait()
    stage.spread()
    _come_and_go(stage)


def _remove_node(stage: LifeStage) -> None:
    stage.logged()
    stage.drain(NODE)
    stage.wait("no address is of its pods", lambda: NODE not in stage.nodes_with_records())
    stage.cluster.plane.kubectl("delete", "node", NODE)
    stage.cut_power(NODE)
    stage.wait("the application runs on the other node", lambda: len(stage.ready("app")) == 2)
    stage.wait("Kubernetes has deleted the agent's pod", lambda: len(stage.agents()) == 1)


REMOVE_TAINT = ("--set", "spiderpoolController.removeStartupTaint=true")
WHILE = 15.0
"""Seconds for what must not happen."""


@case(
    loses="a pod that is evicted has a second to end, in which kube-proxy still sends it connections",
    most=0.1,
    replaces=True,
)
def node_joins(stage: LifeStage) -> None:
    """A new server's kubelet registers its node with the startup taint: its pods wait until its agent serves."""
    stage.release.upgrade(*REMOVE_TAINT)
    stage.release.wait()
    _remove_node(stage)
    stage.start_on(NODE, "early")
    stage.join(NODE)
    _wait_for_early(stage)
    stage.release.wait()
    stage.spread()


def _wait_for_early(stage: LifeStage) -> None:
    """Wait until a pod runs that waits for the startup taint of its node to go; it must not have been tried before."""

    def is_free() -> bool:
        scheduled, waits = stage.scheduled("early"), stage.waits_for_agent(NODE)
        expect(not (scheduled and waits), "no pod is scheduled while the node has the taint")
        return not waits

    stage.wait("the taint is gone", is_free)
    stage.wait("the pod runs", lambda: len(stage.ready("early")) == 1)
    expect(not stage.complaints("", app="early"), "it was attached at the first try")
    stage.end("early")


@case(loses="a lab node has one CPU, for which servers wait while an image is imported", most=0.05)
def taint_without_agent(stage: LifeStage) -> None:
    """A node whose agent has ended gets the startup taint: new pods wait until an agent serves again."""
    stage.release.upgrade(*REMOVE_TAINT)
    stage.release.wait()
    _end_agent(stage)
    stage.set_startup_taint(NODE)
    stage.start_on(NODE, "early")
    time.sleep(WHILE)
    expect(stage.waits_for_agent(NODE), f"the node still has the taint after {WHILE:.0f} s")
    _bring_image_back(stage)
    _wait_for_early(stage)
    stage.release.wait()


def _end_agent(stage: LifeStage) -> None:
    """End the agent of a node, whose image is gone: no other one begins."""
    (former,) = [uid for uid, pod in stage.agents().items() if pod["spec"]["nodeName"] == NODE]
    stage.remove_image(NODE, f"{REGISTRY}/{AGENT}:{tag()}")
    stage.cluster.plane.kubectl(
        "delete", "pod", stage.agents()[former]["metadata"]["name"], f"--namespace={stage.release.namespace}"
    )
    stage.wait("the new agent waits for its image", lambda: any(map(_waits_for_image, stage.agents().values())))


def _bring_image_back(stage: LifeStage) -> None:
    (archive,) = archives((AGENT,))
    stage.import_image(NODE, archive)


@case(loses="a lab node has one CPU, for which servers wait while an image is imported", most=0.05)
def image_collected(stage: LifeStage) -> None:
    """The agent's image is removed from a node and its agent ends: pods wait there until the image is back."""
    _end_agent(stage)
    with _crowd(stage):
        said = "spiderpool-agent is not running on this node"
        stage.wait("an Event says what pods wait for", lambda: stage.complaints(said))
        stage.note(f"the agent's pod says ImagePullBackOff, and Events of pods that start there: {said}")
        stage.wait("pods of the other node run", lambda: len(stage.ready("crowd")) == CROWD // 2)
        _bring_image_back(stage)
        stage.release.wait()


REASONS = (event_reasons.SPIDERIP_RESTORED.name, event_reasons.ADDRESS_IN_USE_TWICE.name)
"""Reasons of Events by which agents tell what a restored store lacks."""
RESTORED = "the API server is away for seconds, and pods that the restored store does not have end"


@case(loses=RESTORED, most=0.1)
def store_restored(stage: LifeStage) -> None:
    """The store of the cluster is restored as of a minute ago, with raised revisions."""
    with _restored_after(stage):
        stage.cluster.plane.restore_store(stage.copied, bumped=True)


@case(loses=RESTORED, most=0.1)
def store_restored_with_its_revisions(stage: LifeStage) -> None:
    """The store is restored with the revisions that it had, and then all of Kubernetes and the product is restarted."""
    with _restored_after(stage):
        stage.cluster.plane.restore_store(stage.copied, bumped=False)
        stage.restart_kubernetes()
        stage.release.restart()
        stage.release.wait()


@contextmanager
def _restored_after(stage: LifeStage) -> Iterator[None]:
    """What is older than the copy and ends before it is restored, and what is newer; the context restores it.

    Kubernetes decides which of the pods that it finds, and of those that run, it keeps. Who runs on keeps its address.
    """
    with _crowd(stage, first=True):
        stage.cluster.plane.copy_store(stage.copied)
        stage.scale("crowd", CROWD // 2)
        stage.wait("half of the pods are gone", lambda: len(stage.names("crowd")) == CROWD // 2)
        stage.scale("later", CROWD)
        stage.wait("newer ones run", lambda: len(stage.ready("later")) == CROWD)
        former, newer = stage.ready("crowd"), stage.of_kernels("later")
        before = stage.events(*REASONS)
        yield
        stage.note(*stage.twice_until_gone(newer))
        _wait_for_crowd(stage)
        kept = {uid: addresses for uid, addresses in stage.ready("crowd").items() if uid in former}
        expect(kept.items() <= former.items(), "pods that run on have their addresses")
    made = stage.events(*REASONS) - before
    stage.note(*(f"{count} Events {reason}" for reason, count in made.items()), *stage.attention())


def _waits_for_image(pod: dict[str, dict[str, list[dict[str, dict[str, dict[str, str]]]]]]) -> bool:
    waiting = [status["state"].get("waiting", {}) for status in pod["status"].get("containerStatuses", [])]
    return any(state.get("reason") in ("ErrImagePull", "ImagePullBackOff") for state in waiting)

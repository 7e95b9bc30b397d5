"""Stories of a node's daemons and of the API server: killed, without a list, without a disk, with a wrong clock."""

from __future__ import annotations

import signal
import time

from spiderpool_lab.control_plane import API_SERVER
from spiderpool_lab.node import CNI_CONFIGURATION
from spiderpool_lab.stories import audit
from spiderpool_lab.stories.stage import Stage, pod
from spiderpool_lab.stories.story import StoryFailed, expect, story

_LIST = f"{CNI_CONFIGURATION}/00-spiderpool.conflist"
_AWAY = f"{_LIST}.away"
"""Where the list is hidden: in its folder, so that a rename hides it, under a name that runtimes do not read."""
_STABLE = 8.0
"""Seconds after a restart in which nothing may happen to pods."""
_KILLS = 3
_LOOKS = 60
"""Attempts to find an ADD that is half done."""
_ANSWERED = 0.5
"""Seconds in which what a stopped agent answered before is written down."""
_HOUR = 3600
_FULL_DISK = f"""
mount -t tmpfs -o size=4k tmpfs {CNI_CONFIGURATION}
head -c 8192 /dev/zero > {CNI_CONFIGURATION}/filler || true
"""
"""Puts a disk of one page, which is full, in the place of the list's."""
_OWN_DISK = f"! grep --quiet ' {CNI_CONFIGURATION} ' /proc/mounts || umount {CNI_CONFIGURATION}"


def _untouched(stage: Stage, child: str) -> None:
    """Kill a daemon: its pods keep their sandboxes and addresses, without a CNI call, and it serves new pods."""
    node, names = stage.nodes[0], stage.several()
    before = stage.all_addresses()
    stage.restart(node, child)
    time.sleep(_STABLE)
    stage.ready(*names)
    expect(stage.all_addresses() == before, "the addresses are the same")
    expect(all(stage.shapes(name) == ["ADD netns"] for name in names), "no call was made")
    _serves_a_new_pod(stage, node)
    stage.serves(*names)


def _serves_a_new_pod(stage: Stage, node: str) -> None:
    """The Node's last reports may be old: only a new pod shows that its daemons work."""
    stage.apply(pod("after", node))
    stage.ready("after")
    stage.serves("after")
    stage.node_ready(node)


@story()
def kubelet_killed(stage: Stage) -> None:
    """The kubelet is killed."""
    _untouched(stage, "kubelet")


@story(real_only="fast nodes have one process for kubelet and containerd")
def containerd_killed(stage: Stage) -> None:
    """Containerd is killed."""
    _untouched(stage, "containerd")


@story()
def agent_restarted(stage: Stage) -> None:
    """The agent is killed while pods run."""
    _untouched(stage, "agent")


@story(steady=False)
def agent_killed_during_adds(stage: Stage) -> None:
    """The agent is killed again and again in the middle of many ADDs."""
    node, names = stage.nodes[0], [f"web-{number:02}" for number in range(stage.scale.burst)]
    stage.apply(*(pod(name, node) for name in names))
    moments = [_kill_amid_adds(stage, node) for _ in range(_KILLS)]
    stage.ready(*names, timeout=180)
    cut = [[call for call in audit.in_progress(stage.calls(), moment) if call.status] for moment in moments]
    expect(all(cut), f"each kill ends an ADD without an answer: {[len(calls) for calls in cut]}")
    stage.serves(*names)


def _kill_amid_adds(stage: Stage, node: str) -> float:
    """Kill the agent while a pod has an address and its ADD has not ended; the moment of that.

    While this is looked at the agent is stopped, so that it is still so when it is killed.
    """
    for _ in range(_LOOKS):
        stage.signal(node, "agent", signal.SIGSTOP)
        try:
            time.sleep(_ANSWERED)
            if stage.holders() & stage.calls_in_progress(node, "ADD"):
                moment = time.time()
                stage.restart(node, "agent")
                return moment
        finally:
            stage.signal(node, "agent", signal.SIGCONT)
        time.sleep(_ANSWERED / 2)
    raise StoryFailed(f"the agent was never in the middle of an ADD, in {_LOOKS} looks")


@story(steady=False)
def api_server_away(stage: Stage) -> None:
    """The API server is away: pods keep their traffic, an agent is restarted, nothing is lost afterwards."""
    node, names = stage.nodes[0], stage.several()
    before, plane = stage.all_addresses(), stage.cluster.plane
    try:
        plane.processes.kill(API_SERVER, signal.SIGKILL)
        end = time.monotonic() + stage.scale.outage
        stage.restart(node, "agent")
        while time.monotonic() < end:
            wrong = [fault for addresses in before.values() for fault in stage.reach(stage.nodes[1], addresses)]
            expect(not wrong, f"pods answer without the API server: {wrong}")
            time.sleep(3)
        expect(plane.processes.pid(API_SERVER) is None, "the API server was away all the time")
    finally:
        plane.restart_api_server()
    stage.ready(*names)
    expect(stage.all_addresses() == before, "the addresses are the same")
    expect(all(stage.shapes(name) == ["ADD netns"] for name in names), "no call was made")
    _serves_a_new_pod(stage, node)
    stage.delete(*names)


@story(steady=False)
def configuration_late(stage: Stage) -> None:
    """The network configuration list is removed, so the node is not ready, and comes back."""
    node, names = stage.nodes[0], stage.several(1)
    try:
        stage.run(node, f"mv {_LIST} {_AWAY}")
        stage.node_ready(node, ready=False)
        stage.apply(pod("late", node))
        stage.wait("late is bound to its node", lambda: stage.pod("late")["spec"].get("nodeName") == node)
        time.sleep(3)
        expect(not stage.shapes("late"), "a pod waits for the list")
        stage.serves(*names)
    finally:
        stage.run(node, f"! [ -e {_AWAY} ] || mv {_AWAY} {_LIST}")
    stage.node_ready(node)
    stage.ready("late", *names)
    stage.serves("late", *names)


@story(steady=False)
def configuration_replaced(stage: Stage) -> None:
    """The list has another name when a pod is deleted: its DEL has no result, and frees all the same."""
    node = stage.nodes[0]
    stage.several(2)
    own = stage.run(node, f"cat {_LIST}")
    try:
        stage.run(node, f'sed -i \'s/"name":"spiderpool"/"name":"renamed"/\' {_LIST}; grep -q renamed {_LIST}')
        time.sleep(3)
        stage.delete("web-0")
        stage.free("web-0", timeout=15)
        stage.apply(pod("after", node))
        stage.ready("after")
    finally:
        stage.restart(node, "agent")
        stage.wait("the agent's own list", lambda: stage.run(node, f"cat {_LIST}") == own)
    stage.delete("after")
    stage.free("after", timeout=15)
    expect("DEL netns" in stage.shapes("web-0"), f"the list of another name knows no result: {stage.shapes('web-0')}")
    stage.serves("web-1")


@story(steady=False)
def disk_full(stage: Stage) -> None:
    """The disk of the list is full when the agent starts: running pods go on; with room the list is written.

    Until then the node has no list. The full disk is put in the place of the folder.
    """
    node, names = stage.nodes[0], stage.several(2)
    own = stage.run(node, f"cat {_LIST}")
    try:
        _change_disk(stage, node, _FULL_DISK)
        stage.signal(node, "agent")
        stage.wait("the agent has tried to write", lambda: ".new" in stage.run(node, f"ls -A {CNI_CONFIGURATION}"))
        stage.node_ready(node, ready=False)
        listed = stage.run(node, f"ls {CNI_CONFIGURATION}").split()
        expect(listed == ["filler"], f"there is no list that is cut off: {listed}")
        stage.serves(*names)
        stage.run(node, f"rm {CNI_CONFIGURATION}/filler")
        stage.wait("the agent has written its list", lambda: stage.run(node, f"cat {_LIST}") == own)
        stage.node_ready(node)
        _serves_a_new_pod(stage, node)
        stage.serves(*names)
    finally:
        _change_disk(stage, node, _OWN_DISK)
    stage.node_ready(node)


def _change_disk(stage: Stage, node: str, change: str) -> None:
    """Mount or unmount over the list's folder. containerd watches the folder that it finds when it starts."""
    stage.run(node, change)
    if stage.real:
        stage.restart(node, "containerd")


@story(steady=False, own_kernel=True)
def clock_off(stage: Stage) -> None:
    """The clock of a node is an hour ahead, and then right again."""
    node = stage.nodes[1]
    try:
        stage.run(node, f'date -s "@$(($(date +%s) + {_HOUR}))"')
        stage.restart(node, "agent")
        names = stage.several(2, node=1)
        ahead = [call.started - time.time() for name in names for call in stage.calls(name)]
        expect(min(ahead) > _HOUR / 2, f"ADD is called by that clock: {ahead}")
        stage.serves(*names)
        stage.delete(*names)
    finally:
        stage.run(node, f'[ $(date +%s) -lt {time.time() + _HOUR / 2:.0f} ] || date -s "@$(($(date +%s) - {_HOUR}))"')
    _serves_a_new_pod(stage, node)

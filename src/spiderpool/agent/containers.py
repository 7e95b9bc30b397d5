"""Which container each interface was last given addresses for, where another plugin makes the interface.

Runtimes send a DEL of a pod's former sandbox long after the next one runs: after a reboot, and when they collect old
sandboxes. It must not end what the next sandbox uses, so the container of the last ADD decides. The agent keeps files
of the sandboxes that it attaches itself; for all others there is a small file for each pod, also in memory (``/run``).
It also says where the network namespaces are, so that the account of the node can tell what is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from spiderpool.agent.failures import noted
from spiderpool.agent.json_files import JSONFiles, digest
from spiderpool.api.cni import PodArgs
from spiderpool.core.network.attachment import SandboxTarget
from spiderpool.errors import SpiderpoolError
from spiderpool.kernel import namespaces


class PodContainers(msgspec.Struct, frozen=True, omit_defaults=True):
    """The containers of one pod."""

    pod_uid: str
    by_interface: dict[str, str]
    """Interface → container ID."""
    namespace: str = ""
    pod: str = ""
    """Name of the pod; it and its namespace are empty in files of earlier agents."""
    netns: dict[str, str] = {}
    """Container ID → path of its network namespace, as far as the calls have told it."""


class Containers:
    """The files of all pods of this node."""

    def __init__(self, directory: Path, is_gone: Callable[[str], bool] = namespaces.is_gone) -> None:
        """``is_gone`` says whether a network namespace, by its path, has been removed."""
        self._files = JSONFiles(directory, PodContainers)
        self._is_gone = is_gone

    def may_have_sandbox(self, pod: PodContainers) -> bool:
        """Whether a container of a pod has a network namespace, as far as that is known."""
        paths = [pod.netns.get(container) for container in pod.by_interface.values()]
        return not all(path is not None and self._is_gone(path) for path in paths)

    def has_sandbox(self, pod: PodContainers) -> bool:
        """Whether a container of a pod is known to have a network namespace."""
        return not all(map(self._is_gone, _current(pod).netns.values()))

    def note(self, pod: PodArgs, interface: str, sandbox: SandboxTarget) -> None:
        """Remember the container of an ADD, in place of the interface's former one. Raises IOFailure.

        ``pod`` is named by the UID by which it holds addresses.
        """
        known = self._of_pod(pod.uid)
        netns = {sandbox.container_id: sandbox.netns} if sandbox.netns else {}
        interfaces = (known.by_interface if known else {}) | {interface: sandbox.container_id}
        noted = _current(PodContainers(pod.uid, interfaces, pod.namespace, pod.name, _netns(known) | netns))
        if noted != known:
            self._save(noted)

    def of(self, pod_uid: str, interface: str) -> str | None:
        """The container of an interface; None when it is not known. Raises IOFailure."""
        known = self._of_pod(pod_uid)
        return known.by_interface.get(interface) if known else None

    def is_former(self, pod_uid: str, container: str) -> bool:
        """Whether all interfaces of a pod that are known belong to other containers. Raises IOFailure."""
        known = self._of_pod(pod_uid)
        return bool(container and known) and container not in (known.by_interface.values() if known else ())

    def forget(self, pod_uid: str, interface: str, container: str) -> None:
        """Forget an interface unless it has another container by now. Raises IOFailure."""
        known = self._of_pod(pod_uid)
        if known is None or known.by_interface.get(interface) != container:
            return
        others = {name: each for name, each in known.by_interface.items() if name != interface}
        if others:
            self._save(_current(msgspec.structs.replace(known, by_interface=others)))
        else:
            self._files.remove(digest(pod_uid))

    def all(self, *, strict: bool = False) -> Iterator[PodContainers]:
        """All pods that have a file. Raises IOFailure; if ``strict``, also for one that cannot be parsed."""
        return self._files.all(strict=strict)

    def keep(self, is_kept: Callable[[PodContainers], bool]) -> list[SpiderpoolError]:
        """Remove the files of pods that are not ``is_kept``; the failures.

        One that cannot be parsed stays: its pod may have addresses.
        """
        failures: list[SpiderpoolError] = []
        for name in self._files.names():
            with noted(failures):
                pod = self._files.load(name)
                if pod is not None and not is_kept(pod):
                    self._files.remove(name)
        return failures

    def _of_pod(self, pod_uid: str) -> PodContainers | None:
        """A pod's file. Its name is a digest, since runtimes may pass any text as UID."""
        return self._files.load(digest(pod_uid))

    def _save(self, pod: PodContainers) -> None:
        self._files.save(digest(pod.pod_uid), pod)


def _netns(pod: PodContainers | None) -> dict[str, str]:
    return pod.netns if pod else {}


def _current(pod: PodContainers) -> PodContainers:
    """Without the namespaces of containers that have no interface any more."""
    containers = set(pod.by_interface.values())
    netns = {container: path for container, path in pod.netns.items() if container in containers}
    return msgspec.structs.replace(pod, netns=netns)

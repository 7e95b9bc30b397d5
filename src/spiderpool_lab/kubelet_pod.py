"""core/v1 Pod with the fields that only a kubelet needs, and what the stand-in reads out of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from spiderpool.api import core_v1
from spiderpool.api.meta import Kind, Object
from spiderpool_lab.pod_servers import Protocol

HASH, MIRROR, SOURCE = (f"kubernetes.io/config.{name}" for name in ("hash", "mirror", "source"))
"""Annotations of static pods and their mirrors."""
_SHELLS = ("sh", "bash")
_SCRIPT = re.compile(r"(?:sleep (?P<seconds>\d+(?:\.\d+)?))?(?:; )?(?:exit (?P<code>\d+))?")


class ContainerPort(msgspec.Struct, rename="camel"):
    """core/v1 ContainerPort, in part."""

    container_port: int
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")

    def mapping(self) -> dict[str, Any]:
        """The entry of ``portMappings`` that containerd makes of it, whose keys begin with a capital."""
        protocol = self.protocol.lower()
        return {
            "HostPort": self.host_port,
            "ContainerPort": self.container_port,
            "Protocol": protocol,
            "HostIP": self.host_ip,
        }


class ProbedPort(msgspec.Struct):
    """core/v1 HTTPGetAction and TCPSocketAction, in part."""

    port: int | str
    path: str = "/"


class Probe(msgspec.Struct, rename={"http": "httpGet", "tcp": "tcpSocket", "period": "periodSeconds"}):
    """core/v1 Probe, in part; ``period`` in seconds."""

    http: ProbedPort | None = None
    tcp: ProbedPort | None = None
    period: int = 10


class SleepAction(msgspec.Struct, frozen=True):
    """core/v1 SleepAction."""

    seconds: int = 0


class LifecycleHandler(msgspec.Struct, frozen=True):
    """core/v1 LifecycleHandler, in part."""

    sleep: SleepAction = SleepAction()


class Lifecycle(msgspec.Struct, rename="camel"):
    """core/v1 Lifecycle, in part."""

    pre_stop: LifecycleHandler = LifecycleHandler()


class KubeletContainer(msgspec.Struct, rename="camel"):
    """core/v1 Container, in part."""

    name: str
    image: str = ""
    ports: list[ContainerPort] = []
    command: list[str] = []
    args: list[str] = []
    restart_policy: str | None = None
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None

    def port_number(self, port: int | str) -> int:
        """The number of a port that a probe gives by number or name; 0 if no port has that name."""
        return port if isinstance(port, int) else {each.name: each.container_port for each in self.ports}.get(port, 0)

    @property
    def is_sidecar(self) -> bool:
        """Whether it is an init container that goes on beside the others."""
        return self.restart_policy == "Always"


class KubeletPodSpec(msgspec.Struct, rename="camel"):
    """core/v1 PodSpec, in part."""

    containers: list[KubeletContainer] = []
    init_containers: list[KubeletContainer] = []
    host_network: bool = False
    restart_policy: str = "Always"
    active_deadline_seconds: float | None = None
    termination_grace_period_seconds: float = 30


class KubeletPod(Object, kw_only=True):
    """core/v1 Pod with its containers, which only a kubelet needs."""

    KIND: ClassVar[Kind] = core_v1.Pod.KIND

    spec: KubeletPodSpec = msgspec.field(default_factory=KubeletPodSpec)
    status: core_v1.PodStatus = msgspec.field(default_factory=core_v1.PodStatus)

    @property
    def finished(self) -> bool:
        """Whether its phase is final."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def grace(self) -> float:
        """Seconds that its containers have to end, once it is deleted."""
        given = self.metadata.deletionGracePeriodSeconds
        return self.spec.termination_grace_period_seconds if given is None else given

    @property
    def mirror_of(self) -> str | None:
        """The UID of the static pod that this object mirrors; None if it is no mirror."""
        return (self.metadata.annotations or {}).get(MIRROR)


class MirrorPod(Object, kw_only=True):
    """core/v1 Pod as a static manifest has it, field by field."""

    KIND: ClassVar[Kind] = core_v1.Pod.KIND

    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ContainerExit:
    """A container ends by itself, ``seconds`` after its start."""

    seconds: float
    code: int


def container_exit(container: KubeletContainer) -> ContainerExit | None:
    """When a container ends by itself; None if it does not, as far as the stand-in understands its command.

    It understands ``true``, ``false``, ``sleep 3`` and, as a script of sh, ``sleep 3; exit 1`` or one half of it.
    """
    match [*container.command, *container.args]:
        case [program] if (name := _base(program)) in ("true", "false"):
            return ContainerExit(0.0, int(name == "false"))
        case [program, seconds] if _base(program) == "sleep":
            return _script_exit(f"sleep {seconds}")
        case [shell, "-c", script] if _base(shell) in _SHELLS and script:
            return _script_exit(script)
        case _:
            return None


def _base(program: str) -> str:
    return program.rpartition("/")[2]


def _script_exit(script: str) -> ContainerExit | None:
    found = _SCRIPT.fullmatch(script)
    return ContainerExit(float(found["seconds"] or 0), int(found["code"] or 0)) if found else None


def container_ports(pod: KubeletPod) -> dict[str, list[tuple[Protocol, int]]]:
    """Container → its ports, each of the pod's once; TCP 80 of the first if none is declared (not on the host)."""
    declared = {container.name: _ports(container) for container in (*pod.spec.init_containers, *pod.spec.containers)}
    if not any(declared.values()) and not pod.spec.host_network and pod.spec.containers:
        declared[pod.spec.containers[0].name] = [("TCP", 80)]
    seen: set[tuple[Protocol, int]] = set()
    for name, ports in declared.items():
        declared[name] = sorted({*ports} - seen)
        seen.update(ports)
    return declared


def _ports(container: KubeletContainer) -> list[tuple[Protocol, int]]:
    return [(port.protocol, port.container_port) for port in container.ports if port.protocol != "SCTP"]


def host_ports(pod: KubeletPod) -> list[dict[str, Any]]:
    """The host ports of all containers, as ``portMappings``."""
    declared = (port for container in pod.spec.containers for port in container.ports)
    return [port.mapping() for port in declared if port.host_port]


def pre_stop_seconds(pod: KubeletPod) -> float:
    """Seconds that the pod's containers go on after its deletion: their longest sleep before they are stopped."""
    sleeps = [container.lifecycle.pre_stop.sleep.seconds for container in pod.spec.containers if container.lifecycle]
    return min(max(sleeps, default=0), pod.grace)

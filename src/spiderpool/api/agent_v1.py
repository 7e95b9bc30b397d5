"""The agent's HTTP API under ``/v1``, as the executables ``spiderpool`` and ``coordinator`` speak it.

A required text must be present but may be empty. What is zero is left out of answers, unless it is required.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from spiderpool.errors import BadRequest

M = TypeVar("M", bound="Message")


class Malformed(BadRequest):
    """A body that is not JSON, or not of the right types."""


class Incomplete(BadRequest):
    """A required field is missing."""


class Message(msgspec.Struct):
    """Base of what comes in: fields are optional to the decoder, so that a missing one can be told by name."""

    @classmethod
    def required(cls) -> tuple[str, ...]:
        """Fields that must be present."""
        return ()


class _PodCall(Message):
    containerID: str | None = None
    ifName: str | None = None
    netNamespace: str | None = None
    podNamespace: str | None = None
    podName: str | None = None
    podUID: str | None = None


class AddCall(_PodCall):
    """``IpamAddArgs``: POST /ipam/ip."""

    defaultIPv4IPPool: list[str] | None = None
    defaultIPv6IPPool: list[str] | None = None
    cleanGateway: bool | None = None
    matchMasterSubnet: bool | None = None

    @classmethod
    def required(cls) -> tuple[str, ...]:
        """Fields that must be present."""
        return ("containerID", "ifName", "netNamespace", "podNamespace", "podName", "podUID")


class DelCall(_PodCall):
    """``IpamDelArgs``: DELETE /ipam/ip."""

    @classmethod
    def required(cls) -> tuple[str, ...]:
        """Fields that must be present."""
        return ("containerID", "ifName", "podNamespace", "podName", "podUID")


class BatchDelCall(_PodCall):
    """``IpamBatchDelArgs``: DELETE /ipam/ips."""

    isReleaseConflictIPs: bool | None = None

    @classmethod
    def required(cls) -> tuple[str, ...]:
        """Fields that must be present."""
        return ("containerID", "podNamespace", "podName", "podUID")


class CoordinatorCall(Message):
    """``GetCoordinatorArgs``: GET /coordinator/config, with a body."""

    podName: str | None = None
    podNamespace: str | None = None


class IPConfig(msgspec.Struct, omit_defaults=True):
    """One address of an answer."""

    address: str
    nic: str
    version: int
    ipPool: str = ""
    gateway: str = ""
    enableGatewayDetection: bool = False
    enableIPConflictDetection: bool = False


class AgentRoute(msgspec.Struct):
    """One route of an answer."""

    dst: str
    gw: str
    ifName: str | None = None


class AddAnswer(msgspec.Struct):
    """``IpamAddResponse``."""

    ips: list[IPConfig]
    routes: list[AgentRoute] | None = None


class WorkloadInterface(msgspec.Struct, omit_defaults=True):
    """One interface of a pod."""

    interface: str
    ipv4: str = ""
    ipv4Pool: str = ""
    ipv4Gateway: str = ""
    ipv6: str = ""
    ipv6Pool: str = ""
    ipv6Gateway: str = ""
    routes: list[AgentRoute] = []


class WorkloadEndpoint(msgspec.Struct):
    """``WorkloadEndpointStatus``."""

    podNamespace: str
    podName: str
    podUID: str
    node: str
    interfaces: list[WorkloadInterface]


class AgentPolicyRoute(msgspec.Struct):
    """One of the coordinator's policy routes."""

    dst: str
    gw: str


class AgentCoordinatorConfig(msgspec.Struct, omit_defaults=True):
    """The settings of the coordinator for one pod."""

    mode: str
    overlayPodCIDR: list[str]
    serviceCIDR: list[str]
    tunePodRoutes: bool
    hijackCIDR: list[str]
    policyRoutes: list[AgentPolicyRoute]
    podMACPrefix: str = ""
    podDefaultRouteNIC: str = ""
    hostRuleTable: int = 0
    podRPFilter: int = 0
    txQueueLen: int = 0
    vethLinkAddress: str = ""
    vethMTU: int = 0


def read(body: bytes, shape: type[M]) -> M:
    """A body of a call. Raises Malformed, or Incomplete for the first required field that is missing."""
    try:
        message = msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise Malformed(f"parsing body failed: {error}") from error
    missing = next((name for name in shape.required() if getattr(message, name) is None), None)
    if missing:
        raise Incomplete(f"{missing} in body is required")
    return message


def failure(status: int, message: str) -> dict[str, Any]:
    """The document of an error that has nothing to do with addresses; 422 has a code of its own."""
    return {"code": 602 if status == 422 else status, "message": message}

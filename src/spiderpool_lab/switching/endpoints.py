"""The servers that the other controller puts into the server group of a Service's port."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from spiderpool_lab.switching.services import BACKEND_TYPE, LEGACY_PREFIX, PREFIX, Json

WEIGHT = 100


@dataclass(frozen=True, slots=True)
class PresentServer:
    """A server of a group: an instance, the address of an ENI, or an address alone (``ecs``, ``eni``, ``ip``)."""

    identity: str
    kind: str
    address: str
    port: int
    weight: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies it in its group."""
        return self.identity, self.address, self.port


@dataclass(frozen=True, slots=True)
class ServerChanges:
    """What makes the servers of a group those that are wanted."""

    added: list[PresentServer]
    weighted: list[PresentServer]
    """Those that are there with another weight."""
    removed: list[PresentServer]


def server_changes(wanted: set[PresentServer], present: set[PresentServer]) -> ServerChanges:
    """Compare the servers of a group."""
    keys, wanted_keys = {each.key for each in present}, {each.key for each in wanted}
    return ServerChanges(
        added=[each for each in wanted if each.key not in keys],
        weighted=[each for each in wanted - present if each.key in keys],
        removed=[each for each in present if each.key not in wanted_keys],
    )


@dataclass(frozen=True, slots=True)
class ServedCluster:
    """What the other controller reads of a cluster, as the API server shows it."""

    nodes: Sequence[Json]
    slices: Sequence[Json]
    enis: Mapping[str, str]
    """Address → identity of the ENI that has it."""


@dataclass(frozen=True, slots=True)
class ServedService:
    """A Service with the nodes and endpoints of its cluster."""

    service: Json
    cluster: ServedCluster

    @property
    def name(self) -> str:
        """Its name, without the Namespace."""
        return str(self.service["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its Namespace."""
        return str(self.service["metadata"]["namespace"])

    @property
    def ports(self) -> list[Json]:
        """Its ports."""
        return list(self.service["spec"]["ports"])

    def annotations(self) -> dict[str, str]:
        """Its annotations of load balancers, without prefix."""
        given: dict[str, str] = self.service["metadata"].get("annotations", {})
        return {
            key.removeprefix(prefix): text
            for prefix in (LEGACY_PREFIX, PREFIX)
            for key, text in given.items()
            if key.startswith(prefix)
        }

    @property
    def by_pods(self) -> bool:
        """Whether its servers are pods."""
        return bool(self.service["metadata"].get("annotations", {}).get(BACKEND_TYPE) == "eni")

    def servers(self, port: Json) -> set[PresentServer]:
        """The servers of a port."""
        by_address = self.annotations().get("server-group-type") == "Ip"
        if self.by_pods:
            return {
                PresentServer(address if by_address else self.cluster.enis[address], kind, address, number, WEIGHT)
                for address, _, number in self._endpoints(port)
                for kind in ("ip" if by_address else "eni",)
            }
        pods = Counter(node for _, node, _ in self._endpoints(port))
        is_local = self.service["spec"].get("externalTrafficPolicy") == "Local"
        return {
            PresentServer(_instance(node), "ecs", "", port["nodePort"], pods[name] if is_local else WEIGHT)
            for node in self.cluster.nodes
            for name in (node["metadata"]["name"],)
            if pods[name] or not is_local
        }

    def _endpoints(self, port: Json) -> Iterator[tuple[str, str, int]]:
        """Address, node and port of the endpoints of a port that are ready."""
        for each in self.cluster.slices:
            is_own = each["metadata"]["labels"].get("kubernetes.io/service-name") == self.name
            numbers = [one["port"] for one in each.get("ports") or () if one.get("name", "") == port.get("name", "")]
            if is_own and each["addressType"] == "IPv4" and numbers:
                for endpoint in each.get("endpoints") or ():
                    if endpoint.get("conditions", {}).get("ready") is not False:
                        yield endpoint["addresses"][0], endpoint.get("nodeName", ""), numbers[0]


def _instance(node: Json) -> str:
    """The instance of a node, whose provider ID is region and instance."""
    return str(node["spec"]["providerID"]).rpartition(".")[2]

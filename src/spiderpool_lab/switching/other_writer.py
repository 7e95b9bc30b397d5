"""How the stand-in for the other controller (`other_controller`) names, tags and calls.

As cloud-controller-manager 2.14 does, written here a second time: nothing of spiderpool-cloud's own code is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from spiderpool.errors import BadConfig
from spiderpool_lab.switching.endpoints import PresentServer, ServedService
from spiderpool_lab.switching.services import Json

NAME_TAG, CLUSTER_TAG, REUSE_TAG = "kubernetes.do.not.delete", "ack.aliyun.com", "kubernetes.reused.by.user"
IDENTITY_LABEL, HASH_LABEL = "service.k8s.alibaba/loadbalancer-id", "service.beta.kubernetes.io/hash"
KEPT_REASON = "managed.by.ack"


class CloudCall(Protocol):
    """Carries out an action of the cloud's API: product, name, parameters."""

    def __call__(self, product: str, action: str, **parameters: str) -> Json:
        """Returns the answer. Raises BadConfig if the cloud refuses."""


@dataclass(frozen=True, slots=True)
class ServiceMarks:
    """What the controller writes on a Service."""

    finalizer: str
    identity: str
    digest: str
    ingress: Mapping[str, str]

    @property
    def metadata(self) -> Json:
        """As a patch of the Service."""
        labels = {IDENTITY_LABEL: self.identity, HASH_LABEL: self.digest}
        return {"metadata": {"finalizers": [self.finalizer], "labels": labels}}

    @property
    def status(self) -> Json:
        """As a patch of its status."""
        return {"status": {"loadBalancer": {"ingress": [dict(self.ingress)]}}}

    def missing(self, service: Json) -> list[str]:
        """What of it a Service does not have, in sentences."""
        metadata, listed = service["metadata"], service["status"].get("loadBalancer", {}).get("ingress", [])
        labels, name = metadata.get("labels", {}), metadata["name"]
        found = {
            "finalizers": metadata.get("finalizers"),
            "identity": labels.get(IDENTITY_LABEL),
            "hash": labels.get(HASH_LABEL),
            "addresses": [{key: text for key, text in each.items() if key in ("ip", "hostname")} for each in listed],
        }
        wanted = {
            "finalizers": [self.finalizer],
            "identity": self.identity,
            "hash": self.digest,
            "addresses": [dict(self.ingress)],
        }
        return [f"{name}: {key} {found[key]}, not {wanted[key]}" for key in wanted if found[key] != wanted[key]]


@dataclass(slots=True)
class CloudWriter:
    """The calls of the controller: it reads, and changes for a Service what it notes in ``changes``."""

    call: CloudCall
    cluster: str
    vpc: str
    changes: list[str] = field(default_factory=list)

    def change(self, service: ServedService, product: str, action: str, **parameters: str) -> Json:
        """Change something."""
        self.changes.append(f"{service.name}: {action}")
        return self.call(product, action, **parameters)

    def compare(
        self, service: ServedService, what: str, wanted: Mapping[str, str], described: Mapping[str, Any]
    ) -> None:
        """Note which parameters that a Service asks for differ; answers have numbers and truth values, too."""
        for parameter, text in wanted.items():
            if _spelt(described.get(parameter)) != text:
                self.changes.append(f"{service.name}: {what}: {parameter} {described.get(parameter)} to {text}")

    def tags(self, service: ServedService) -> dict[str, str]:
        """The tags of a Service's balancer, as parameters."""
        pairs = {NAME_TAG: balancer_name(service), CLUSTER_TAG: self.cluster}
        return tag_parameters(pairs)

    def part(self, service: ServedService, separator: str, *first: int | str) -> str:
        """The name of a listener or a group, as which it is looked up."""
        return separator.join(("k8s", *map(str, first), service.name, service.namespace, self.cluster))

    def is_part(self, service: ServedService, separator: str, name: str) -> bool:
        """Whether a name is that of a part of the Service."""
        owner = separator.join(("", service.name, service.namespace, self.cluster))
        return name.startswith(f"k8s{separator}") and name.endswith(owner)


def _spelt(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def balancer_name(service: ServedService) -> str:
    """The default name of a balancer, which is its tag as well."""
    return f"a{service.service['metadata']['uid']}".replace("-", "")[:32]


def tag_parameters(pairs: Mapping[str, str]) -> dict[str, str]:
    """Tags as parameters of a call."""
    numbered = enumerate(pairs.items(), 1)
    return {
        f"Tag.{number}.{part}": text
        for number, pair in numbered
        for part, text in zip(("Key", "Value"), pair, strict=True)
    }


def digest_of(service: ServedService) -> str:
    """What the controller remembers of the form of a Service that it has applied last."""
    metadata = service.service["metadata"]
    form = [service.service["spec"], metadata.get("annotations", {})]
    return hashlib.sha224(json.dumps(form, sort_keys=True).encode()).hexdigest()


def protocols(service: ServedService) -> dict[tuple[int, str], str]:
    """The protocol of each port's listener, by number and transport."""
    parts = (part.partition(":") for part in service.annotations().get("protocol-port", "").split(",") if part)
    named = {(int(number), "UDP" if protocol == "udp" else "TCP"): protocol for protocol, _, number in parts}
    keys = ((port["port"], port["protocol"]) for port in service.ports)
    return {key: named.get(key, key[1].lower()) for key in keys}


def known(service: ServedService, *tables: Iterable[str]) -> dict[str, str]:
    """The annotations of a Service. Raises BadConfig for one that the stand-in does not know."""
    annotations = service.annotations()
    if unknown := annotations.keys() - {suffix for table in tables for suffix in table}:
        raise BadConfig(f"the stand-in for the other controller does not know {', '.join(sorted(unknown))}")
    return annotations


def described_server(described: Mapping[str, Any], kind: str) -> PresentServer:
    """A server as the cloud describes it; an instance has no address of its own."""
    address = "" if kind == "ecs" else str(described["ServerIp"])
    return PresentServer(described["ServerId"], kind, address, int(described["Port"]), int(described["Weight"]))

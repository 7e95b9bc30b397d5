"""How a balancer and its parts are named, tagged and recognised as ours.

Names, tags and descriptions are those of Alibaba Cloud's own cloud controller manager, so that the balancers it made
are taken over.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, MadeBalancer, ObservedLoadBalancer, Settings

NAME_TAG = "kubernetes.do.not.delete"
CLUSTER_TAG = "ack.aliyun.com"
REUSE_TAG = "kubernetes.reused.by.user"
ORIGIN_TAG = "spiderpool.made-for"
"""Cluster and Namespace of the Service; it stays on a balancer that outlives its Service, and says so then."""
PRESERVED = "preserved"
"""End of that tag's value on a balancer that has outlived its Service."""
OUR_TAGS = frozenset({NAME_TAG, CLUSTER_TAG, REUSE_TAG, ORIGIN_TAG})
"""Tags that decide what is ours, so that no Service may set them."""
RECORD_TAG = "spiderpool.tags."
"""Begins the tags by which one Service's further tags are known: all others on a balancer are somebody else's."""
DIGEST = 20
"""Characters of four bits that stand for a key in a record: who finds another key with the same ones can take it."""
KEYS_OF_RECORD = 6
"""Keys in one record, since the value of a tag has room for 128 characters."""
READINESS_GATE_PREFIX = "service.readiness.alibabacloud.com/"
"""Begins the conditions of pods that are set when they are servers; the name of the Service follows."""
INJECTION_LABEL, INJECTED = "k8s.alibabacloud.com/pod-readiness-gate-inject", "enabled"
"""Label of a Namespace whose new pods get the gates of the Services that select them, and its value."""
IDENTITY_LABEL = "service.k8s.alibaba/loadbalancer-id"
OTHER_IDENTITY_LABEL = "cloud.spidernet.io/other-loadbalancer-id"
"""Label of a Service that has balancers of two kinds: the identity of the one that clients do not use any more."""
SUCCESSOR_LABEL = "cloud.spidernet.io/successor-loadbalancer-id"
"""Label of a Service that has balancers of two kinds: the identity of the one that clients do not use yet."""
OTHER_LEASE_NAMESPACE, OTHER_LEASE = "kube-system", "ccm"
"""The Lease by which Alibaba Cloud's own cloud controller manager elects a leader."""
OTHER_LABEL = "service.beta.kubernetes.io/hash"
"""Label by which it knows which form of a Service it has applied."""

MAX_GROUP_NAME = 128
"""Characters of a server group's name."""
MAX_DESCRIPTION = 80
"""Characters of a server's description."""
MAX_BALANCER_NAME = 32
"""Characters of a balancer's name."""
OWNER_PARTS = 3
"""Service, namespace and cluster, at the end of each name."""


def balancer_name(owner: BalancerOwner) -> str:
    """Returns the name of a balancer of our own, also the value of its tag: ``a`` and the Service's UID."""
    return ("a" + owner.uid.replace("-", ""))[:MAX_BALANCER_NAME]


def own_tags(owner: BalancerOwner) -> Settings:
    """Returns the tags that mark a balancer as made for this Service."""
    return {NAME_TAG: balancer_name(owner), CLUSTER_TAG: owner.cluster}


def name_tag(owner: BalancerOwner) -> Settings:
    """Returns the one of these tags by which a balancer is searched.

    Old balancers of Alibaba Cloud's own controller lack the other one. And several tags may be searched for as if by
    "or", which finds all balancers of the cluster.
    """
    return {NAME_TAG: balancer_name(owner)}


def is_made_for_another(tags: Settings, owner: BalancerOwner) -> bool:
    """Whether tags say that a balancer was made for another Service, which may have given it this one's name."""
    origin = f"{owner.cluster}/{owner.namespace}"
    return tags.get(NAME_TAG, balancer_name(owner)) != balancer_name(owner) or tags.get(ORIGIN_TAG, origin) != origin


def source_description(owner: BalancerOwner) -> str:
    """Returns the description of what admits clients to a Service's balancer: of a list, its entries or rules."""
    return f"k8s.{owner.namespace}.{owner.service}.{owner.cluster}"


@dataclass(frozen=True, slots=True)
class Naming:
    """The names of one kind of balancer: ``k8s``, port, protocol if it is named, Service, namespace and cluster."""

    finalizer: str
    separator: str
    names_protocol: bool
    """Whether names of listeners and groups contain the protocol."""
    identity_label: str = IDENTITY_LABEL
    other_identity_label: str = OTHER_IDENTITY_LABEL
    successor_label: str = SUCCESSOR_LABEL
    reuse_tag: str = REUSE_TAG
    cluster_tag: str = CLUSTER_TAG
    our_tags: frozenset[str] = OUR_TAGS

    def balancer_name(self, owner: BalancerOwner) -> str:
        """Returns the name of a balancer of our own."""
        return balancer_name(owner)

    def own_tags(self, owner: BalancerOwner) -> Settings:
        """Returns the tags that mark a balancer as made for this Service."""
        return own_tags(owner)

    def origin_tags(self, owner: BalancerOwner) -> Settings:
        """Returns the tag that says for the Services of which Namespace a balancer was made."""
        return {ORIGIN_TAG: f"{owner.cluster}/{owner.namespace}"}

    def recorded(self, tags: Settings, owner: BalancerOwner) -> Settings:
        """Returns further tags of a Service with those that record their keys; none for none."""
        allowed = {key: value for key, value in tags.items() if not self._is_ours(key)}
        digests = sorted(_short_digest(key) for key in allowed)
        parts = [digests[start : start + KEYS_OF_RECORD] for start in range(0, len(digests), KEYS_OF_RECORD)]
        return {**allowed, **{_record_key(owner, place): ".".join(part) for place, part in enumerate(parts)}}

    def recorded_keys(self, tags: Settings, owner: BalancerOwner) -> frozenset[str]:
        """Returns which of a balancer's tags the Service has given it, the records included."""
        records = {key for key in tags if key.startswith(_record_key(owner, 0))}
        listed = {digest for record in records for digest in tags[record].split(".")}
        return frozenset(records | {key for key in tags if _short_digest(key) in listed and not self._is_ours(key)})

    def _is_ours(self, key: str) -> bool:
        return key in self.our_tags or key.startswith(RECORD_TAG)

    def preserved_tags(self, owner: BalancerOwner) -> Settings:
        """Returns the tag of a balancer that has outlived its Service."""
        return {ORIGIN_TAG: f"{owner.cluster}/{owner.namespace}/{PRESERVED}"}

    def is_preserved(self, observed: ObservedLoadBalancer, owner: BalancerOwner) -> bool:
        """Whether the balancer has outlived a Service of this Namespace, and is not lent to any."""
        is_marked = self.preserved_tags(owner).items() <= observed.tags.items()
        return is_marked and observed.tags.keys().isdisjoint({NAME_TAG, CLUSTER_TAG, self.reuse_tag})

    def made(self, kind: str, identity: str, tags: Settings, cluster: str) -> MadeBalancer | None:
        """Returns the balancer if it was made for a Service of the cluster; None otherwise.

        Without our other tags, which people take away to use the balancer themselves, it counts only as preserved.
        """
        namespace, _, end = _origin(tags, cluster).partition("/")
        if tags.get(CLUSTER_TAG) != cluster and end != PRESERVED:
            return None
        return MadeBalancer(identity, kind, tags.get(NAME_TAG, ""), namespace)

    def part_name(self, port: int | str, protocol: str, owner: BalancerOwner) -> str:
        """Returns the description of a listener."""
        return self._name(port, protocol.upper(), owner)

    def group_name(self, port: int | str, protocol: str, owner: BalancerOwner) -> str:
        """Returns the name of a server group; one that is too long for the cloud gets a digest of the owner's names."""
        name = self._name(port, protocol, owner)
        return name if len(name) <= MAX_GROUP_NAME else self._name(port, protocol, _digested(owner))

    def server_description(self, port: int | str, protocol: str, owner: BalancerOwner) -> str:
        """Returns the description of a Service's server in a user's group, short enough not to be cut."""
        name = self.part_name(port, protocol, owner)
        return name if len(name) <= MAX_DESCRIPTION else self.part_name(port, protocol, _digested(owner))

    def readiness_gate(self, service: str) -> str:
        """Returns the condition of pods that is set when they are servers of the balancer of a Service of this name."""
        return f"{READINESS_GATE_PREFIX}{service}"

    def is_own(self, observed: ObservedLoadBalancer, owner: BalancerOwner) -> bool:
        """Whether both tags say that the balancer was made for this Service."""
        return own_tags(owner).items() <= observed.tags.items()

    def is_named_after(self, observed: ObservedLoadBalancer, owner: BalancerOwner) -> bool:
        """Whether the balancer's name, or the tag with it, is that of this Service's balancer, which has its UID."""
        return balancer_name(owner) in (observed.name, observed.tags.get(NAME_TAG))

    def other_cluster(self, observed: ObservedLoadBalancer, owner: BalancerOwner) -> str:
        """Returns the cluster for whose Service such a balancer was made, where it is not the owner's."""
        cluster = observed.tags.get(CLUSTER_TAG, "") if self.is_named_after(observed, owner) else ""
        return "" if cluster == owner.cluster else cluster

    def is_made_by_controller(self, observed: ObservedLoadBalancer) -> bool:
        """Whether the balancer was made for some Service, so that no other may reuse it."""
        return NAME_TAG in observed.tags or CLUSTER_TAG in observed.tags

    def is_part_of(self, name: str, owner: BalancerOwner) -> bool:
        """Whether a description or name says that the part belongs to this Service."""
        separator = self.separator
        if not name.startswith(f"k8s{separator}"):
            return False
        return any(
            name.endswith(separator + separator.join((each.service, each.namespace, each.cluster)))
            and name.count(separator) == self._separators(each)
            for each in (owner, _digested(owner))
        )

    def is_part_of_any(self, name: str, cluster: str) -> bool:
        """Whether a description or name says that the part belongs to some Service of this cluster."""
        return name.startswith(f"k8s{self.separator}") and name.endswith(self.separator + cluster)

    def _name(self, port: int | str, protocol: str, owner: BalancerOwner) -> str:
        first = (str(port), protocol) if self.names_protocol else (str(port),)
        return self.separator.join(("k8s", *first, owner.service, owner.namespace, owner.cluster))

    def _separators(self, owner: BalancerOwner) -> int:
        """Returns how many separators the names of the owner's parts have; its own names may have some, too."""
        first = 2 if self.names_protocol else 1
        return first + OWNER_PARTS + owner.cluster.count(self.separator) + owner.service.count(self.separator)


def _origin(tags: Settings, cluster: str) -> str:
    """Returns what the tag of the origin says behind the cluster; empty when it is another's, or there is none."""
    text = tags.get(ORIGIN_TAG, "")
    return text.removeprefix(f"{cluster}/") if text.startswith(f"{cluster}/") else ""


def _record_key(owner: BalancerOwner, place: int) -> str:
    """Returns the key of the first record of a Service, with which those of its further ones begin."""
    first = RECORD_TAG + _short_digest(f"{owner.cluster}/{owner.namespace}/{owner.service}")
    return f"{first}.{place}" if place else first


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]


def _digested(owner: BalancerOwner) -> BalancerOwner:
    digest = hashlib.sha256(f"{owner.namespace}/{owner.service}".encode()).hexdigest()[:16]
    return BalancerOwner("-", digest, owner.uid, owner.cluster)

"""How a balancer and its parts are named, tagged and recognised as ours.

Names, tags and descriptions are those of Alibaba Cloud's own controller, so balancers that it made are taken over.
"""

from __future__ import annotations

import hashlib

from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, Kind, ObservedLoadBalancer, Settings

NAME_TAG = "kubernetes.do.not.delete"
CLUSTER_TAG = "ack.aliyun.com"
LENT_TAG = "kubernetes.reused.by.user"

FINALIZERS: dict[Kind, str] = {"clb": "service.k8s.alibaba/resources", "nlb": "service.k8s.alibaba/nlb"}
IDENTITY_LABEL = "service.k8s.alibaba/loadbalancer-id"
"""Label of a Service: the balancer that it was given."""

LONGEST_GROUP = 128
"""Characters of a server group's name."""
LONGEST_BALANCER = 32

SEPARATORS: dict[Kind, str] = {"clb": "/", "nlb": "."}


def balancer_name(owner: BalancerOwner) -> str:
    """Name of a balancer of our own, and value of its tag: ``a`` and the Service's UID."""
    return ("a" + owner.uid.replace("-", ""))[:LONGEST_BALANCER]


def own_tags(owner: BalancerOwner) -> Settings:
    """Tags that make a balancer ours."""
    return {NAME_TAG: balancer_name(owner), CLUSTER_TAG: owner.cluster}


def is_own(seen: ObservedLoadBalancer, owner: BalancerOwner) -> bool:
    """Whether both tags say that we made a balancer for this Service."""
    return own_tags(owner).items() <= seen.tags.items()


def is_made_by_controller(seen: ObservedLoadBalancer) -> bool:
    """Whether a balancer was made for some Service, so that no other may borrow it."""
    return NAME_TAG in seen.tags or CLUSTER_TAG in seen.tags


def part_name(kind: Kind, port: int | str, protocol: str, owner: BalancerOwner) -> str:
    """Description of a listener, or name of a server group. Only a network balancer's says the protocol."""
    first = (str(port), protocol) if kind == "nlb" else (str(port),)
    return SEPARATORS[kind].join(("k8s", *first, owner.service, owner.namespace, owner.cluster))


def group_name(kind: Kind, port: int | str, protocol: str, owner: BalancerOwner) -> str:
    """Name of a server group; where names are too long for the cloud, with a digest of them."""
    name = part_name(kind, port, protocol, owner)
    return name if len(name) <= LONGEST_GROUP else part_name(kind, port, protocol, _digested(owner))


def is_part_of(kind: Kind, name: str, owner: BalancerOwner) -> bool:
    """Whether a description or name says that the part belongs to this Service."""
    separator = SEPARATORS[kind]
    if not name.startswith(f"k8s{separator}"):
        return False
    return any(
        name.endswith(separator + separator.join((each.service, each.namespace, each.cluster)))
        and name.count(separator) == _separators(kind, each)
        for each in (owner, _digested(owner))
    )


def is_part_of_any(kind: Kind, name: str, cluster: str) -> bool:
    """Whether a name says that the part belongs to some Service of this cluster."""
    separator = SEPARATORS[kind]
    return name.startswith(f"k8s{separator}") and name.endswith(separator + cluster)


def _digested(owner: BalancerOwner) -> BalancerOwner:
    digest = hashlib.sha256(f"{owner.namespace}/{owner.service}".encode()).hexdigest()[:16]
    return BalancerOwner("-", digest, owner.uid, owner.cluster)


def _separators(kind: Kind, owner: BalancerOwner) -> int:
    first = 2 if kind == "nlb" else 1
    return first + 3 + owner.cluster.count(SEPARATORS[kind]) + owner.service.count(SEPARATORS[kind])

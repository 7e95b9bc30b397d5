"""The reasons of the Events that the daemons emit: each once, with the kinds of objects that it is about.

An Event is recorded by one of these (``kube/events.py``). What a reason is about is its type parameter, so that mypy
refuses an Event on an object of another kind. docs/reference/events.md is made from this list by
``scripts/generate_events.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from spiderpool.api.applications import Workload
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Node, Pod, Service
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.meta import Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.networking_v1 import NetworkPolicy
from spiderpool.api.subnet import SpiderSubnet

K = TypeVar("K", bound=Object, contravariant=True)
NOTHING = "Nothing."
"""The remedy where there is nothing to do."""


@dataclass(frozen=True, slots=True)
class EventReason(Generic[K]):
    """What Events of one reason say, about objects of kinds ``K``. Texts are Markdown."""

    name: str
    """The Event's ``reason``."""
    meaning: str
    remedy: str
    """What the reader of such an Event does."""
    page: str
    """The page below docs/ that says more, with its heading."""
    type: Literal["Normal", "Warning"] = "Warning"


# --- addresses of pods

ADDRESS_REFUSED: EventReason[Pod] = EventReason(
    "AddressRefused",
    "The pod gets no address. The message says of each pool that was considered why it gives none.",
    "`spiderpoolctl explain pod NAMESPACE/NAME` names what to change; the pod gets its address at the next attempt.",
    "usage/pod-without-address.md",
)
TOO_MANY_POOL_LISTS: EventReason[Pod] = EventReason(
    "TooManyPoolLists",
    "Nodes do not advertise the free addresses of what the pod names: its Namespace names too many different networks"
    " and lists of pools. The pod may wait for a node.",
    "Let the Namespace's pods name fewer different networks and lists of pools.",
    "usage/scheduling.md",
)
ANNOTATION_IGNORED: EventReason[Pod] = EventReason(
    "AnnotationIgnored",
    "An annotation has no effect: it is misspelt, is about another interface, or is not supported.",
    "Correct or remove the annotation that the message names.",
    "usage/addresses.md",
)
COOLDOWN_IGNORED: EventReason[Pod] = EventReason(
    "CooldownIgnored",
    "The pod has got an address before the pool's `cooldownSeconds` were over: nothing else was free.",
    "Give the pool more addresses, or a shorter cooldown.",
    "usage/addresses.md",
)
ADDRESS_IN_CONFLICT: EventReason[Pod] = EventReason(
    "AddressInConflict",
    "A machine that is no pod answers for the address that the pod was to have.",
    "Find the machine by the MAC address in the message, or reserve the address with a SpiderReservedIP.",
    "runbooks/SpiderpoolAddressConflict.md",
)
HOST_PORT_UNAVAILABLE: EventReason[Pod] = EventReason(
    "HostPortUnavailable",
    "A `hostPort` of the pod leads nowhere; the message says why.",
    "Enable the coordinator for the pod's first network, or correct `hostIP`; then restart the pod.",
    "usage/troubleshooting.md",
)
SPIDERIP_RESTORED: EventReason[Pod | SpiderIP] = EventReason(
    "SpiderIPRestored",
    "Somebody deleted the SpiderIP of an address that is in use, and the node's agent has made it again.",
    "To release an address, delete its pod, or use `spiderpoolctl ip release`.",
    "runbooks/SpiderpoolRecordRestored.md",
)
ADDRESS_IN_USE_TWICE: EventReason[Pod | SpiderIP] = EventReason(
    "AddressInUseTwice",
    "Two pods have the same address, since its SpiderIP was deleted while the first one had it.",
    "Delete one of the two pods that the message names.",
    "runbooks/SpiderpoolAddressDuplicate.md",
)
COLLECTED: EventReason[SpiderIP] = EventReason(
    "Collected",
    "The address was released without its pod asking; the message has the evidence.",
    NOTHING,
    "reference/collection.md",
    type="Normal",
)

# --- nodes

NODE_NETWORK_FAULT: EventReason[Node] = EventReason(
    "NodeNetworkFault",
    "A setting of the node's network keeps its NICs or pods from answering, or its NICs cannot be tuned. While that"
    " lasts it is told again every half hour.",
    "Change what the message names.",
    "usage/troubleshooting.md",
)
NODE_ROUTES_RESTORED: EventReason[Node] = EventReason(
    "NodeRoutesRestored",
    "Rules or routes to pods were missing, and have been made again.",
    "Tell the server's own programs to leave them alone.",
    "usage/server-software.md",
)
POD_ADDRESS_ON_NODE: EventReason[Node] = EventReason(
    "PodAddressOnNode",
    "A NIC of the node has an address that a pool gives to pods, or that a pod has. While that lasts it is told again"
    " every half hour.",
    "Remove it from the NIC, unless you reach the server by it; then take it out of the pool.",
    "usage/server-software.md",
)
ACCOUNT_MISSING: EventReason[Node] = EventReason(
    "AccountMissing",
    "Addresses wait for the node's agent to say what its sandboxes hold. While they do, it is told again every half"
    " hour.",
    "See why the agent's pod there does not answer; if the node is lost, say so.",
    "usage/lost-nodes.md",
)

# --- ENIs, and the pools and networks that are made for them

CARDS_NOT_READABLE: EventReason[Node] = EventReason(
    "CardsNotReadable",
    "The node's SpiderServer contradicts itself and is not used: pools stay as they are.",
    "See what else writes that SpiderServer, and what the server's metadata service answers.",
    "usage/discovery.md",
)
ENI_REPORTED_TWICE: EventReason[Node] = EventReason(
    "ENIReportedTwice",
    "Several nodes report the same ENI, which gets no pool.",
    "Find out which server has the ENI; delete the Node or SpiderServer that is wrong.",
    "usage/discovery.md",
)
ADDRESS_REPORTED_TWICE: EventReason[Node] = EventReason(
    "AddressReportedTwice",
    "Another node reports addresses of one of this node's ENIs; they come to no pool.",
    "Find out which server has them; delete the Node or SpiderServer that is wrong.",
    "usage/discovery.md",
)
NO_POOL_FOR_CARD: EventReason[Node] = EventReason(
    "NoPoolForCard",
    "An ENI of the node gets no pool, as when another pool has its name.",
    "Do what the message says.",
    "usage/discovery.md",
)
NO_NETWORK_FOR_CARD: EventReason[SpiderIPPool] = EventReason(
    "NoNetworkForCard",
    "The pool's ENI gets no network: its node has reported too many names of NICs.",
    "Delete the networks that no pod needs.",
    "usage/discovery.md",
)
CANNOT_FOLLOW_CARD: EventReason[SpiderIPPool] = EventReason(
    "CannotFollowCard",
    "The pool cannot be changed to what its ENI has: admission refuses it.",
    "Correct the pool, or delete it: another is made.",
    "usage/discovery.md",
)
OTHER_SUBNET: EventReason[SpiderIPPool] = EventReason(
    "OtherSubnet",
    "The pool's ENI is in another subnet than the pool.",
    "Delete the pool: another is made.",
    "usage/discovery.md",
)
OTHER_CARD: EventReason[SpiderMultusConfig] = EventReason(
    "OtherCard",
    "The network has the name of an ENI's own one, and does not serve that ENI.",
    "Rename it, or make the ENI its master.",
    "usage/discovery.md",
)
ADDRESS_NOT_REGISTERED: EventReason[SpiderIPPool | Pod] = EventReason(
    "AddressNotRegistered",
    "A pod has an address that its ENI has no longer; the cloud drops its frames.",
    "Register the address on the ENI again, or delete the pod.",
    "runbooks/SpiderpoolAddressesUnregistered.md",
)
ADDRESS_REGISTERED: EventReason[SpiderIPPool | Pod] = EventReason(
    "AddressRegistered",
    "The address of a pod, which was not registered, is registered on its ENI again.",
    NOTHING,
    "usage/discovery.md",
    type="Normal",
)

# --- objects of our kinds

TERMINATING: EventReason[SpiderIPPool | SpiderSubnet] = EventReason(
    "Terminating",
    "The pool or subnet is being deleted while it is in use; the message says by what.",
    "It goes by itself once these pods or pools have gone.",
    "reference/conditions.md",
    type="Normal",
)
BAD_NETWORK: EventReason[SpiderMultusConfig] = EventReason(
    "BadNetwork",
    "There can be no NetworkAttachmentDefinition for the network.",
    "Correct the field that the message names.",
    "reference/conditions.md",
)
NAME_TAKEN: EventReason[SpiderMultusConfig] = EventReason(
    "NameTaken",
    "The NetworkAttachmentDefinition of that name belongs to another SpiderMultusConfig.",
    "Rename one of the two, or delete it.",
    "reference/conditions.md",
)
CLUSTER_NOT_READY: EventReason[SpiderCoordinator] = EventReason(
    "ClusterNotReady",
    "The CIDRs of the cluster are not known, so pods wait.",
    "Do what the message says, or set `podCIDRType: none` and list them in `hijackCIDR`.",
    "usage/install.md#what-it-needs",
)
ADDRESS_NOT_ROUTED: EventReason[SpiderCoordinator | Service] = EventReason(
    "AddressNotRouted",
    "Pods do not reach an address of a Service through their node; the message says why.",
    "Give the Service another address.",
    "reference/data-path.md",
)
NOT_ENFORCED: EventReason[NetworkPolicy] = EventReason(
    "NotEnforced",
    "The policy selects pods with addresses of ours, and nobody enforces it for them.",
    "Chain a plugin that enforces policies, or separate these pods in another way.",
    "reference/support.md#networkpolicy",
)

# --- pools of applications, quotas

BAD_SUBNET_ANNOTATION: EventReason[Workload | Pod] = EventReason(
    "BadSubnetAnnotation",
    "The annotation by which the application asks for a pool is invalid.",
    "Write what the message says.",
    "usage/subnet.md",
)
NO_SUBNET: EventReason[Workload | Pod] = EventReason(
    "NoSubnet",
    "The SpiderSubnet that the application names does not exist, is being deleted, or has the other family.",
    "Make the subnet, or name another.",
    "usage/subnet.md",
)
SUBNET_EXHAUSTED: EventReason[Workload | Pod] = EventReason(
    "SubnetExhausted",
    "The application's pool is smaller than it asks for: the SpiderSubnet has no more addresses.",
    "Add addresses to the subnet.",
    "usage/subnet.md",
)
QUOTA_EXHAUSTED: EventReason[Workload | Pod | SpiderIPQuota] = EventReason(
    "QuotaExhausted",
    "The Namespace holds as many addresses as its SpiderIPQuota allows.",
    "Raise the quota, or end pods of the Namespace.",
    "usage/quotas.md",
)
APPLICATION_SUBNET_CHANGED: EventReason[SpiderIPPool] = EventReason(
    "ApplicationSubnetChanged",
    "The pool is deleted: its application no longer asks for it.",
    NOTHING,
    "usage/subnet.md",
)
APPLICATION_UNKNOWN: EventReason[SpiderIPPool] = EventReason(
    "ApplicationUnknown",
    "The controller may not read the pool's application, so the pool stays.",
    "Let it get objects of that kind, or delete the pool by hand when the application is gone.",
    "usage/subnet.md",
)

# --- the cloud

CLOUD_PERMISSION_MISSING: EventReason[Node] = EventReason(
    "CloudPermissionMissing",
    "The cloud does not permit an action, which the message names.",
    "Add it to the RAM policy; it is tried again within five minutes.",
    "usage/cloud.md",
)
PROVIDER_ID_MISMATCH: EventReason[Node] = EventReason(
    "ProviderIDMismatch",
    "The Node names another server than its agent reports.",
    "Delete the Node to register it anew.",
    "usage/cloud.md",
)
SERVER_NOT_CONFIRMED: EventReason[Node] = EventReason(
    "ServerNotConfirmed",
    "The cloud does not confirm the server that the node's agent reports, so the Node gets no provider ID.",
    "Find out who writes the SpiderServer; it is asked again.",
    "usage/cloud.md",
)
SERVER_STOPPED: EventReason[Node] = EventReason(
    "ServerStopped",
    "The node's server is stopped: addresses that no pod holds there are free.",
    NOTHING,
    "usage/lost-nodes.md",
    type="Normal",
)
SERVER_GONE: EventReason[Node] = EventReason(
    "ServerGone",
    "The node's server no longer exists, and the Node was deleted.",
    NOTHING,
    "usage/lost-nodes.md",
    type="Normal",
)
VSWITCH_FULL: EventReason[Node] = EventReason(
    "VSwitchFull",
    "The vSwitch of an ENI has no free address; it is not asked again for five minutes.",
    "Free addresses in the vSwitch, or give the server an ENI in another one.",
    "runbooks/SpiderpoolVSwitchNearlyFull.md",
)
ADDRESSES_NOT_REGISTERED: EventReason[Node] = EventReason(
    "AddressesNotRegistered",
    "The cloud refuses to register addresses, in the words of the message.",
    "Do what the cloud says.",
    "usage/cloud.md",
)
AGENT_POOLS_NOT_OBSERVED: EventReason[Node] = EventReason(
    "AgentPoolsNotObserved",
    "Spare addresses stay registered, since the node's agent has not said for five minutes that it knows its pools."
    " While they do, it is told again every half hour.",
    "Restart the node's agent, or update it.",
    "usage/cloud.md",
)

# --- load balancers

_EVENTS = "usage/load-balancers.md#events"

ENSURED_LOAD_BALANCER: EventReason[Service] = EventReason(
    "EnsuredLoadBalancer", "The Service has its load balancer.", NOTHING, _EVENTS, type="Normal"
)
DELETED_LOAD_BALANCER: EventReason[Service] = EventReason(
    "DeletedLoadBalancer", "The Service's load balancer was deleted.", NOTHING, _EVENTS, type="Normal"
)
PRESERVED_LOAD_BALANCER: EventReason[Service] = EventReason(
    "PreservedLoadBalancer",
    "The Service no longer has its load balancer, which stays, as `preserve-lb-on-delete` asks.",
    NOTHING,
    _EVENTS,
    type="Normal",
)
RETURNED_LOAD_BALANCER: EventReason[Service] = EventReason(
    "ReturnedLoadBalancer",
    "The Service no longer uses a load balancer that is not ours, and stays.",
    NOTHING,
    _EVENTS,
    type="Normal",
)
EXCHANGING_LOAD_BALANCER: EventReason[Service] = EventReason(
    "ExchangingLoadBalancer",
    "The Service gets a load balancer of another kind. The former one serves until the new one is well.",
    NOTHING,
    _EVENTS,
    type="Normal",
)
OTHER_CONTROLLER_RUNS: EventReason[Service] = EventReason(
    "OtherControllerRuns",
    "The cloud's own controller runs in the cluster as well. It may serve the same Services.",
    "See that its controllers of Services are switched off; then there is nothing to do.",
    "usage/switch-from-ccm.md#both-at-once",
)
LOAD_BALANCER_KEPT: EventReason[Service] = EventReason(
    "LoadBalancerKept",
    "The Service has a load balancer that its class or its annotation `type` no longer asks for. It stays, with its"
    " servers up to date.",
    "Do what the message says, or change the class or the annotation back.",
    _EVENTS,
)
SERVICE_ANNOTATION_IGNORED: EventReason[Service] = EventReason(
    "AnnotationIgnored",
    "An annotation has no effect: it is misspelt, is for the other kind of load balancer, or is not supported.",
    "Correct or remove the annotation that the message names.",
    _EVENTS,
)
BACKENDS_NOT_SUPPORTED: EventReason[Service] = EventReason(
    "BackendsNotSupported",
    "A pod runs on a virtual node. It is not made a server of the load balancer; one that is a server stays.",
    "Let the pod run on another node, or make it a server yourself.",
    _EVENTS,
)
INVALID_SERVICE: EventReason[Service] = EventReason(
    "InvalidService",
    "The Service asks for what cannot be. Only the servers of its balancer are kept up to date, and not even these"
    " where the fault is about them: a port that is neither TCP nor UDP, an annotation about servers, an address"
    " family.",
    "Correct what the message names.",
    _EVENTS,
)
NOT_GRANTED: EventReason[Service] = EventReason(
    "NotGranted",
    "The Service asks for what no administrator has granted to its Namespace.",
    "Have an administrator write the grant, or remove the annotation.",
    _EVENTS,
)
USED_WITHOUT_GRANT: EventReason[Service] = EventReason(
    "UsedWithoutGrant",
    "The Service keeps what it uses, although nobody has granted it.",
    "Have an administrator write the grant, or remove the annotation.",
    _EVENTS,
)
TOO_MANY_LOAD_BALANCERS: EventReason[Service] = EventReason(
    "TooManyLoadBalancers",
    "No load balancer is made, since there are as many as may be.",
    "Delete others, or have an administrator raise the limit.",
    _EVENTS,
)
LOAD_BALANCERS_NOT_LISTED: EventReason[Service] = EventReason(
    "LoadBalancersNotListed",
    "The balancer was made, but the cloud does not list those of the other kind, which count as well.",
    "Have an administrator see why; the count may be old.",
    _EVENTS,
)
CANNOT_BE_CHANGED: EventReason[Service] = EventReason(
    "CannotBeChanged",
    "A setting of an existing load balancer cannot be changed.",
    "Create the Service anew, or undo the change.",
    _EVENTS,
)
LOAD_BALANCER_NOT_FOUND: EventReason[Service] = EventReason(
    "LoadBalancerNotFound",
    "Somebody deleted the Service's load balancer. No other is made in its place.",
    "Create the Service anew.",
    _EVENTS,
)
SYNC_LOAD_BALANCER_FAILED: EventReason[Service] = EventReason(
    "SyncLoadBalancerFailed",
    "The cloud or the cluster has refused something; it is tried again, and at once when the Service changes.",
    "Do what the message says.",
    _EVENTS,
)

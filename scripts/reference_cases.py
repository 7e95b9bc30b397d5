"""The cases of docs/reference/load-balancer-cases.md, for which `generate_annotations` writes the tables.

They are those that the end-to-end tests of Alibaba Cloud's own cloud controller manager play, and the states in which
it leaves balancers. Each is shown by a test that names it: `pytest.mark.reference_case`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spiderpool.core.cloud.alibaba.comparison import Verdict


@dataclass(frozen=True, slots=True)
class ReferenceCase:
    """What happens to a Service, or is found at a balancer, and what is done then."""

    name: str
    kinds: str
    """``C``, ``N`` or both: kinds of balancers."""
    verdict: Verdict
    here: str
    """What is done, and what is done there if it is something else."""


BALANCERS: tuple[ReferenceCase, ...] = (
    ReferenceCase(
        "a balancer with the defaults",
        "C N",
        "same",
        "public, named and tagged after its Service, protected, a listener for each port",
    ),
    ReferenceCase(
        "a Service that names no kind",
        "C N",
        "different",
        "keeps what it has; else the kind of `cloud.loadBalancers.defaultType`, there always C",
    ),
    ReferenceCase("a private balancer", "C", "same", "in the vSwitch that is named, else in the cluster's"),
    ReferenceCase(
        "several vSwitches, of which one with free addresses is chosen",
        "C",
        "refused",
        "one vSwitch; several are an Event `InvalidService`",
    ),
    ReferenceCase(
        "a private balancer is to become public, or the other way round",
        "C",
        "same",
        "it stays as it is, with an Event `CannotBeChanged`",
    ),
    ReferenceCase(
        "another vSwitch, zone, address, IP version or resource group is asked for later", "C", "same", "the same Event"
    ),
    ReferenceCase("another size", "C", "same", "changed"),
    ReferenceCase("another bandwidth, or another way of paying for the Internet", "C", "same", "changed"),
    ReferenceCase(
        "payment by use becomes payment by size",
        "C",
        "same",
        "sent to the cloud; if it refuses, an Event says so, and traffic goes on",
    ),
    ReferenceCase(
        "payment by bandwidth without payment by size",
        "C",
        "different",
        "refused before any call; there by the cloud",
    ),
    ReferenceCase(
        "payment by bandwidth for a private balancer",
        "C",
        "different",
        "without effect, with an Event `AnnotationIgnored`; there without a word",
    ),
    ReferenceCase("a lent balancer", "C N", "same", "settings and listeners stay; server groups are made, and filled"),
    ReferenceCase(
        "a lent balancer whose listeners the Service sets",
        "C N",
        "same",
        "those of its ports, and no others; refused where one is another Service's",
    ),
    ReferenceCase("a lent balancer that was made for a Service", "C N", "same", "refused"),
    ReferenceCase("a lent balancer that does not exist", "C N", "same", "waited for, with an Event; none is made"),
    ReferenceCase(
        "a lent balancer in another resource group",
        "C N",
        "different",
        "used, with an Event `CannotBeChanged`; there an error",
    ),
    ReferenceCase(
        "further tags of a lent balancer",
        "C N",
        "different",
        "come and go with the annotation; a tag that it has from others keeps its value",
    ),
    ReferenceCase("an elastic IP as the published address", "C", "same", "published as soon as it is bound"),
    ReferenceCase(
        "further tags are added, changed and taken away", "C N", "same", "so it is; tags of others stay as they are"
    ),
    ReferenceCase("a further tag without a value", "C N", "same", "a tag with an empty value"),
    ReferenceCase(
        "another name, or other protections",
        "C N",
        "different",
        "changed; there N is always protected, and names may be longer",
    ),
    ReferenceCase("a host name is published", "C", "same", "instead of the address"),
    ReferenceCase("annotations with the older prefix", "C N", "same", "read where the newer one is absent"),
    ReferenceCase("its tag is taken away by hand", "C N", "same", "found by its name, and tagged again"),
    ReferenceCase(
        "its tag is taken away by hand, and it has a name of its own",
        "C N",
        "same",
        "neither changed nor deleted, with an Event; none is made in its place",
    ),
    ReferenceCase(
        "the Service becomes internal, or is deleted", "C N", "same", "its balancer and server groups are deleted"
    ),
    ReferenceCase(
        "its balancer outlives the Service",
        "C N",
        "different",
        "by `preserve-lb-on-delete`, and by any text that is not valid; not by `false` and `off`, as there",
    ),
    ReferenceCase(
        "a tunnel type", "C N", "refused", "Event `InvalidService`; there the Service is left to other software"
    ),
    ReferenceCase("the classic network", "C N", "refused", "an Event `AnnotationIgnored`; it no longer exists"),
    ReferenceCase("another address type while it serves", "N", "same", "changed; absent it makes nothing public"),
    ReferenceCase("an IPv6 address type", "N", "same", "set at first and later; only with `ip-version: dualstack`"),
    ReferenceCase("zones are added and taken away", "N", "same", "changed while it serves"),
    ReferenceCase(
        "a new balancer without zones", "N", "different", "those of `cloud.loadBalancers.zoneMaps`; refused there"
    ),
    ReferenceCase(
        "a zone gets a private address later", "N", "same", "it stays as it is, with an Event `CannotBeChanged`"
    ),
    ReferenceCase(
        "a zone gets an elastic IP, at first or later", "N", "different", "changed while it serves; there only at first"
    ),
    ReferenceCase(
        "security groups", "N", "same", "joined and left; all left by an empty text, none without the annotation"
    ),
    ReferenceCase("a bandwidth package", "N", "same", "joined, exchanged, and left by an empty text"),
    ReferenceCase(
        "a bandwidth package of a private balancer", "N", "different", "refused before any call; there in silence"
    ),
    ReferenceCase(
        "source ranges, at first or later",
        "C N",
        "different",
        "C: by an access list of its own, there ignored. N: by a security group, as there",
    ),
    ReferenceCase("source ranges are changed", "C N", "different", "in the same list; C: there ignored"),
    ReferenceCase(
        "source ranges are taken away", "C N", "different", "open to all, the list is deleted; C: there ignored"
    ),
    ReferenceCase(
        "a Service with source ranges is deleted, or its balancer outlives it",
        "C N",
        "different",
        "the list goes with the balancer, and stays with one that stays; C: there ignored",
    ),
    ReferenceCase(
        "source ranges beside annotations that admit clients",
        "C N",
        "different",
        "refused before any call; N: there both hold",
    ),
    ReferenceCase("forwarding to servers of other zones, on and off", "N", "same", "changed; by default on"),
)

LISTENERS: tuple[ReferenceCase, ...] = (
    ReferenceCase("a scheduler", "C N", "same", "changed in the listener (C) or the server group (N)"),
    ReferenceCase("the scheduler by default", "C", "different", "`wrr`; there `rr`, by which weights have no effect"),
    ReferenceCase("an access list", "C", "same", "set, exchanged, and taken away again"),
    ReferenceCase("access lists in another order", "C", "same", "nothing is changed"),
    ReferenceCase("headers and time-outs of HTTP", "C", "same", "changed"),
    ReferenceCase("health checks of layer 4", "C N", "same", "changed; also by HTTP, and off"),
    ReferenceCase(
        "health checks that ask nodes for ready pods",
        "C N",
        "different",
        "with Local, at `spec.healthCheckNodePort`; not on balancers of others, and not there",
    ),
    ReferenceCase("health checks of HTTP listeners", "C", "same", "by default off"),
    ReferenceCase("a health check by UDP", "N", "same", "of UDP ports; others are checked by TCP, with an Event"),
    ReferenceCase("sticky sessions by a cookie", "C", "same", "inserted, or the server's own"),
    ReferenceCase(
        "connections of servers that are removed",
        "C N",
        "different",
        "go on for as long as the annotation says; C: there also of UDP. N: at least 10 s, there 0",
    ),
    ReferenceCase(
        "a protocol that does not fit the Service's port",
        "C N",
        "same",
        "passed over, with an Event `AnnotationIgnored`",
    ),
    ReferenceCase("a protocol for a port that the Service lacks", "C N", "same", "the same"),
    ReferenceCase(
        "certificates for further domains",
        "C",
        "same",
        "added, exchanged, taken away; left alone without the annotation",
    ),
    ReferenceCase(
        "a redirect to https: on, off, and to another port", "C", "same", "the http listener is made anew, and no other"
    ),
    ReferenceCase("a redirect whose http port is gone", "C", "same", "passed over, with an Event `AnnotationIgnored`"),
    ReferenceCase(
        "ports are added and taken away",
        "C N",
        "different",
        "with listener and group; SCTP is refused, there passed on",
    ),
    ReferenceCase("TCP and UDP on one port number", "C N", "same", "two listeners"),
    ReferenceCase("a listener is deleted by hand", "C N", "same", "made again"),
    ReferenceCase("the PROXY protocol", "C N", "same", "changed"),
    ReferenceCase(
        "TCP becomes TCPSSL, and the other way round",
        "N",
        "different",
        "exchanged when a server of the new group is well; there at once",
    ),
    ReferenceCase("TCP becomes UDP", "N", "same", "another listener with a group of its own"),
    ReferenceCase(
        "ALPN, clients' certificates, new connections per second, idle connections, ciphers", "N", "same", "changed"
    ),
    ReferenceCase("ports of several protocols", "C N", "same", "a listener of its protocol for each"),
    ReferenceCase("further certificates of TCPSSL", "N", "same", "added, exchanged, taken away"),
    ReferenceCase("what PROXY v2 tells of PrivateLink", "N", "same", "on and off, beside the PROXY protocol"),
    ReferenceCase("a range of ports", "N", "same", "one listener; servers get traffic on the port that was asked for"),
    ReferenceCase("several ranges, and one beside a single port", "N", "same", "a listener for each"),
    ReferenceCase(
        "a range of ports comes, changes and goes",
        "N",
        "different",
        "exchanged when a server of the new group is well; there at once",
    ),
    ReferenceCase(
        "a range of ports with nodes as servers, or ranges that overlap", "N", "same", "refused before any call"
    ),
)

SERVERS: tuple[ReferenceCase, ...] = (
    ReferenceCase("only nodes with a label", "C N", "same", "no others are servers"),
    ReferenceCase(
        "externalTrafficPolicy Cluster becomes Local, and the other way round",
        "C N",
        "same",
        "Local: only nodes with pods, weighted by their number; others leave after these have come",
    ),
    ReferenceCase(
        "pods that are terminating and still answer",
        "C N",
        "different",
        "stay until another server is well, then get weight 0, and leave with the pod; there with `graceful-shutdown`",
    ),
    ReferenceCase(
        "pods as servers, and nodes again",
        "C N",
        "different",
        "a listener moves to the other group when a server of it is well; there at once",
    ),
    ReferenceCase("a cordoned node", "C N", "same", "stays, unless `remove-unscheduled-backend` is on"),
    ReferenceCase("a node that the autoscaler is about to delete", "C N", "same", "no server"),
    ReferenceCase("a node that is excluded by a label", "C N", "same", "no server, by any of four labels"),
    ReferenceCase(
        "a node of the control plane", "C N", "different", "a server only where there are no other nodes; there never"
    ),
    ReferenceCase(
        "nodes that are not ready", "C N", "different", "no servers; where none is ready all stay, there all go"
    ),
    ReferenceCase("Local, and the pod is on a node that is not ready", "C N", "same", "the node is no server"),
    ReferenceCase("a pod on a virtual node", "C N", "refused", "not added, with a note; one that is a server stays"),
    ReferenceCase("a node that is no server of ECS", "C N", "refused", "Lingjun and others: no server, with a note"),
    ReferenceCase("servers in groups of the user's", "C N", "same", "one group, or one for each port"),
    ReferenceCase("servers move to another group of the user's", "C N", "same", "added there, then taken out here"),
    ReferenceCase("a group that does not exist, or is another balancer's", "C N", "same", "refused, and none is made"),
    ReferenceCase(
        "a weight for all servers together", "C N", "same", "shared out with Cluster, Local and pods; 0 to 100, or none"
    ),
    ReferenceCase("an endpoint without a node", "C N", "same", "a server as a pod; with Local no node stands for it"),
    ReferenceCase("another targetPort, by number or by name", "C N", "same", "pods: another group. Nodes: no change"),
    ReferenceCase(
        "a pod whose network card is not known",
        "C N",
        "different",
        "not added, with a note; one that is a server stays",
    ),
    ReferenceCase("the weight of a server by default", "C N", "same", "with Cluster and of pods, not with Local"),
    ReferenceCase("weights are left alone", "C N", "same", "of servers that are there"),
    ReferenceCase(
        "a Service without NodePorts",
        "C N",
        "different",
        "pods are its servers; refused if nodes are asked for. There an empty group",
    ),
    ReferenceCase("servers by address, and by identity again", "N", "same", "nodes by InternalIP; pods by their own"),
    ReferenceCase("IPv6 servers, or servers of both families", "N", "same", "where the installation says that it may"),
    ReferenceCase("servers see the client's address", "N", "same", "on and off; with TCPSSL refused before any call"),
    ReferenceCase(
        "readiness gates of pods", "C N", "same", "set when the pod is a server, or when there is none to wait for"
    ),
)

SWITCH: tuple[ReferenceCase, ...] = (
    ReferenceCase("nothing was tuned: the scheduler is rr", "C", "same", "nothing is done"),
    ReferenceCase("pods are its servers", "C N", "same", "nothing is done"),
    ReferenceCase("it is paid by size, or by bandwidth", "C", "same", "nothing is done"),
    ReferenceCase("its size was raised in the console", "C", "same", "it stays, unless an annotation says otherwise"),
    ReferenceCase("an access list and persistence were set in the console", "C", "same", "they stay"),
    ReferenceCase("it was renamed in the console", "C", "same", "the name stays"),
    ReferenceCase("a UDP listener is checked as the cloud does it", "C", "same", "nothing is done"),
    ReferenceCase("a network balancer was tuned in the console", "N", "same", "it stays so"),
    ReferenceCase(
        "it was made for a cluster with another ID",
        "C N",
        "different",
        "left alone, also at the Service's end; an Event",
    ),
    ReferenceCase("it has no tag of a cluster", "C N", "same", "used, and tagged"),
    ReferenceCase("it has no tag of a cluster, and a name annotation", "C N", "same", "the same"),
    ReferenceCase("a pod on a virtual node is its server", "C N", "different", "the server stays; none is added"),
    ReferenceCase("pods of a Service without selector are its servers", "C", "same", "the group keeps its name"),
    ReferenceCase("it is lent, with listeners and servers in groups of the user's", "C N", "same", "nothing is done"),
    ReferenceCase(
        "its server groups have the names of the other controller", "N", "same", "used, whichever way they are spelt"
    ),
    ReferenceCase(
        "it has the server group of a port that redirects",
        "C",
        "same",
        "kept up to date; on balancers that we made there is none",
    ),
    ReferenceCase("it has a listener of a range of ports", "N", "same", "nothing is done"),
    ReferenceCase(
        "it admits clients by the source ranges of its Service", "C N", "same", "so it stays, and ends with the ranges"
    ),
    ReferenceCase("the Service has an empty class", "C", "same", "it is ours"),
    ReferenceCase(
        "the Service gets the class of another controller",
        "C N",
        "different",
        "nothing is deleted, and servers are kept up to date; there it is skipped",
    ),
    ReferenceCase(
        "the Service has the annotation of the other kind",
        "C N",
        "different",
        "the balancer stays, with an Event; one that we made serves until the other kind does, and goes; there not",
    ),
    ReferenceCase(
        "names by which either controller knows what is its own", "C N", "same", "balancers, listeners, groups of both"
    ),
)

CASES: Mapping[str, tuple[ReferenceCase, ...]] = {
    "balancer": BALANCERS,
    "listener": LISTENERS,
    "server": SERVERS,
    "found": SWITCH,
}
"""First word in the header of a table → its rows."""

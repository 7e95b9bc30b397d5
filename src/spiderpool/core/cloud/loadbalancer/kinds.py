"""What differs between kinds of load balancers, and what a Service's annotations ask of one.

The cloud's folder builds a `BalancerKind` for each kind that it has. Everything here and in the modules beside this
one works with that value, and never asks for the name of a kind or of a cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from spiderpool.api.core_v1 import Service, ServicePort
from spiderpool.core.cloud.instances import ProviderIDParser
from spiderpool.core.cloud.loadbalancer.annotations import AnnotationTable
from spiderpool.core.cloud.loadbalancer.billing import BillingItem
from spiderpool.core.cloud.loadbalancer.source_ranges import admitted, source_ranges
from spiderpool.core.cloud.loadbalancer.values import (
    BalancerConfiguration,
    BalancerOwner,
    GrantNeed,
    Listener,
    MadeBalancer,
    ObservedLoadBalancer,
    Settings,
)


class BalancerNaming(Protocol):
    """How a balancer, its listeners and its server groups are named, tagged and recognised as ours."""

    @property
    def finalizer(self) -> str:
        """Finalizer of a Service that has a balancer of this kind."""

    @property
    def identity_label(self) -> str:
        """Label of a Service: the identity of its balancer; of two kinds, of the one that clients use."""

    @property
    def other_identity_label(self) -> str:
        """Label of a Service that has balancers of two kinds: the identity of the one that clients used before."""

    @property
    def successor_label(self) -> str:
        """Label of a Service that has balancers of two kinds: the identity of the one that clients do not use yet."""

    @property
    def reuse_tag(self) -> str:
        """Tag of a balancer that a user made and a Service may use."""

    @property
    def cluster_tag(self) -> str:
        """Tag of a balancer that was made for a Service: its cluster."""

    @property
    def our_tags(self) -> frozenset[str]:
        """Keys of the tags that decide what is ours, so that no Service may set them."""

    def balancer_name(self, owner: BalancerOwner) -> str:
        """Name of a balancer of our own."""

    def own_tags(self, owner: BalancerOwner) -> Settings:
        """Tags that mark a balancer as made for this Service."""

    def origin_tags(self, owner: BalancerOwner) -> Settings:
        """Tags that a new balancer gets beside these: for the Services of which Namespace it was made."""

    def recorded(self, tags: Settings, owner: BalancerOwner) -> Settings:
        """Further tags of a Service, without those that it may not set, and tags that record them; none for none."""

    def recorded_keys(self, tags: Settings, owner: BalancerOwner) -> frozenset[str]:
        """Which of a balancer's tags the Service has given it, the records included."""

    def preserved_tags(self, owner: BalancerOwner) -> Settings:
        """Tags that take the place of all these once the balancer has outlived its Service."""

    def is_preserved(self, observed: ObservedLoadBalancer, owner: BalancerOwner) -> bool:
        """Whether the balancer has these tags, and none of a Service that has it."""

    def made(self, kind: str, identity: str, tags: Settings, cluster: str) -> MadeBalancer | None:
        """The balancer, if its tags say that it was made for a Service of the cluster; None when they do not."""

    def part_name(self, port: int | str, protocol: str, owner: BalancerOwner) -> str:
        """Description of a listener."""

    def group_name(self, port: int | str, protocol: str, owner: BalancerOwner) -> str:
        """Name of a server group."""

    def server_description(self, port: int | str, protocol: str, owner: BalancerOwner) -> str:
        """Description of a Service's server in a server group of somebody else's."""

    def readiness_gate(self, service: str) -> str:
        """Condition of pods that is set when they are servers of the balancer of a Service of this name."""

    def is_own(self, observed: ObservedLoadBalancer, owner: BalancerOwner) -> bool:
        """Whether the balancer's tags say that it was made for this Service."""

    def is_named_after(self, observed: ObservedLoadBalancer, owner: BalancerOwner) -> bool:
        """Whether the balancer's name, or the tag with it, is that of this Service's balancer."""

    def other_cluster(self, observed: ObservedLoadBalancer, owner: BalancerOwner) -> str:
        """The cluster for a Service of which such a balancer was made; empty for this cluster, or when nothing says."""

    def is_made_by_controller(self, observed: ObservedLoadBalancer) -> bool:
        """Whether the balancer was made for some Service, so that no other may reuse it."""

    def is_part_of(self, name: str, owner: BalancerOwner) -> bool:
        """Whether a listener's description or a group's name says that it belongs to this Service."""

    def is_part_of_any(self, name: str, cluster: str) -> bool:
        """Whether a listener's description or a group's name says that it belongs to a Service of this cluster."""


@dataclass(frozen=True, slots=True)
class IPv6Servers:
    """What a balancer needs to forward to IPv6 servers."""

    ip_version: str
    """Value of the annotation ``ip-version``."""
    error_code: str
    """What the cloud answers when the balancer cannot take them."""


@dataclass(frozen=True, slots=True)
class SettingSources:
    """Parameter of a balancer, a listener or a server group → suffix of the annotation that sets it.

    A parameter that no annotation sets is not listed.
    """

    balancer: Mapping[str, str]
    listener: Mapping[str, str]
    group: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SourceListRules:
    """How a kind of balancer admits clients of some ranges alone: by a list that is made beside the balancer."""

    noun: str
    """What the cloud calls such a list."""
    prefix: str
    """Begins the name of a list; that of the Service's balancer follows."""
    parameter: str
    """Parameter of a listener, or of a balancer, that names the lists by which it admits clients."""
    annotations: Callable[[str], Mapping[str, str]]
    """Annotations by which the clients of a list alone are admitted: suffix → value."""
    unused: Settings
    """Parameters by which no list is used, with their values."""
    entries: Callable[[Iterable[str], Collection[int]], frozenset[str]]
    """Entries by which a list admits some ranges alone; of a balancer with addresses of some IP versions."""
    barrier: str
    """Begins an entry that keeps out all clients that no other one admits; empty: any entry does."""
    limit: int
    """Ranges of one list."""

    @property
    def suffixes(self) -> frozenset[str]:
        """Annotations that say who is admitted, where the Service lists no ranges."""
        return frozenset(self.annotations(""))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BalancerKind:
    """One kind of load balancer of one cloud: its names, and its API's parameters for what a Service asks for."""

    name: str
    """Short name, for messages and as a key."""
    annotations: AnnotationTable
    naming: BalancerNaming
    aspects: Mapping[str, tuple[str, ...]]
    """Aspect of a balancer that can be changed later → parameters that one call sends together."""
    annotation_of: Mapping[str, str]
    """Parameter that cannot be changed after creation → suffix of the annotation that sets it."""
    set_by: SettingSources
    """Which annotation sets which of the parameters that can be changed."""
    unprotected: Settings
    """Values of the parameters that protect a balancer, when it is not protected."""
    creation: Callable[[BalancerOptions, BalancerConfiguration], Settings]
    """Parameters of the creation that are not compared afterwards."""
    fixed: Callable[[BalancerOptions], Settings]
    """Parameters of the creation that cannot be changed afterwards."""
    settings: Callable[[BalancerOptions, str], Settings]
    """Parameters that can be changed; the second argument is the balancer's name."""
    listener: Callable[[str, BalancerOptions], Settings]
    """Parameters of a listener of a protocol."""
    group: Callable[[str, BalancerOptions], Settings]
    """Parameters of the server group behind a listener of a protocol."""
    group_variant: Callable[[str, BalancerOptions], str]
    """Protocol in a server group's name, with whatever else cannot be changed in the group."""
    port_range: Callable[[int, BalancerOptions], range | None]
    """Ports on which a listener of a Service port listens, where these are many: each leads to the same server port."""
    range_settings: Callable[[ServicePort, range, BalancerOptions], tuple[Settings, Settings]]
    """Parameters that such a listener and its group have beside the others."""
    other_variants: Callable[[str, BalancerOptions], tuple[str, ...]]
    """The same as others, and former versions, write it."""
    fixed_of_group: tuple[str, ...]
    """Parameters in which a server group of such a name may differ all the same, and which cannot be changed in it."""
    redirect: Callable[[int], Settings] | None
    """Parameters of an http listener that redirects clients to an https port; None: the kind has no redirects."""
    affinity: Callable[[int], Mapping[str, str]]
    """Annotations by which listeners keep a client at one server for some seconds: suffix → value."""
    has_affinity: Callable[[str, BalancerOptions], bool]
    """Whether a listener of a protocol keeps a client, by its address, at one server."""
    source_lists: SourceListRules
    public: Settings
    """Values of parameters of a balancer, of those that can be changed, by which the Internet reaches it."""
    must_replace: Callable[[Listener, Listener], bool]
    """Whether the first listener cannot be changed into the second, though both have the same protocol."""
    faults: Callable[[Service, BalancerOptions, BalancerConfiguration], Iterator[str]]
    """What must be corrected in a Service, by rules of this kind."""
    creation_faults: Callable[[BalancerOptions, BalancerConfiguration], Iterable[str]]
    """What a new balancer needs beside that, and neither the Service nor the settings say."""
    remarks: Callable[[Service, BalancerOptions], Iterator[str]]
    """Which valid annotations have no effect beside the others, and why."""
    needs: Callable[[BalancerOptions, BalancerConfiguration], Iterator[GrantNeed]]
    """What of a Service's annotations has an effect that an administrator must have granted."""
    is_in_use: Callable[[GrantNeed, ObservedLoadBalancer, tuple[Listener, ...]], bool]
    """Whether the balancer, or one of these listeners of it, has what is needed already."""
    bill: Callable[[BalancerOptions, BalancerConfiguration], tuple[BillingItem, ...]]
    """What the cloud counts and bills for a balancer that is made."""
    servers_by_address: Callable[[BalancerOptions], bool]
    """Whether servers are registered by an address alone, rather than by the instance or the ENI that has it."""
    secure_protocols: frozenset[str]
    """Protocols of listeners that need a certificate."""
    ipv6_servers: IPv6Servers
    published_by_name: bool
    """Whether clients reach the balancer by a DNS name rather than an IP address."""
    groups_outlive_balancer: bool
    """Whether server groups must be deleted beside the balancer; False: they go with it."""
    excluding_labels: tuple[str, ...]
    """Labels of nodes that must not be backends, besides those of Kubernetes."""
    parse_provider_id: ProviderIDParser

    @property
    def shares_source_lists(self) -> bool:
        """Whether all listeners of a balancer have the same lists; False: each has its own."""
        return self.source_lists.parameter in self.set_by.balancer

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class BalancerOptions:
    """What the annotations of a Service ask for."""

    kind: BalancerKind
    given: Mapping[str, str]
    """Suffix → value, of the annotations that are set, known and valid."""
    pods: bool | None
    """Whether pods are the backends, by the annotation of the backend type; None when it is not set."""
    remarks: tuple[str, ...] = ()
    """Annotations without effect, and why."""
    faults: tuple[str, ...] = ()
    """Annotations whose value is not valid, and why."""
    backends_valid: bool = True
    """False when one of the faults is in an annotation that decides which servers there are."""
    sources: frozenset[str] = frozenset()
    """Ranges whose clients alone are admitted, by a list of ours that `given` names; none: it has no such list."""
    ranges: frozenset[str] = frozenset()
    """All ranges that the Service lists, whatever the IP versions of its balancer's addresses."""
    unread: frozenset[str] = frozenset()
    """Suffixes of the annotations whose value is not valid."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Suffix → what this Service has by default, instead of the default of the annotation."""

    def __getitem__(self, suffix: str) -> str:
        """Returns the value that is set, or the default. Raises KeyError when the kind has no such annotation."""
        usual = self.kind.annotations.known[suffix].default
        return self.given.get(suffix, self.defaults.get(suffix, usual))

    def get(self, suffix: str) -> str:
        """Returns the value that is set, or the default; empty when the kind has no such annotation."""
        return self[suffix] if suffix in self.kind.annotations.known else ""

    def on(self, suffix: str) -> bool:
        """Whether an annotation that switches something is on. Raises KeyError when the kind has no such annotation."""
        return self[suffix] in ("on", "true")

    def list(self, suffix: str) -> tuple[str, ...]:
        """Returns the parts of a comma-separated list."""
        return tuple(self.get(suffix).split(",")) if self.get(suffix) else ()

    def with_defaults(self, defaults: Mapping[str, str]) -> BalancerOptions:
        """Returns the options with other defaults (suffix → value) where no annotation is set."""
        return replace(self, given={**defaults, **self.given})

    def annotation(self, suffix: str) -> str:
        """Returns the full name of an annotation."""
        return f"{self.kind.annotations.prefix}{suffix}"


IP_VERSIONS: Mapping[str, tuple[int, ...]] = {"ipv4": (4,), "ipv6": (6,)}
"""Value of the annotation ``ip-version`` → IP versions of the balancer's addresses; others have both."""

DEFAULT_AFFINITY = 10800
"""Seconds for which a client is kept at a server where the Service does not say it: Kubernetes' default."""


def options_of(service: Service, kind: BalancerKind) -> BalancerOptions:
    """Returns what a Service asks of a kind of balancer, by its annotations and by the fields that stand for some."""
    options = _with_source_list(service, read_options(service.metadata.annotations or {}, kind))
    if service.spec.sessionAffinity != "ClientIP":
        return options
    return replace(options, given={**kind.affinity(affinity_seconds(service)), **options.given})


def _with_source_list(service: Service, options: BalancerOptions) -> BalancerOptions:
    """Returns the options by which clients of the Service's source ranges alone are admitted.

    Not where annotations say who is admitted: that is a fault (`checking`).
    """
    options = replace(options, ranges=source_ranges(service).ranges)
    if options.kind.source_lists.suffixes & options.given.keys():
        return options
    metadata = service.metadata
    owner = BalancerOwner(metadata.namespace or "default", metadata.name, metadata.uid or "", "")
    return admitting(options, admitted(options.ranges, versions_of(options)), owner)


def admitting(options: BalancerOptions, sources: frozenset[str], owner: BalancerOwner) -> BalancerOptions:
    """Returns the options by which a list of ours admits the clients of some ranges; none: it admits everybody.

    No annotation of the Service may say who is admitted.
    """
    rules = options.kind.source_lists
    given = {key: value for key, value in options.given.items() if key not in rules.suffixes}
    if sources:
        given |= rules.annotations(source_list_name(options.kind, owner))
    return replace(options, given=given, sources=sources)


def source_list_name(kind: BalancerKind, owner: BalancerOwner) -> str:
    """Returns the name of the list of the clients that a Service admits, which has the Service's UID."""
    return f"{kind.source_lists.prefix}{kind.naming.balancer_name(owner)}"


def versions_of(options: BalancerOptions) -> tuple[int, ...]:
    """Returns the IP versions, 4 and 6, of the addresses of a balancer."""
    return IP_VERSIONS.get(options["ip-version"].lower(), (4, 6))


def present_versions(options: BalancerOptions, observed: ObservedLoadBalancer) -> tuple[int, ...]:
    """Returns those of a balancer that is there, whatever the Service says; where nothing is known, as it says."""
    names = [name for name, suffix in options.kind.annotation_of.items() if suffix == "ip-version"]
    present = next((observed.settings[name] for name in names if name in observed.settings), "")
    return IP_VERSIONS.get(present.lower(), (4, 6)) if present else versions_of(options)


def affinity_seconds(service: Service) -> int:
    """Returns for how many seconds a Service with session affinity keeps a client at a server."""
    config = service.spec.sessionAffinityConfig
    return (config.clientIP.timeoutSeconds if config and config.clientIP else None) or DEFAULT_AFFINITY


def wants_balancer(service: Service) -> bool:
    """Whether a Service asks anybody for a balancer: what it has is never deleted while it does."""
    return service.spec.type == "LoadBalancer" and not service.terminating


def read_options(annotations: Mapping[str, str], kind: BalancerKind) -> BalancerOptions:
    """Returns what a Service's annotations ask of a kind of balancer; invalid values become faults."""
    table = kind.annotations
    values = table.values(annotations)
    given: dict[str, str] = {}
    faults: list[str] = []
    unread: set[str] = set()
    for suffix, text in sorted(values.items()):
        if known := table.known.get(suffix):
            try:
                given[suffix] = known.type.read(text)
            except ValueError as error:
                faults.append(f"annotation {table.prefix}{suffix} {error}, not {text!r}")
                unread.add(suffix)
    backends_valid = not unread & table.backend_suffixes
    remarks = list(table.remarks(values))
    for suffix, required in table.requirements.items():
        if suffix in given and required not in given:
            del given[suffix]
            remarks.append(
                f"annotation {table.prefix}{suffix} has no effect without annotation {table.prefix}{required}"
            )
    choice = table.backend_type
    backend = annotations.get(choice.name)
    if backend not in (None, choice.pods, choice.nodes):
        allowed = f"{choice.pods} (pods) or {choice.nodes} (nodes)"
        faults.append(f"annotation {choice.name} must be {allowed}, not {backend!r}")
        backends_valid = False
    pods = None if backend is None else backend == choice.pods
    return BalancerOptions(kind, given, pods, tuple(remarks), tuple(faults), backends_valid, unread=frozenset(unread))

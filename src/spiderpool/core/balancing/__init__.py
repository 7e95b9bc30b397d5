"""Load balancers of Services: what should be, what is, and the steps between. Values in, values out.

    Service, nodes, endpoints ──wanted──▶ Model ─┐
                                                 ├──plan──▶ steps, printable
    the cloud ──(cloud/alibaba observes)──▶ Seen ┘

Here: `values` (model and observation), `annotations` (what a Service may ask for), `backends` (which servers), `clb`
and `nlb` (settings in the cloud's words), `dialects` (both side by side), `model` (what should be), `checking` (why it
cannot be), `naming` (what is ours), `planning`, `steps`, and `printing` (the dry run). Nothing here knows how the cloud
is called.
"""

from spiderpool.core.balancing.annotations import ANNOTATIONS, PREFIX, Options, read
from spiderpool.core.balancing.backends import World, pod_addresses, told_cards
from spiderpool.core.balancing.checking import backends_clear, faults
from spiderpool.core.balancing.model import kind_of, owner_of, uses_pods, wanted
from spiderpool.core.balancing.naming import (
    FINALIZERS,
    IDENTITY_LABEL,
    LENT_TAG,
    balancer_name,
    is_own,
    own_tags,
)
from spiderpool.core.balancing.planning import immutable, lending_fault, only_backends, ownership_fault, plan, removal
from spiderpool.core.balancing.printing import dry_run
from spiderpool.core.balancing.steps import Step
from spiderpool.core.balancing.values import (
    Configuration,
    Group,
    Kind,
    Listener,
    Model,
    Owner,
    Seen,
    Server,
    Settings,
)

__all__ = [
    "ANNOTATIONS",
    "FINALIZERS",
    "IDENTITY_LABEL",
    "LENT_TAG",
    "PREFIX",
    "Configuration",
    "Group",
    "Kind",
    "Listener",
    "Model",
    "Options",
    "Owner",
    "Seen",
    "Server",
    "Settings",
    "Step",
    "World",
    "backends_clear",
    "balancer_name",
    "dry_run",
    "faults",
    "immutable",
    "is_own",
    "kind_of",
    "lending_fault",
    "only_backends",
    "own_tags",
    "owner_of",
    "ownership_fault",
    "plan",
    "pod_addresses",
    "read",
    "removal",
    "told_cards",
    "uses_pods",
    "wanted",
]

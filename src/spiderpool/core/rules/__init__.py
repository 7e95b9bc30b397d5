"""Rules of admission, one file per kind: what we fill in, and what we refuse.

``default_*`` takes an object and returns it with defaults; ``validate_*`` returns every fault that
it finds, each with the path of the field as the user wrote it and what to do about it.
"""

from spiderpool.core.rules.coordinator import POD_CIDR_TYPES, default_coordinator, validate_coordinator
from spiderpool.core.rules.faults import Fault, Faults, FieldError
from spiderpool.core.rules.ippool import (
    default_ippool,
    ippool_kept_by,
    validate_ippool,
)
from spiderpool.core.rules.multusconfig import (
    BLOCKS,
    NETWORK_INJECT,
    RDMA_INJECT,
    Block,
    attachment_name,
    default_multusconfig,
    inject_faults,
    injected_resource,
    interface_block,
    other_owner,
    validate_multusconfig,
)
from spiderpool.core.rules.ranges import cidr_label
from spiderpool.core.rules.reservedip import default_reservedip, validate_reservedip
from spiderpool.core.rules.subnet import (
    default_subnet,
    subnet_kept_by,
    validate_subnet,
)

__all__ = [
    "BLOCKS",
    "NETWORK_INJECT",
    "POD_CIDR_TYPES",
    "RDMA_INJECT",
    "Block",
    "Fault",
    "Faults",
    "FieldError",
    "attachment_name",
    "cidr_label",
    "default_coordinator",
    "default_ippool",
    "default_multusconfig",
    "default_reservedip",
    "default_subnet",
    "inject_faults",
    "injected_resource",
    "interface_block",
    "ippool_kept_by",
    "other_owner",
    "subnet_kept_by",
    "validate_coordinator",
    "validate_ippool",
    "validate_multusconfig",
    "validate_reservedip",
    "validate_subnet",
]

"""The fuzz targets: everything that comes from outside and that our code takes apart."""

from __future__ import annotations

import msgspec

from spiderpool.cloud.alibaba.metadata import BadAnswer, NoAnswer
from spiderpool.errors import SpiderpoolError
from tests.fuzzing import cni_calls, metadata, netlink, networks, object_annotations, openapi, reviews, services
from tests.fuzzing.target import FuzzTarget

TARGETS = {
    target.name: target
    for target in (
        FuzzTarget("cni", cni_calls.run, (SpiderpoolError,)),
        FuzzTarget("networks", networks.run, (SpiderpoolError,)),
        FuzzTarget("annotations", object_annotations.run),
        FuzzTarget("services", services.run),
        FuzzTarget("netlink", netlink.run),
        FuzzTarget("metadata", metadata.run, (BadAnswer, NoAnswer)),
        FuzzTarget("openapi", openapi.run),
        FuzzTarget("reviews", reviews.run, (msgspec.DecodeError,)),
    )
}


def close() -> None:
    """Close what the targets keep from one input to the next."""
    for module in (metadata, openapi, reviews):
        module.close()

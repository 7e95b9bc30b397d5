"""SpiderIPPool: spec and status."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.ippool import POOL_ENI_LABEL, IPPoolSpec, Route, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_a_pool() -> None:
    pool = read(
        {
            "metadata": {"name": "blue"},
            "spec": {
                "subnet": "10.6.0.0/24",
                "ipVersion": 4,
                "ips": ["10.6.0.1-10.6.0.9"],
                "excludeIPs": ["10.6.0.5"],
                "gateway": "10.6.0.254",
                "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.253"}],
                "nodeName": ["n1"],
                "podAffinity": {"matchLabels": {"app": "web"}},
                "default": True,
            },
            "status": {"totalIPCount": 8, "allocatedIPCount": 1, "allocatedRanges": ["10.6.0.1"]},
        },
        SpiderIPPool,
    )
    assert pool.spec.routes == [Route("10.7.0.0/16", "10.6.0.253")]
    assert pool.spec.podAffinity is not None
    assert pool.spec.podAffinity.matchLabels == {"app": "web"}
    assert pool.status is not None
    assert pool.status.totalIPCount == 8


def test_absent_fields_stay_absent() -> None:
    pool = read({"metadata": {"name": "blue"}, "spec": {"subnet": "10.6.0.0/24"}}, SpiderIPPool)
    assert (pool.spec.default, pool.spec.disable, pool.spec.ips, pool.status) == (None, None, None, None)


def test_a_pool_needs_a_subnet() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `subnet`"):
        msgspec.convert({"spec": {}}, SpiderIPPool)


def test_a_label_names_the_eni_that_a_pool_was_made_for() -> None:
    spec = IPPoolSpec("10.0.0.0/24")
    assert SpiderIPPool(metadata=ObjectMeta(name="p", labels={POOL_ENI_LABEL: "eni-1"}), spec=spec).eni == "eni-1"
    assert SpiderIPPool(metadata=ObjectMeta(name="p"), spec=spec).eni is None

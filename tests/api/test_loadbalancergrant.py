"""SpiderLoadBalancerGrant: what the Services of Namespaces may name in the cloud."""

from __future__ import annotations

import pytest

from spiderpool.api.loadbalancergrant import SpiderLoadBalancerGrant
from tests.api.documents import read

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("namespaces", "applies"), [(["shop", "web"], True), (["*"], True), (["sho"], False)])
def test_namespaces_are_meant_by_name(namespaces: list[str], applies: bool) -> None:
    body = {"metadata": {"name": "g"}, "spec": {"namespaces": namespaces, "loadBalancers": ["lb-1"]}}
    grant = read(body, SpiderLoadBalancerGrant)
    assert grant.spec.applies_to("shop") is applies
    assert (grant.spec.loadBalancers, grant.spec.preserve) == (["lb-1"], None)

"""NetworkPolicies, of which only the selector of pods counts."""

from __future__ import annotations

import pytest

from spiderpool.api.meta import LabelSelector
from spiderpool.api.networking_v1 import NetworkPolicy
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_which_pods_a_policy_selects() -> None:
    body = {"metadata": {"name": "p", "namespace": "shop"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}}}}
    assert read(body, NetworkPolicy).spec.podSelector == LabelSelector({"app": "web"})
    everything = {"metadata": {"name": "p", "namespace": "shop"}, "spec": {"podSelector": {}}}
    assert read(everything, NetworkPolicy).spec.podSelector == LabelSelector()

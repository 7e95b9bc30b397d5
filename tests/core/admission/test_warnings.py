"""What kubectl prints of objects that are accepted."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.core.admission.warnings import ippool_warnings, subnet_warnings
from tests.core.admission.objects import pool, subnet

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("spec", "left_out"),
    [
        ({"ips": ["10.6.0.1-10.6.0.254"]}, None),
        ({"ips": ["10.6.0.0-10.6.0.255"]}, "10.6.0.0, 10.6.0.255"),
        ({"ips": ["10.6.0.0-10.6.0.255"], "excludeIPs": ["10.6.0.0"]}, "10.6.0.255"),
        ({"subnet": "10.6.0.0/31", "ips": ["10.6.0.0-10.6.0.1"]}, None),
        ({"subnet": "10.6.0.7/32", "ips": ["10.6.0.7"]}, None),
        ({"subnet": "fd00::/64", "ips": ["fd00::-fd00::ff"]}, None),
        ({}, None),
        ({"subnet": "10.6.0.1/24", "ips": ["10.6.0.0"]}, None),  # written before the rules; refused when it is changed
    ],
)
def test_addresses_that_no_pod_gets(spec: dict[str, Any], left_out: str | None) -> None:
    expected = [f"spec.ips: no pod gets {left_out}, as network or broadcast address of 10.6.0.0/24"] if left_out else []
    assert list(ippool_warnings(pool(spec))) == expected
    assert list(subnet_warnings(subnet(spec))) == expected

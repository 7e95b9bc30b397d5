"""SpiderReservedIP: addresses that no pod gets."""

from __future__ import annotations

import pytest

from spiderpool.api.reservedip import SpiderReservedIP
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_reserved_addresses() -> None:
    reserved = read({"metadata": {"name": "r"}, "spec": {"ipVersion": 4, "ips": ["10.6.0.1"]}}, SpiderReservedIP)
    assert (reserved.spec.ipVersion, reserved.spec.ips) == (4, ["10.6.0.1"])
    assert read({"metadata": {"name": "r"}}, SpiderReservedIP).spec.ips is None

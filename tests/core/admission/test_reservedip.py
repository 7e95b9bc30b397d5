"""Defaults and faults of SpiderReservedIPs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.core.admission.faults import Fault
from spiderpool.core.admission.reservedip import default_reservedip, validate_reservedip
from tests.core.admission.objects import LEAVING, found

pytestmark = pytest.mark.unit


def reserved(ips: list[str] | None = None, version: int | None = None, **metadata: Any) -> SpiderReservedIP:
    spec = {"ips": ips, "ipVersion": version}
    return msgspec.convert({"metadata": {"name": "r", **metadata}, "spec": spec}, SpiderReservedIP)


class TestReservedIPs:
    @pytest.mark.parametrize(
        ("given", "version", "merged"),
        [
            (["10.6.0.2", "10.6.0.1"], 4, ["10.6.0.1-10.6.0.2"]),
            (["fd00::2-fd00::3"], 6, ["fd00::2-fd00::3"]),
            (["10.6.0.2", "fd00::1"], 4, ["10.6.0.2", "fd00::1"]),
            (["x", "10.6.0.1"], None, ["x", "10.6.0.1"]),
            ([], None, []),
            (None, None, None),
        ],
    )
    def test_defaults(self, given: list[str] | None, version: int | None, merged: list[str] | None) -> None:
        made = default_reservedip(reserved(given))
        assert (made.spec.ipVersion, made.spec.ips) == (version, merged)
        assert made.metadata.finalizers is None
        leaving = reserved(given, **LEAVING)
        assert default_reservedip(leaving) == leaving

    @pytest.mark.parametrize(
        ("made", "kind", "path"),
        [
            (reserved(), Fault.REQUIRED, "spec.ipVersion"),
            (reserved(["x"]), Fault.INVALID, "spec.ips[0]"),
            (reserved(["fd00::1"]), Fault.FORBIDDEN, "spec.ipVersion"),
            (reserved(["10.6.0.1", "fd00::1"]), Fault.INVALID, "spec.ips[1]"),
            (reserved(["10.6.0.1", "10.6.0.0/24"]), Fault.INVALID, "spec.ips[1]"),
            (reserved(["10.6.0.9-10.6.0.1"]), Fault.INVALID, "spec.ips[0]"),
            (reserved(["10.6.0.1"], 6), Fault.FORBIDDEN, "spec.ipVersion"),
        ],
    )
    def test_faults_of_a_new_object(self, made: SpiderReservedIP, kind: Fault, path: str) -> None:
        faults = validate_reservedip(default_reservedip(made), None, frozenset({4}))
        assert [(fault.kind, fault.path) for fault in faults] == [(kind, path)]

    def test_valid_objects_are_accepted(self) -> None:
        assert validate_reservedip(reserved(version=4), None) == ()
        assert validate_reservedip(default_reservedip(reserved(["10.6.0.1", "192.0.2.0-192.0.2.9"])), None) == ()

    def test_faults_of_a_change(self) -> None:
        old = reserved(["10.6.0.1"], 4)
        assert validate_reservedip(reserved(["10.6.0.2"], 4), old) == ()
        assert validate_reservedip(reserved(["10.6.0.1"], 4, **LEAVING), old) == ()
        assert found(validate_reservedip(reserved(["10.6.0.2"], 4, **LEAVING), old)) == [("FORBIDDEN", "spec")]

"""SpiderIP: the record of an address in use."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.ip import IPOwner, SpiderIP
from tests.api.documents import Document, read

pytestmark = pytest.mark.unit

SPEC: Document = {
    "address": "10.6.0.1/24",
    "pool": "blue",
    "node": "n1",
    "namespace": "shop",
    "pod": "db-0",
    "podUID": "u-1",
    "interface": "eth0",
}


def test_the_holder_of_an_address() -> None:
    held = read({"metadata": {"name": "10.6.0.1"}, "spec": SPEC}, SpiderIP).spec
    assert (held.address, held.podUID, held.interface) == ("10.6.0.1/24", "u-1", "eth0")
    assert (held.owner, held.releasedAt) == (None, None)


def test_an_address_of_a_sticky_owner_in_its_cooldown() -> None:
    owner = {"kind": "StatefulSet", "namespace": "shop", "name": "db"}
    held = read(
        {"metadata": {"name": "x"}, "spec": SPEC | {"owner": owner, "releasedAt": "2026-01-01T00:00:00Z"}}, SpiderIP
    )
    assert held.spec.owner == IPOwner("StatefulSet", "shop", "db")
    assert held.spec.releasedAt == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(("mark", "uid", "marked"), [("u-7", "u-7", True), ("u-7", "u-8", False), (None, "u-7", False)])
def test_a_mark_is_for_one_object(mark: str | None, uid: str, marked: bool) -> None:
    notes = {"ipam.spidernet.io/release": mark} if mark else {}
    assert read({"metadata": {"name": "x", "uid": uid, "annotations": notes}, "spec": SPEC}, SpiderIP).marked is marked


@pytest.mark.parametrize("field", SPEC)
def test_a_record_without_a_required_field_is_refused(field: str) -> None:
    document = {"metadata": {"name": "x"}, "spec": {key: value for key, value in SPEC.items() if key != field}}
    with pytest.raises(msgspec.ValidationError, match=f"`{field}`"):
        msgspec.convert(document, SpiderIP)


@pytest.mark.parametrize(
    ("name", "address", "defect"),
    [
        ("10.6.0.1", "10.6.0.1/16", None),
        ("fd00-0000-0000-0000-0000-0000-0000-0006", "fd00::6/64", None),
        ("10.6.0.2", "10.6.0.1/16", "spec.address 10.6.0.1/16 belongs to a record of name 10.6.0.1"),
        ("fd00--6", "fd00::6/64", "spec.address fd00::6/64 belongs to a record of name fd00-0000"),
        ("10.6.0.1", "10.6.0.1", "spec.address '10.6.0.1' is not an address"),
        ("10.6.0.1", "10.6.0.256/16", "spec.address '10.6.0.256/16' is not an address"),
    ],
)
def test_what_is_no_record_of_an_address(name: str, address: str, defect: str | None) -> None:
    found = read({"metadata": {"name": name}, "spec": SPEC | {"address": address}}, SpiderIP).defect()
    assert (found or "").startswith(defect or "")
    assert (found is None) is (defect is None)

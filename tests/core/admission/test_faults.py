"""The text of a fault, and which texts are valid labels, names, addresses and prefixes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.meta import LabelSelector
from spiderpool.core.admission.faults import (
    Fault,
    FieldError,
    first_faults,
    is_address,
    is_label_value,
    is_object_name,
    parse_prefix,
    prefix_text,
    selector_faults,
    shown,
)
from tests.core.admission.objects import paths

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            FieldError(Fault.INVALID, "spec.ips[0]", "10.6.0", "write an address"),
            'spec.ips[0]: Invalid value: "10.6.0": write an address',
        ),
        (FieldError(Fault.NOT_SUPPORTED, "spec.mode", 3, "write 0"), "spec.mode: Unsupported value: 3: write 0"),
        (FieldError(Fault.REQUIRED, "spec.ovs", None, "name it"), "spec.ovs: Required value: name it"),
        (FieldError(Fault.FORBIDDEN, "spec", {"a": 1}, "it goes"), "spec: Forbidden: it goes"),
    ],
)
def test_a_fault_reads_as_kubernetes_writes_its_own(fault: FieldError, text: str) -> None:
    assert str(fault) == text
    assert f"{fault.path}: {fault.detail}" == text


def test_of_many_names_five_are_listed_and_the_others_counted() -> None:
    assert shown(list("abcde")) == "a, b, c, d, e"
    assert shown(list("abcdefg")) == "a, b, c, d, e and 2 more"


@pytest.mark.parametrize(
    ("selector", "faulty"),
    [
        (None, []),
        ({}, []),
        ({"matchLabels": {"app": "web", "example.org/tier": ""}}, []),
        ({"matchLabels": {"example.org/": "x"}}, ["s.matchLabels"]),
        ({"matchLabels": {"Example/tier": "x"}}, ["s.matchLabels"]),
        ({"matchLabels": {"app": "x" * 64}}, ["s.matchLabels[app]"]),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c d"]}]},
            ["s.matchExpressions[0].values[1]"],
        ),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}, ["s.matchExpressions[0].values"]),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, []),
        (
            {"matchExpressions": [{"key": "a", "operator": "DoesNotExist", "values": ["b"]}]},
            ["s.matchExpressions[0].values"],
        ),
        (
            {"matchExpressions": [{"key": "", "operator": "Gt"}]},
            ["s.matchExpressions[0].key", "s.matchExpressions[0].operator"],
        ),
    ],
)
def test_faults_of_selectors(selector: dict[str, Any] | None, faulty: list[str]) -> None:
    assert paths(selector_faults(msgspec.convert(selector, LabelSelector | None), "s")) == faulty


@pytest.mark.parametrize(
    ("text", "value", "name"),
    [
        ("web-1", True, True),
        ("Web_1", True, False),
        ("a.b", True, True),
        ("a..b", True, False),
        ("-a", False, False),
        ("", True, False),
        ("a" * 63, True, True),
        ("a" * 64, False, True),
        ("a" * 254, False, False),
    ],
)
def test_label_values_and_object_names(text: str, value: bool, name: bool) -> None:
    assert (is_label_value(text), is_object_name(text)) == (value, name)


@pytest.mark.parametrize(
    ("text", "version", "plain"),
    [("10.6.0.1", 4, True), ("10.6.0.1", 6, False), ("fd00::1", 6, True), ("10.6.0.1/24", 4, False)],
)
def test_addresses(text: str, version: int, plain: bool) -> None:
    assert is_address(text, version) is plain


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("10.6.0.1", "10.6.0.1/32"),
        ("fd00::1", "fd00::1/128"),
        ("10.6.0.1/24", "10.6.0.1/24"),
        ("10.6.0.0/255.255.0.0", None),
        ("10.6.0.0/024", None),
        ("fe80::1%eth0", None),
        ("x", None),
    ],
)
def test_a_prefix_may_lack_its_length(text: str, written: str | None) -> None:
    assert (parse_prefix(text) is not None) is (written is not None)
    assert prefix_text(text) == (written or text)


def test_a_refusal_lists_the_first_faults_and_cuts_long_values() -> None:
    fault = FieldError(Fault.INVALID, "spec.ips[0]", "x" * 1000, "write an address")
    assert len(first_faults([fault] * 30, iter([fault] * 30))) == 50
    assert str(fault) == f'spec.ips[0]: Invalid value: "{"x" * 199}…: write an address'

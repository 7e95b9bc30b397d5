# mypy: disable-error-code="import-untyped"
"""Every action and parameter that we simulate is one that the vendor's own client can send."""

from __future__ import annotations

import re
from importlib import import_module
from inspect import getsource
from typing import Any

import pytest

from spiderpool_lab.alibaba import openapi
from spiderpool_lab.alibaba.registry import ACTIONS, COMMON, Action
from tests.lab.alibaba.conftest import PACKAGES, method_of

pytestmark = pytest.mark.unit
assert openapi.HANDLERS

UNDOCUMENTED = {"ClientToken", "DryRun", "MaxResults", "NextToken"}
"""General parameters, which some models of the client leave out."""


def sent_by(action: Action) -> set[str]:
    client: Any = import_module(f"{PACKAGES[action.product]}.client").Client
    source = getsource(getattr(client, f"{method_of(action.product, action.name)}_with_options"))
    return set(re.findall(r"(?:query|body|body_flat)\['(\w+)'\]", source))


@pytest.mark.parametrize("action", ACTIONS.values(), ids=lambda action: action.full_name)
def test_parameters_are_spelled_as_the_client_spells_them(action: Action) -> None:
    assert action.allowed - COMMON - UNDOCUMENTED <= sent_by(action)

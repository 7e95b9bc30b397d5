"""Every action is tried with parameters that its API has, and with nothing that could change something."""

from __future__ import annotations

import importlib
import inspect
import json

import pytest

from spiderpool.cloud.alibaba.policy import ACTIONS, is_reading
from spiderpool.cloud.alibaba.trial_calls import ABSENT, NEVER, PARAMETERS, WITHOUT_REGION, has_dry_run, trial

pytestmark = pytest.mark.unit

ALL = sorted({action for listed in ACTIONS.values() for action in listed})
CLIENTS = {"ecs": "ecs20140526", "vpc": "vpc20160428", "slb": "slb20140515", "nlb": "nlb20220430"}


def known(action: str) -> set[str]:
    """The parameters of an action by the official client's request class, in lower case, without what divides words."""
    product, _, name = action.partition(":")
    request = getattr(importlib.import_module(f"alibabacloud_{CLIENTS[product]}.models"), f"{name}Request")
    return {name.replace("_", "") for name in inspect.signature(request.__init__).parameters}


def test_every_action_that_is_needed_has_a_trial_or_never_one() -> None:
    assert PARAMETERS.keys() | NEVER == {*ALL}


@pytest.mark.parametrize("action", sorted(PARAMETERS))
def test_an_action_is_tried_with_parameters_that_it_has(action: str) -> None:
    official = known(action)
    assert {name.lower() for name in PARAMETERS[action]} <= official
    assert ("regionid" in official) != (action in WITHOUT_REGION)
    if not is_reading(action):
        assert has_dry_run(action) == ("dryrun" in official)


@pytest.mark.parametrize("action", [action for action in ALL if not is_reading(action)])
def test_a_change_names_what_does_not_exist(action: str) -> None:
    tried = trial(action, without_dry_run=True)
    if action in NEVER:
        assert tried is None
    else:
        assert tried is not None
        assert ABSENT in json.dumps(tried.parameters)
        assert ("DryRun" in tried.parameters) == has_dry_run(action)


def test_without_consent_only_reads_and_dry_runs_are_tried() -> None:
    tried = [found for action in ALL if (found := trial(action))]
    assert all(is_reading(each.action) or each.parameters["DryRun"] is True for each in tried)
    assert trial("slb:DeleteLoadBalancer") is None
    assert trial("nlb:DeleteLoadBalancer") is not None

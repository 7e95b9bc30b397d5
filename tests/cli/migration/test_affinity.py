"""`migrate`: how the other release's agents are kept from nodes, and let back."""

from __future__ import annotations

import pytest

from spiderpool.cli.migration.steps import is_limited, limited, merge_patch
from spiderpool.core.ipam.migration_groups import LABEL

pytestmark = pytest.mark.unit


class TestAffinity:
    def test_every_term_wants_the_label(self) -> None:
        wanted = {"key": LABEL, "operator": "In", "values": ["old"]}
        other = {"key": "a", "operator": "Exists"}
        required = {"nodeSelectorTerms": [{"matchExpressions": [other]}, {"matchFields": [other]}]}
        before = {"podAffinity": {"x": 1}, "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
        after = limited(before)
        assert after["podAffinity"] == {"x": 1}
        assert after["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [
            {"matchExpressions": [other, wanted]},
            {"matchFields": [other], "matchExpressions": [wanted]},
        ]
        terms = limited(None)["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert terms == [{"matchExpressions": [wanted]}]
        assert [is_limited(each) for each in (after, limited(None), before, None)] == [True, True, False, False]

    def test_a_patch_and_its_reverse(self) -> None:
        before = {"nodeAffinity": {"preferred": [1]}, "same": 1}
        after = limited(before)
        assert set(merge_patch(before, after)) == {"nodeAffinity"}
        assert merge_patch(after, before) == {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": None}}
        assert merge_patch(None, after) == after
        assert merge_patch(after, None) is None

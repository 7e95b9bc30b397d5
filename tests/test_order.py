"""Which tests run in order on one worker, and which of such groups a worker takes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GROUPS, scope_of, turn

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("tests/agent/test_a.py::test_one[tests/lab/x::y]", "tests/agent/"),
        ("tests/cloudcontroller/test_a.py::TestA::test_one", "tests/cloud/"),
        ("tests/core/ipam/test_a.py::test_one", "tests/core/ipam/test_a.py"),
        ("tests/test_a.py::test_one", "tests/test_a.py"),
        ("tests/lab/test_a.py::test_one", "tests/lab/test_a.py"),
        ("tests/lab/alibaba/test_a.py::test_one", "tests/lab/alibaba/test_a.py"),
        ("tests/lab/discovered/test_a.py::test_one", "tests/lab/discovered/"),
    ],
)
def test_what_shares_something_stays_together(nodeid: str, scope: str) -> None:
    assert scope_of(nodeid) == scope


def test_single_files_fill_what_is_left_at_the_end() -> None:
    scopes = ["tests/test_a.py", "tests/lab/test_a.py", "tests/agent/", "tests/kernel/"]
    assert sorted(scopes, key=lambda scope: turn(scope, labs=True)) == [
        *("tests/lab/test_a.py", "tests/agent/", "tests/kernel/", "tests/test_a.py"),
    ]
    assert sorted(scopes, key=lambda scope: turn(scope, labs=False)) == [
        *("tests/agent/", "tests/kernel/", "tests/lab/test_a.py", "tests/test_a.py"),
    ]


def test_every_folder_of_a_group_is_there() -> None:
    folders = {path.name for path in Path(__file__).parent.iterdir() if path.is_dir()}
    assert {folder for group in GROUPS for folder in group} <= folders

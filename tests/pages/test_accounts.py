"""Every command block of the documentation is run by a test, or somebody has said why not."""

from __future__ import annotations

import pytest
import yaml

from tests.pages.accounts import NO_COMMANDS, PAGES, PLAYS, ROOT, UNPLAYED, Unplayed, plays, unplayed
from tests.pages.blocks import LANGUAGES, Chunk, commands, without_commands

pytestmark = pytest.mark.unit

REMEDY = "have a play of tests/pages/accounts.py run it, or add to UNPLAYED which test does, or why none can"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_has_a_reason(page: str) -> None:
    for command in commands(ROOT / page):
        assert plays(command, page) or unplayed(command, page), f"{page}:{command.line}: {command.first}: {REMEDY}"


@pytest.mark.parametrize("page", PAGES)
def test_what_is_no_command_is_yaml_or_listed(page: str) -> None:
    """So that a command is not missed because its program is not known."""
    for chunk in without_commands(ROOT / page):
        listed = any(chunk.text.startswith(beginning) for listed, beginning in NO_COMMANDS if listed == page)
        assert listed or chunk.language not in LANGUAGES or is_yaml(chunk), (
            f"{page}:{chunk.line}: {chunk.lines[0]}: add its program to PROGRAMS of tests/pages/blocks.py, or "
            "the block to NO_COMMANDS of tests/pages/accounts.py"
        )


def is_yaml(chunk: Chunk) -> bool:
    try:
        return isinstance(yaml.safe_load(chunk.text), dict)
    except yaml.YAMLError:
        return False


@pytest.mark.parametrize("each", UNPLAYED, ids=lambda each: f"{each.page}: {each.beginning}")
def test_what_is_said_of_a_command_is_still_true(each: Unplayed) -> None:
    found = [(command, page) for page in PAGES for command in commands(ROOT / page)]
    assert any(each in unplayed(command, page) for command, page in found), "no command begins so"
    assert bool(each.test) is not bool(each.reason)
    if each.test:
        file, _, name = each.test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text()


def test_plays_and_other_blocks_are_of_pages_that_have_them() -> None:
    for play in PLAYS:
        found = commands(ROOT / play.page)
        assert {*play.sections} <= {command.section for command in found}
        texts = [text for command in found for text in (command.text, *command.shown)]
        assert all(any(word in text for text in texts) for word in play.words)
        assert all(any(command.text.startswith(begin) for command in found) for begin in play.first)
    for page, beginning in NO_COMMANDS:
        assert any(chunk.text.startswith(beginning) for chunk in without_commands(ROOT / page)), (page, beginning)

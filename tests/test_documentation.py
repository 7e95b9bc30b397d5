"""Links between the pages of the documentation lead somewhere, and what a reader looks for first is there."""

from __future__ import annotations

import re
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CHINESE = sorted(page for page in (ROOT / "docs/zh").glob("*.md") if page.name != "index.md")
CODE_BLOCK = re.compile(r"^```.*?^```$|(?<=\n\n)(?: {4}[^\n]*\n)+", re.MULTILINE | re.DOTALL)
"""Fenced, or indented after an empty line: commands, what they print, and YAML."""


def without_code(text: str) -> str:
    """A page without what stands there literally."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """What may stand behind `#` in a link to a page: its headings, as the code hosts write them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_other_pages_and_headings_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def english(page: Path) -> Path:
    return ROOT / "docs/usage" / page.name


def literals(page: Path) -> set[str]:
    """What stands in backquotes in the text of a page."""
    return set(re.findall(r"`([^`\n]+)`", CODE_BLOCK.sub("", page.read_text())))


def by_name(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", CHINESE, ids=by_name)
def test_a_chinese_page_has_the_code_blocks_of_its_english_page(page: Path) -> None:
    blocks = zip_longest(*(CODE_BLOCK.findall(each.read_text()) for each in (english(page), page)), fillvalue="(none)")
    for number, (original, ours) in enumerate(blocks, 1):
        assert ours == original, (
            f"block {number} of docs/zh/{page.name} is\n{ours}\nin docs/usage/{page.name} it is\n{original}"
        )


@pytest.mark.parametrize("page", CHINESE, ids=by_name)
def test_a_chinese_page_names_what_its_english_page_names(page: Path) -> None:
    original, ours = literals(english(page)), literals(page)
    missing, foreign = sorted(original - ours), sorted(ours - original)
    assert not missing, f"docs/usage/{page.name} has in backquotes, docs/zh/{page.name} not: {missing}"
    assert not foreign, f"docs/zh/{page.name} has in backquotes, docs/usage/{page.name} not: {foreign}"


@pytest.mark.parametrize("page", CHINESE, ids=by_name)
def test_a_chinese_page_and_its_english_page_lead_to_each_other(page: Path) -> None:
    assert f"(../zh/{page.name})" in english(page).read_text()
    assert f"(../usage/{page.name})" in page.read_text()
    assert f"({page.name})" in (page.parent / "index.md").read_text()


def test_readers_of_chinese_find_their_pages() -> None:
    assert CHINESE
    assert "(docs/zh/index.md)" in (ROOT / "README.md").read_text()
    assert "(zh/index.md)" in (ROOT / "docs/index.md").read_text()


def test_whoever_found_a_vulnerability_learns_how_to_report_it() -> None:
    policy = (ROOT / "SECURITY.md").read_text()
    for needed in ("Report it in private", "## What happens then", "## Supported versions", "docs/security.md"):
        assert needed in policy
    assert not re.search(r"[\w.]+@[\w.]+\.\w+", policy), "an address that nobody has said to read"
    assert "SECURITY.md" in (ROOT / "README.md").read_text()

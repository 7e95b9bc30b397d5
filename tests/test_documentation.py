"""Links between the pages of the documentation lead somewhere, and what a reader looks for first is there."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain, count, zip_longest
from pathlib import Path

import pytest
from scripts import build_docs
from scripts.build_docs import links, target

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
PAGES = build_docs.pages()
CHINESE = sorted(page for page in (ROOT / "docs/zh").glob("*.md") if page.name != "index.md")
CODE_BLOCK = re.compile(r"^```.*?^```$|(?<=\n\n)(?: {4}[^\n]*\n)+", re.MULTILINE | re.DOTALL)
"""Fenced, or indented after an empty line: commands, what they print, and YAML."""
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINKED = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def by_path(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def anchors(page: Path) -> set[str]:
    """What may stand behind `#` in a link to a page: its headings, as the code hosts write them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        shown = LINKED.sub(r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        again = (f"{anchor}-{number}" for number in count(1))
        found.add(next(each for each in chain([anchor], again) if each not in found))
    return found


@pytest.mark.parametrize("page", PAGES, ids=by_path)
def test_links_to_other_pages_and_headings_lead_somewhere(page: Path) -> None:
    for link in links(page):
        found, heading = target(page, link), link.partition("#")[2]
        assert found.exists(), link
        assert found.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert not heading or (found.suffix == ".md" and heading in anchors(found)), link


def test_anchors_are_those_of_code_hosts(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`: c-d, e_f\n\n## A [b](c.md)\n\n## 云 A\n\n## 云 A\n\n```\n# no heading\n```\n")
    assert anchors(page) == {"a-b-c-d-e_f", "a-b", "云-a", "云-a-1"}


def test_what_belongs_to_an_item_is_indented_for_the_site() -> None:
    page = ["1. One", "", "       code", "", "   more", "- 2", "    - 3", "", "      more", "", "End", "", "    no"]
    assert [*build_docs.widened(page)] == [
        *("1. One", "", "        code", "", "    more"),
        *("- 2", "    - 3", "", "        more", "", "End", "", "    no"),
    ]
    fence = ["- one", "", "```yaml", "- a", "  b", "```"]
    assert [*build_docs.widened(fence)] == fence


def test_the_site_leads_to_every_page_once() -> None:
    found = [ROOT / name for name in re.findall(r"\S+\.md$", build_docs.configuration(), re.MULTILINE)]
    made = {ROOT / folder / "index.md" for folder in build_docs.folders_in_nav()}
    assert sorted(found) == sorted({*PAGES, *made})


def test_the_site_has_what_its_pages_link_to(tmp_path: Path) -> None:
    build_docs.collect(tmp_path / "source")
    for page in (tmp_path / "source").rglob("*.md"):
        for link in links(page):
            found = target(page, link)
            assert found.is_file() or (found / "index.md").is_file(), f"{page}: {link}"


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

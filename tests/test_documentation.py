"""Links between the pages of the documentation lead somewhere, and what a reader looks for first is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


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


def test_whoever_found_a_vulnerability_learns_how_to_report_it() -> None:
    policy = (ROOT / "SECURITY.md").read_text()
    for needed in ("Report it in private", "## What happens then", "## Supported versions", "docs/security.md"):
        assert needed in policy
    assert not re.search(r"[\w.]+@[\w.]+\.\w+", policy), "an address that nobody has said to read"
    assert "SECURITY.md" in (ROOT / "README.md").read_text()

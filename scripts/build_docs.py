"""Build the site of the documentation in dist/docs: ``make docs``. Every link must lead to a page, a heading or a file.

Pages link to each other and to files of the repository as a code host shows them. So the site has the same folders: the
pages, and the files to which they link, are collected in dist/docs-source, with a list where a link names a folder.
Only zensical is needed beside Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
SOURCE = "docs-source"
"""The folder below dist/ in which pages and files are collected; as mkdocs.yml names it."""
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ITEM = re.compile(r"(?:\d+\.|[-*]) ")
COLUMNS = 4
FOLDER_IN_NAV = re.compile(r"^(?P<indent> +)- (?P<title>\w+): (?P<folder>\S+)/$", re.MULTILINE)


def pages() -> list[Path]:
    """All pages of the documentation."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def links(page: Path) -> Iterator[str]:
    """Where the links of a page lead, but for those to other sites."""
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if not link.startswith(("http://", "https://")):
            yield link


def target(page: Path, link: str) -> Path:
    """The file or folder of a link."""
    name = link.partition("#")[0]
    return (page.parent / name).resolve() if name else page


def title(page: Path) -> str:
    """The heading of a page."""
    found = re.search(r"^# (.+)$", page.read_text(), re.MULTILINE)
    return found[1] if found else page.stem


def collect(source: Path) -> int:
    """Copy pages, and the files that they link to, into an empty folder; returns how many. Raises FileNotFoundError."""
    shutil.rmtree(source, ignore_errors=True)
    linked = {target(page, link) for page in pages() for link in links(page)}
    folders = {path for path in linked if path.is_dir()} | {ROOT / folder for folder in folders_in_nav()}
    files = {*pages(), *(path for path in linked if path.is_file())}
    files |= {path for folder in folders for path in folder.iterdir() if path.is_file()}
    if missing := sorted(str(path.relative_to(ROOT)) for path in linked if not path.exists()):
        raise FileNotFoundError(f"pages link to what is not there: {', '.join(missing)}")
    for path in files:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            copy.write_text("\n".join(widened(path.read_text().split("\n"))))
        else:
            shutil.copyfile(path, copy)
    for folder in folders:
        (source / folder.relative_to(ROOT) / "index.md").write_text(listing(folder))
    return len(files)


def widened(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a page with what belongs to an item of a list indented by four columns.

    Python-Markdown, which zensical uses, wants four; code hosts are content with the width of the item's mark.
    """
    mark, fenced, previous = 0, False, ""
    for line in lines:
        fenced ^= line.startswith("```")
        indent = len(line) - len(line.lstrip())
        if item := None if fenced else ITEM.match(line):
            mark = item.end()
        elif line and indent < mark and not previous:
            mark = 0
        belongs = mark and line and indent >= mark and not (indent >= COLUMNS and ITEM.match(line.lstrip()))
        yield " " * (COLUMNS - mark) + line if belongs and not item else line
        previous = line


def listing(folder: Path) -> str:
    """A page that names the files of a folder."""
    entries = sorted(path for path in folder.iterdir() if path.is_file())
    rows = (f"- [{title(path) if path.suffix == '.md' else path.name}]({path.name})" for path in entries)
    name = folder.name.replace("-", " ").capitalize()
    return "\n".join([f"# {name}", "", *rows, ""])


def folders_in_nav() -> list[str]:
    """Folders that mkdocs.yml names in the place of their pages."""
    return [found["folder"] for found in FOLDER_IN_NAV.finditer((ROOT / "mkdocs.yml").read_text())]


def configuration() -> str:
    """mkdocs.yml as it is in dist/: with the pages of folders, and its own paths from there."""

    def expanded(found: re.Match[str]) -> str:
        folder = ROOT / found["folder"]
        names = ("index.md", *(path.name for path in sorted(folder.glob("*.md"))))
        entries = (f"\n{found['indent']}    - {found['folder']}/{name}" for name in names)
        return f"{found['indent']}- {found['title']}:{''.join(entries)}"

    text = (ROOT / "mkdocs.yml").read_text()
    return FOLDER_IN_NAV.sub(expanded, text).replace(": dist/", ": ")


def build() -> int:
    """Build the site strictly; returns the exit status, and prints the verdict."""
    began, count = time.monotonic(), collect(DIST / SOURCE)
    (DIST / "mkdocs.yml").write_text(configuration())
    zensical = [str(Path(sys.executable).with_name("zensical")), "build", "--clean", "--strict"]
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run([*zensical, "--config-file", "mkdocs.yml"], cwd=DIST, env=environment, check=False)
    site = sorted((DIST / "docs").rglob("*.html")) if done.returncode == 0 else []
    if not site:
        print("make docs: FAIL: see above what to correct")
        return 1
    took, index = time.monotonic() - began, DIST / "docs" / "index.html"
    print(f"make docs: pass: {len(site)} pages of {count} files in {took:.0f} s: {index}")
    return 0


if __name__ == "__main__":
    raise SystemExit(build())

"""Write the tables of two pages of docs/reference about load balancers, around which people write. Run after a change.

The tables are made from the annotations, their comparison, and the cases; each begins with its own header in its page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from scripts.reference_cases import CASES, ReferenceCase
from spiderpool.core.cloud.alibaba.annotations import ANNOTATIONS, BOTH, CLB, NLB, UNSUPPORTED
from spiderpool.core.cloud.alibaba.comparison import FIELDS, differences
from spiderpool.core.cloud.loadbalancer.annotations import Annotation

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "load-balancer-annotations.md"
CASES_PAGE = ROOT / "docs" / "reference" / "load-balancer-cases.md"
LETTERS = {CLB: "C", NLB: "N", BOTH: "C N"}


def page(path: Path = PAGE) -> str:
    """The whole page, with its tables as they should be. Raises ValueError where it lacks one."""
    text = path.read_text()
    for header, rows in TABLES[path].items():
        text = _with_table(text, header, rows(), path)
    return text


def _with_table(text: str, header: str, rows: Iterable[str], path: Path) -> str:
    """The text with other rows in the table that a header begins."""
    before, found, after = text.partition(f"\n{header}\n")
    if not found:
        raise ValueError(f"{path.name} has no table {header}")
    rest = after.split("\n")
    below = next((number for number, line in enumerate(rest) if not line.startswith("|")), len(rest))
    return "\n".join([f"{before}\n{header}", "|" + "---|" * (header.count("|") - 1), *rows, *rest[below:]])


def _annotations() -> Iterator[str]:
    yield from map(_row, ANNOTATIONS)


def _row(each: Annotation) -> str:
    compared = "; ".join(differences(each)) or "same"
    cells = (f"`{each.suffix}`", LETTERS[each.kinds], each.meaning, str(each.type), each.default or "–", compared)
    return f"| {' | '.join(cells)} |"


def _refused() -> Iterator[str]:
    yield from (f"| `{suffix}` | {text} |" for suffix, text in sorted(UNSUPPORTED.items()))


def _fields() -> Iterator[str]:
    yield from (f"| {_quoted(each.name)} | {each.verdict} | {each.text} |" for each in FIELDS)


def _quoted(name: str) -> str:
    """A name with what is written in manifests in backquotes."""
    return re.sub(r"[^\s,]*[/.][^\s,]*", lambda found: f"`{found[0]}`", name)


def _cases(cases: Iterable[ReferenceCase]) -> Iterator[str]:
    yield from (f"| {each.name} | {each.kinds} | {each.verdict} | {each.here} |" for each in cases)


TABLES: Mapping[Path, Mapping[str, Callable[[], Iterable[str]]]] = {
    PAGE: {
        "| annotation | for | meaning | values | default | compared |": _annotations,
        "| annotation | effect with the other controller; what to do instead |": _refused,
        "| field or mark | compared | |": _fields,
    },
    CASES_PAGE: {f"| {word} | for | compared | here |": partial(_cases, cases) for word, cases in CASES.items()},
}
"""Page → header of a table → its rows."""


if __name__ == "__main__":
    for path in TABLES:
        path.write_text(page(path))
        print(path.relative_to(ROOT))

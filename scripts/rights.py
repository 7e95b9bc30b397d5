"""Write docs/reference/rights.md: each right of our accounts, and where it was seen in use.

``make test ARGS='--calls=DIR'`` writes what was called; then ``python -m scripts.rights DIR``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from spiderpool_lab import chart
from spiderpool_lab.audit import ACCOUNTS, Right, granted

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "rights.md"

_OWNER = "for `blockOwnerDeletion`, which an admission plugin may ask about without a call of ours"
REASONS = {
    "spiderpool-controller create network-attachment-definitions.k8s.cni.cncf.io": (
        "server-side apply is a patch, and needs this where the object is new (`controller/networks.py`)"
    ),
    "spiderpool-controller get spideriphistories.spiderpool.spidernet.io": (
        "what the oldest one says of tenures that last, before it is deleted (`controller/history.py`)"
    ),
    "spiderpool-controller delete spideriphistories.spiderpool.spidernet.io": (
        "the oldest one, when there are more than the settings allow (`controller/history.py`)"
    ),
    "spiderpool-controller get statefulsets.apps.kruise.io": (
        "OpenKruise, as CloneSets: whether the owner of an automatic pool is gone (`controller/applications.py`)"
    ),
    "spiderpool-controller update spidermultusconfigs/finalizers.spiderpool.spidernet.io": (
        f"{_OWNER} (`core/network/nads.py`)"
    ),
    "spiderpool-controller update spidersubnets/finalizers.spiderpool.spidernet.io": (
        f"{_OWNER} (`core/ipam/subnets.py`)"
    ),
}
"""Rights of which no audit log tells → what needs them, and where."""

INTRODUCTION = """\
# Rights

What the roles of our service accounts allow with all features on, and where each right was seen in use: by the audit
logs of API servers, while the walkthrough was played, and while the tests of the daemons ran, which act with the tokens
of these accounts. A call that an admission policy refused does not count. Where no log can tell, the code that needs
the right is named. A right that nothing uses is taken away, and `make demo` fails if a role refuses a daemon anything.
[Security](../security.md) says what a stolen token is worth, and which admission policies bound it further.

`make test ARGS='--calls=DIR'` and `python -m scripts.rights DIR` make this page.
"""


def main(arguments: list[str], page: Path = PAGE) -> int:
    """Write the page from the folder that is named; 1 if a right has no use, or a use as well as a reason.

    Then the page stays as it was.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.rights", description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, metavar="DIR", help="what make test ARGS='--calls=DIR' has written")
    directory: Path = parser.parse_args(arguments).directory
    files = {"walkthrough": [*directory.glob("walkthrough")], "tests": [*directory.glob("tests-*")]}
    if missing := [place for place, found in files.items() if not found]:
        print(f"error: {directory} has no calls of {' and '.join(missing)}: make test ARGS='--calls={directory}' first")
        return 1
    used = {place: _read(found) for place, found in files.items()}
    rights = sorted(allowed())
    unused = [f"not seen in use: {right}" for right in rights if not users(right, used)]
    stale = [f"needs no reason: {right}" for right in REASONS if any(right in names for names in used.values())]
    if unused or stale:
        print(*unused, *stale, f"error: {page.name} stays as it was, see above", sep="\n")
        return 1
    page.write_text("\n".join(_lines(rights, used)) + "\n")
    print(f"{page.name}: {len(rights)} rights")
    return 0


def allowed() -> set[Right]:
    """What the chart allows our accounts with all features on."""
    return granted(each for text in chart.requirements() for each in chart.documents(text))


def users(right: Right, used: Mapping[str, frozenset[str]]) -> list[str]:
    """Where a right was seen in use, or what needs it where that cannot be seen."""
    seen = [place for place, names in used.items() if str(right) in names]
    return seen or [reason for reason in [REASONS.get(str(right))] if reason]


def _lines(rights: list[Right], used: Mapping[str, frozenset[str]]) -> Iterator[str]:
    yield INTRODUCTION
    for account in ACCOUNTS:
        yield from (f"## {account}", "", "| resource | verb | used by |", "|---|---|---|")
        for right in rights:
            if right.account == account:
                yield f"| `{right.resource}` | {right.verb} | {', '.join(users(right, used))} |"
        yield ""


def _read(files: list[Path]) -> frozenset[str]:
    return frozenset(line for file in files for line in file.read_text().splitlines())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The earlier version that clusters are updated from: chart and images of a commit, made as a release makes them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from spiderpool_lab import binaries
from spiderpool_lab.chart import CHART
from spiderpool_lab.chart_release import EarlierVersion
from spiderpool_lab.commands import run
from spiderpool_lab.product import checkout

COMMIT = "b568379a6642624474fd7ccab5bd2903f7b74793"
"""The earlier version. None is published yet, so it is the first commit whose chart a lab installs on real nodes."""
REGISTRY = "earlier.invalid"
"""Registry in the names of its images, by which nodes tell them from today's: both are version 0.1.0."""
ABSENT = f"skipped: this clone of the repository has no commit {COMMIT[:12]}, which the earlier version is made from"

_MAKE_IMAGES = """
import json, sys
from pathlib import Path
from spiderpool_lab.product.images import archives
Path(sys.argv[1]).write_text(json.dumps([str(path) for path in archives(registry=sys.argv[2])]))
"""


def is_available() -> bool:
    """Whether the repository has the commit: a shallow clone has not."""
    return checkout.has_commit(COMMIT)


def provide() -> EarlierVersion:
    """The earlier version, made by its own code if it is missing. Raises IOFailure if it cannot be made."""
    place = binaries.cache() / "earlier"
    tree = place / COMMIT
    with binaries.scratch_folder(place) as work:
        if not tree.exists():
            checkout.export(COMMIT, work / "tree")
            binaries.publish(work / "tree", tree)
        listed = work / "archives.json"
        run([sys.executable, "-c", _MAKE_IMAGES, listed, REGISTRY], cwd=tree, env={"PYTHONPATH": str(tree / "src")})
        archives = tuple(Path(path) for path in json.loads(listed.read_text()))
    return EarlierVersion(tree / CHART.relative_to(checkout.ROOT), archives, REGISTRY)

"""Write the CRD manifests of all kinds into the chart. Run after a change of the types in api/."""

from __future__ import annotations

from pathlib import Path

import yaml

from spiderpool.api.crd import KINDS, crd
from spiderpool.api.meta import Object

DIRECTORY = Path(__file__).parent.parent / "charts" / "spiderpool" / "crds"


def manifest(kind: type[Object]) -> str:
    """The manifest of a kind as YAML text."""
    return yaml.safe_dump(crd(kind), sort_keys=False, width=110)


def path(kind: type[Object]) -> Path:
    """The file of a kind's manifest."""
    return DIRECTORY / f"{kind.KIND.plural}.{kind.KIND.group}.yaml"


if __name__ == "__main__":
    for kind in KINDS:
        path(kind).write_text(manifest(kind))
        print(path(kind).relative_to(DIRECTORY.parent))

"""What scripts/bootstrap fetches has its hash here: packages, uv, and what packages are built with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


def loaded(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / name).read_text())


def fetched() -> list[dict[str, Any]]:
    """The packages of the lock that are not ours."""
    return [package for package in loaded("uv.lock")["package"] if "registry" in package["source"]]


def name_of(requirement: str) -> str:
    return re.split(r"[<>=~! ;\[]", requirement)[0]


def build_group() -> set[str]:
    return {name_of(each) for each in loaded("pyproject.toml")["dependency-groups"]["build"]}


def test_every_file_of_every_package_has_its_hash() -> None:
    files = [
        file for package in fetched() for file in (*package.get("wheels", ()), *filter(None, [package.get("sdist")]))
    ]
    assert len(files) > 100
    assert [file["url"] for file in files if not SHA256.fullmatch(file.get("hash", ""))] == []


def test_what_packages_are_built_with_is_locked() -> None:
    """Ours, and setuptools for those that come as source alone."""
    required = {
        name_of(each)
        for name in ("pyproject.toml", "src/spiderpool_lab/pyproject.toml")
        for each in loaded(name)["build-system"]["requires"]
    }
    from_source = [package["name"] for package in fetched() if not package.get("wheels")]
    assert required | ({"setuptools"} if from_source else set()) <= build_group()
    assert build_group() <= {package["name"] for package in fetched()}
    assert "build" in loaded("pyproject.toml")["tool"]["uv"]["default-groups"]


def test_uv_has_hashes_and_the_bootstrap_wants_them() -> None:
    pinned = (ROOT / "scripts" / "uv.txt").read_text()
    assert re.search(r"^uv==[0-9.]+ ", pinned, re.MULTILINE)
    assert len(SHA256.findall(pinned)) > 2
    script = (ROOT / "scripts" / "bootstrap").read_text()
    assert "--require-hashes --only-binary :all:" in script
    syncs = [line for line in script.splitlines() if '"$uv" sync' in line]
    assert len(syncs) == 2
    assert all("--only-group build" in line or "--no-build-isolation" in line for line in syncs)

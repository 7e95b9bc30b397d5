"""The version is said in spiderpool.__version__ alone: all else takes it from there, or is compared here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from spiderpool import __version__
from spiderpool_lab.chart import CHART

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
SAID_IN = ROOT / "src/spiderpool/__init__.py"
IN_DOCUMENTATION = re.compile(r"(?:spiderpool(?:ctl|[-_]\w+)?[-: ]v?|as tag \(`v)(\d+\.\d+\.\d+)\b")
"""As in names of images, of their archives and of wheels, and in what a program prints."""


def loaded(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / name).read_text())


def test_it_is_one_of_semantic_versioning() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__), "pre-releases are spelled differently by Python and by helm"


@pytest.mark.parametrize("name", ["pyproject.toml", "src/spiderpool_lab/pyproject.toml"])
def test_packages_take_it_from_the_code(name: str) -> None:
    settings = loaded(name)
    assert "version" not in settings["project"]
    assert settings["project"]["dynamic"] == ["version"]
    path = settings["tool"]["hatch"]["version"]["path"]
    assert (ROOT / name).parent.joinpath(path).resolve() == SAID_IN


def test_the_lock_does_not_repeat_it() -> None:
    ours = [package for package in loaded("uv.lock")["package"] if "editable" in package["source"]]
    assert len(ours) == 2
    assert [package["name"] for package in ours if "version" in package] == []


def test_the_chart_has_the_version_of_its_daemons() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert {key: about[key] for key in ("version", "appVersion")} == {"version": __version__, "appVersion": __version__}


@pytest.mark.parametrize("name", ["usage/images", "usage/install", "usage/spiderpoolctl", "reference/releases"])
def test_examples_of_the_documentation_have_it(name: str) -> None:
    assert {*IN_DOCUMENTATION.findall((ROOT / f"docs/{name}.md").read_text())} == {__version__}

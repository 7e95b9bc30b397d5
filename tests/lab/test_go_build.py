from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spiderpool.errors import IOFailure
from spiderpool_lab import binaries, go_build

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("minor", "full"), [("1.37", "v1.37.2"), ("1.30", "v1.30.14")])
def test_the_version_is_the_one_of_the_lock(minor: str, full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES", minor)
    assert go_build.kubernetes_version() == full


@pytest.mark.parametrize("minor", go_build.KUBERNETES_MODULES)
def test_every_program_is_a_tool_of_its_module(minor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES", minor)
    for program, package in go_build.PACKAGES.items():
        folder = go_build.module(program)
        known = (folder / package).is_dir() if package.startswith(".") else f"\t{package}\n" in lock(folder)
        assert known, f"{folder}/go.mod does not name {package}"


def lock(folder: Path) -> str:
    return (folder / "go.mod").read_text()


def test_kubernetes_and_its_staging_modules_are_of_one_version() -> None:
    for folder in go_build.KUBERNETES_MODULES.values():
        replaced = [line.split() for line in lock(folder).splitlines() if " => k8s.io/" in line]
        versions = {words[3] for words in replaced if words[0] != "k8s.io/sample-apiserver"}
        assert len(versions) == 1
        assert versions.pop().removeprefix("v0.") in lock(folder)


MAIN = """package main

import "fmt"

var version = "unknown"

func main() { fmt.Println(version) }
"""


@pytest.fixture
def small_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module without dependencies in the place of ours, with one program ``hello``."""
    folder = tmp_path / "module"
    (folder / "hello").mkdir(parents=True)
    (folder / "go.mod").write_text("module example\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v1.2.3 // indirect\n")
    (folder / "go.sum").write_text("")
    (folder / "hello/main.go").write_text(MAIN)
    monkeypatch.setattr(go_build, "MODULE", folder)
    monkeypatch.setattr(go_build, "KUBERNETES_MODULES", {"1.2": folder})
    monkeypatch.setattr(go_build, "PACKAGES", {"renamed": "./hello"})
    monkeypatch.delenv("KUBERNETES", raising=False)
    return folder


def test_a_program_is_built_and_named(small_module: Path, tmp_path: Path) -> None:
    go_build.build(["renamed"], tmp_path / "target", binaries.cache())
    done = subprocess.run([tmp_path / "target/renamed"], capture_output=True, text=True, check=True)
    assert done.stdout == "unknown\n"


def test_an_error_of_the_compiler_is_quoted(
    small_module: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (small_module / "hello/main.go").write_text(MAIN.replace("version)", "missing)"))
    with pytest.raises(IOFailure, match="failed with exit code 1") as failure:
        go_build.build(["renamed"], tmp_path / "target", binaries.cache())
    assert "undefined: missing" in failure.value.details
    assert "undefined: missing" in capfd.readouterr().err


def test_the_key_changes_with_every_source(small_module: Path) -> None:
    first = go_build.key(small_module)
    (small_module / "hello/main.go").write_text(MAIN + "\n")
    second = go_build.key(small_module)
    (small_module / "go.sum").write_text("\n")
    assert len({first, second, go_build.key(small_module)}) == 3


def test_go_is_that_of_the_environment() -> None:
    assert (Path(sys.prefix) / "bin/go").is_file()

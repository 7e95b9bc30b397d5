"""The product's wheel: it holds the whole product and nothing of the lab, and its programs start without the lab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from spiderpool import __version__

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
DAEMONS = ("spiderpool-agent", "spiderpool-controller", "spiderpool-cloud")
PROGRAMS = (*DAEMONS, "spiderpoolctl", "kubectl-spiderpool")
LAB = re.compile(r"lab/|_lab|haproxy|uml_|simulat", re.IGNORECASE)
"""Names of files that belong to the lab, its simulated cloud or its machines."""

RUN = """
import sys
from importlib.metadata import entry_points
(program,) = entry_points(group="console_scripts", name=sys.argv[1])
sys.argv = sys.argv[1:]
sys.exit(program.load()())
"""
"""What the script of an entry point does."""

IMPORT_ALL = """
import importlib, sys
for name in sys.argv[2:]:
    module = importlib.import_module(name)
    assert module.__file__.startswith(sys.argv[1]), module.__file__
assert importlib.util.find_spec("spiderpool_lab") is None
"""


def _run(*command: str | Path, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.defpath, "COLUMNS": "200", **environ}
    return subprocess.run(command, input=text, capture_output=True, text=True, env=clean, timeout=30, check=False)


def _build(target: str, directory: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", directory],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = directory.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree without network."""
    return _build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds the wheel.

    Dependencies are those of this interpreter, by a .pth file. Python reads no .pth files in a folder that is named in
    one, so neither the editable product nor the lab can be imported.
    """
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return home


def _program(environment: Path, *arguments: str, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return _run(environment / "bin" / "python", "-I", "-c", RUN, *arguments, text=text, **environ)


def _product() -> set[str]:
    files = (path for path in (ROOT / "src" / "spiderpool").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT / "src")) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_whole_product_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == _product()
    assert "spiderpool/cni/shim.c" in names
    assert [name for name in names if LAB.search(name)] == []


def test_the_wheel_needs_no_package_of_the_lab_or_of_development(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        needed = set(re.findall(r"^Requires-Dist: ([a-z0-9-]+)", archive.read(metadata).decode(), re.MULTILINE))
    assert "aiohttp" in needed
    assert not needed & {"spiderpool-lab", "hatchling", "pytest", "alibabacloud-ecs20140526"}


def test_the_source_archive_holds_nothing_of_the_lab(tmp_path: Path) -> None:
    with tarfile.open(_build("sdist", tmp_path)) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {name.removeprefix("src/") for name in names if name.startswith("src/")} == _product()
    assert [name for name in names if LAB.search(name) or name.startswith(("tests/", "bench/"))] == []


def test_every_module_is_imported_from_the_wheel(environment: Path) -> None:
    files = (Path(name) for name in _product() if name.endswith(".py"))
    modules = sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files)
    done = _run(environment / "bin" / "python", "-I", "-c", IMPORT_ALL, str(environment), *modules)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_program_tells_its_options_and_version(environment: Path, program: str, option: str) -> None:
    done = _program(environment, program, option)
    assert done.returncode == 0, done.stderr
    name = program.replace("kubectl-", "kubectl ")  # as kubectl calls its plugin
    assert (name if option == "--help" else __version__) in done.stdout


def test_kubectl_finds_the_completion_of_its_plugin(environment: Path) -> None:
    done = _program(environment, "kubectl_complete-spiderpool", "stat")
    words = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert (done.returncode, words, done.stderr) == (0, ["status", ":4"], "")


@pytest.mark.parametrize(
    ("program", "variable"),
    [
        ("spiderpool-agent", "SPIDERPOOL_ADD_TIMEOUT_SECONDS"),
        ("spiderpool-controller", "SPIDERPOOL_GC_GRACE_SECONDS"),
        ("spiderpool-cloud", "SPIDERPOOL_CLOUD_NODE_PERIOD_SECONDS"),
    ],
)
def test_a_daemon_with_wrong_settings_ends_with_status_1_and_names_the_variable(
    environment: Path, program: str, variable: str
) -> None:
    done = _program(environment, program, SPIDERPOOL_NODE_NAME="node", **{variable: "soon"})
    assert (done.returncode, f"{variable}='soon' is not a number" in done.stdout + done.stderr) == (1, True), done
    assert "Traceback" not in done.stdout + done.stderr


def test_spiderpoolctl_with_wrong_settings_ends_with_status_1_and_names_the_key(
    environment: Path, tmp_path: Path
) -> None:
    values = tmp_path / "conf.yml"
    values.write_text("cloud: {loadBalancers: {public: perhaps}}\n")
    done = _program(environment, "spiderpoolctl", "service", "plan", "-f", "-", "--values", str(values))
    assert done.returncode == 1
    assert "key cloud.loadBalancers.public in conf.yml is 'perhaps'" in done.stderr

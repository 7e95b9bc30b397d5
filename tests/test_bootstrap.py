"""``scripts/bootstrap`` names what is missing by program and package, and is content where nothing is missing."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("public_authorities")]

PROJECT = Path(__file__).parents[1]
HIDE = 'for file in $1; do mount --bind /dev/null "$file"; done; shift; exec "$@"'
"""Shell script that hides files, the words of its first argument, from the command in the others."""
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "PATH=/usr/bin:/bin", "HOME=/nowhere")


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A checkout whose ``.venv`` is as the lock file wants it, readable by every user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file in ("scripts/bootstrap", "scripts/uv.txt", "uv.lock", "pyproject.toml"):
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copy(PROJECT / file, folder / file)
        python = folder / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to("/bin/true")
        wanted = hashlib.sha256((folder / "uv.lock").read_bytes() + (folder / "pyproject.toml").read_bytes())
        (folder / ".venv/.bootstrapped").write_text(f"{wanted.hexdigest()}  -\n")
        yield folder


def bootstrap(checkout: Path, *hidden: str, user: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run it in a mount namespace in which some programs are not there."""
    files = " ".join(str(shutil.which(program)) for program in hidden)
    command = ["unshare", "--mount", "sh", "-c", HIDE, "sh", files, *user, str(checkout / "scripts/bootstrap")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_nothing_is_done_where_nothing_is_missing(checkout: Path) -> None:
    for user in ((), NOBODY):
        done = bootstrap(checkout, user=user)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_apt_each_missing_program_is_named_with_its_packages(checkout: Path) -> None:
    done = bootstrap(checkout, "apt-get", "nft", "conntrack")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "bootstrap: missing: nft (package nftables on Debian, nftables on Fedora)",
            "bootstrap: missing: conntrack (package conntrack on Debian, conntrack-tools on Fedora)",
            "bootstrap: there is no apt-get here: install these by hand",
        ],
    )


def test_who_may_not_install_is_told_the_command(checkout: Path) -> None:
    done = bootstrap(checkout, "nft", "pgrep", "sysctl", user=NOBODY)
    message = "bootstrap: run as root, or first: apt-get install nftables procps \n"
    assert (done.returncode, done.stderr) == (1, message)


def test_without_a_recent_python_there_is_no_environment(checkout: Path) -> None:
    interpreters = [str(path) for path in Path("/usr/bin").glob("python3*") if path.is_file()]
    done = bootstrap(checkout, "apt-get", *interpreters, user=("env", "PATH=/usr/bin:/bin"))
    message = "bootstrap: missing: python3>=3.11 (package python3,python3-venv on Debian, python3 on Fedora)"
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, message)

"""``make release``: what users of a version get, in one folder with checksums.

Equal commits give equal files, with two exceptions: images of other Debian packages differ (``--offline`` takes those
of the last time), and another zlib compresses the packages and the chart to other bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

from spiderpool import __version__
from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab.chart import CHART, helm
from spiderpool_lab.commands import print_progress
from spiderpool_lab.product import checkout, sbom
from spiderpool_lab.product.__main__ import main as build_images
from spiderpool_lab.product.checkout import Commit
from spiderpool_lab.signals import exit_on_signals

ALLOW_DIRTY = "ALLOW_DIRTY"
"""Environment variable: with 1, changes that are not committed are released too, to try it."""
SUMS = "SHA256SUMS"
_NAMED = 3
"""Changed files that a refusal names."""

Part = Callable[[Path], None]
"""Writes some of a release's files to a folder."""


def main(arguments: list[str] | None = None) -> int:
    """Build a release and print its checksums. Exit status 1 if it is refused or cannot be built."""
    exit_on_signals()
    parser = argparse.ArgumentParser(prog="spiderpool_lab.product.release", description="Build a release.")
    parser.add_argument("--output", type=Path, default=checkout.ROOT / "dist/release", help="default: dist/release")
    parser.add_argument("--without-images", action="store_true", help="packages, chart and their bill alone")
    parser.add_argument(
        "--offline", action="store_true", help="images of the Debian packages that were downloaded before"
    )
    chosen = parser.parse_args(arguments)
    try:
        check(checkout.ROOT, __version__, allow_dirty=os.environ.get(ALLOW_DIRTY) == "1")
        parts = packages(Commit.current())
        if not chosen.without_images:
            parts.append(partial(images, offline=chosen.offline))
        assemble(chosen.output, parts)
    except (IOFailure, BadConfig) as failure:
        print_progress("\n".join(filter(None, (failure.details, f"error: {failure.message}"))))
        return 1
    print((chosen.output / SUMS).read_text() + f"version {__version__} is in {chosen.output}")
    return 0


def check(root: Path, version: str, *, allow_dirty: bool) -> None:
    """Raises BadConfig or IOFailure where a checkout is not what a release may be built from."""
    changed = [] if allow_dirty else checkout.changed_files(root)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise BadConfig(
            f"no commit has what would be released, since files have changed: {', '.join(changed[:_NAMED])}{more}; "
            f"commit them, or set {ALLOW_DIRTY}=1 for a release that nobody else gets"
        )
    if checkout.commit_of(f"v{version}", root) not in ("", checkout.commit_of("HEAD", root)):
        raise BadConfig(
            f"version {version} is another commit already, that of the tag v{version}: raise the version "
            f"(docs/reference/releases.md says where)"
        )
    if not described((root / "CHANGELOG.md").read_text(), version):
        raise BadConfig(
            f"CHANGELOG.md does not say what version {version} brings: write a section "
            f"'## [{version}] - YYYY-MM-DD' below 'Unreleased'"
        )


def described(changelog: str, version: str) -> bool:
    """Whether there is a section of the version, with a date and some text."""
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n"
    found = re.search(rf"{heading}(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return bool(found and found[1].strip())


def packages(commit: Commit) -> list[Part]:
    """What makes everything but the images."""
    return [distributions, partial(chart_package, commit=commit), partial(bill, commit=commit)]


def distributions(folder: Path) -> None:
    """Write the wheel and the source archive."""
    for kind in ("wheel", "sdist"):
        checkout.distribution(kind, folder)


def chart_package(folder: Path, commit: Commit, root: Path = checkout.ROOT) -> None:
    """Write the chart as helm packs it, with the date of the commit, and without what git ignores."""
    chart = str(CHART.relative_to(checkout.ROOT))
    with tempfile.TemporaryDirectory() as tree:
        checkout.copy([chart], Path(tree), root)
        helm("package", Path(tree, chart), "--destination", folder)
    repack(folder / f"{CHART.name}-{__version__}.tgz", int(datetime.fromisoformat(commit.created).timestamp()))


def repack(package: Path, seconds: int) -> None:
    """Give all entries of a chart's package one date: helm writes those of the files, which each checkout has anew."""
    draft = package.with_name(f".{package.name}.new")
    with (
        tarfile.open(package) as packed,
        draft.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for entry in packed:
            entry.mtime = seconds
            archive.addfile(entry, packed.extractfile(entry))
    draft.rename(package)


def bill(folder: Path, commit: Commit) -> None:
    """Write the bill of materials of the product."""
    (folder / f"spiderpool-{__version__}.cdx.json").write_text(sbom.of_product(commit))


def images(folder: Path, *, offline: bool) -> None:
    """Write the archives of the images and their bills of materials."""
    if build_images(["--output", str(folder), *(["--offline"] if offline else [])]):
        raise IOFailure("there is no release without the images, and the lines above say why they were not built")


def assemble(target: Path, parts: Iterable[Part]) -> None:
    """Make a folder anew of what the parts write, with checksums. If one fails, it stays as it was.

    Raises BadConfig where the folder holds anything but a former release.
    """
    target = target.resolve()
    check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=target.parent) as work:
        made = Path(work) / target.name
        made.mkdir()
        for part in parts:
            part(made)
        (made / SUMS).write_text(checksums(made))
        if target.exists():
            check_replaceable(target)  # somebody may have used it meanwhile
            shutil.rmtree(target)
        made.rename(target)


def check_replaceable(target: Path) -> None:
    """Raises BadConfig for what is there and neither an empty folder nor a release: it would be deleted."""
    if not target.exists() or (target.is_dir() and _names(target) in (set(), _released(target))):
        return
    raise BadConfig(
        f"{target} holds something else than a release, so it is not replaced: name a folder that is empty or not "
        f"there yet (--output), or delete this one yourself; a release has a {SUMS} that names all its other files"
    )


def _names(folder: Path) -> set[str]:
    return {path.name if path.is_file() else f"{path.name}/" for path in folder.iterdir()}


def _released(folder: Path) -> set[str]:
    """What a folder holds according to its checksums; nothing where there are none."""
    sums = folder / SUMS
    lines = sums.read_text(errors="replace").splitlines() if sums.is_file() else []
    return {SUMS, *(line.partition("  ")[2] for line in lines)} if lines else set()


def checksums(folder: Path) -> str:
    """The files of a folder as sha256sum(1) lists and checks them, in the order of their names."""
    return "".join(f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())

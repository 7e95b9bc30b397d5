"""``make images``: builds the product's images with their bills of materials, and prints sizes and digests."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab import binaries
from spiderpool_lab.commands import print_progress
from spiderpool_lab.images import folder
from spiderpool_lab.product import checkout, sbom
from spiderpool_lab.product.checkout import Commit
from spiderpool_lab.product.debian import Apt
from spiderpool_lab.product.images import DESCRIPTIONS, LIMIT, Built, archives, build, prepare, tag, write
from spiderpool_lab.product.programs import MACHINES
from spiderpool_lab.signals import exit_on_signals


def main(arguments: list[str] | None = None) -> int:
    """Build the images and print a table. Exit status 1 if one cannot be built or is too large."""
    exit_on_signals()
    parser = argparse.ArgumentParser(prog="spiderpool_lab.product", description="Build the product's images.")
    parser.add_argument("--architecture", action="append", choices=list(MACHINES), help="repeatable; default: all")
    parser.add_argument("--output", type=Path, default=checkout.ROOT / "dist/images", help="default: dist/images")
    parser.add_argument("--cached", action="store_true", help="make what a lab uses, in the cache, and print the paths")
    parser.add_argument("--offline", action="store_true", help="with the Debian packages that were downloaded before")
    chosen = parser.parse_args(arguments)
    architectures = chosen.architecture or list(MACHINES)
    try:
        if chosen.cached:
            print("\n".join(map(str, archives())))
            return 0
        if not chosen.offline:
            for architecture in architectures:
                Apt(architecture).update()
        for architecture in architectures:
            prepare(architecture)
        return _build(architectures, chosen.output)
    except (IOFailure, BadConfig) as failure:
        print_progress("\n".join(filter(None, (failure.details, f"error: {failure.message}"))))
    except KeyboardInterrupt:
        print_progress("interrupted; nothing half-made was left")
    return 1


def _build(architectures: list[str], target: Path) -> int:
    commit = Commit.current()
    target.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for image in DESCRIPTIONS:
        with binaries.scratch_folder(folder()) as work:
            platforms = [build(image, architecture, work) for architecture in architectures]
            archive = target / f"{image}-{tag()}.tar"
            made = work / archive.name
            digest = write(image, platforms, made, commit)
            made.rename(archive) if made.stat().st_dev == target.stat().st_dev else _copied(made, archive)
        for built in platforms:
            bill = target / f"{image}-{tag()}-{built.architecture}.cdx.json"
            bill.write_text(sbom.document(built, commit))
            _print(built)
            sizes[f"{image} for {built.architecture}"] = built.size
        print(f"{archive}\n  {digest}", flush=True)
    too_large = [name for name, size in sizes.items() if size > LIMIT]
    limit = f"{LIMIT / 1e6:.0f} MB"
    if too_large:
        print_progress(f"error: larger than {limit}: {', '.join(too_large)}")
    else:
        print(
            f"{len(sizes)} images are in {target}, each within {limit}; the largest has {max(sizes.values()) / 1e6:.1f}"
        )
    return bool(too_large)


def _copied(made: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.new")
    draft.write_bytes(made.read_bytes())
    draft.rename(target)


def _print(built: Built) -> None:
    print(f"{built.image} {tag()} {built.architecture}: {built.size / 1e6:.1f} MB compressed")
    for name, path in built.parts.items():
        print(f"  {path.stat().st_size / 1e6:6.1f} MB  {name}")


if __name__ == "__main__":
    sys.exit(main())

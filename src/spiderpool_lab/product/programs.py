"""Static programs that the agent's image brings for its node: the CNI executable and the reference plugins."""

from __future__ import annotations

from pathlib import Path

from spiderpool_lab import binaries, executable, go_build, oci
from spiderpool_lab.commands import output, print_progress, run
from spiderpool_lab.product import checkout

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Architectures that images are built for → their name in the kernel and in compilers."""


def cni_executable(architecture: str) -> Path:
    """The CNI executable, made if it is missing by the compiler that uv.lock names, so alike on every machine."""
    compiler = checkout.requirements("--only-group", "images")
    key = checkout.digest_of(executable.SOURCE.read_text(), *executable.FLAGS, compiler)[:16]
    target = binaries.cache() / "shims" / f"{architecture}-{key}"
    if not target.exists():
        with binaries.scratch_folder(target.parent) as work:
            print_progress(f"compiling the CNI executable for {architecture} (the first time a minute)")
            _compile(work, compiler, architecture)
            binaries.prune(target.parent)
            binaries.publish(work / "cni", target)
    return binaries.used(target)


def _compile(work: Path, compiler: str, architecture: str) -> None:
    (work / "requirements.txt").write_text(compiler)
    options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    target = ["--target", str(work / "python"), "-r", str(work / "requirements.txt")]
    run([checkout.uv(), "pip", "install", *options, *target])
    zig = [str(work / "python/ziglang/zig"), "cc", "-target", f"{MACHINES[architecture]}-linux-musl"]
    folders = {f"ZIG_{name}_CACHE_DIR": str(work / name) for name in ("GLOBAL", "LOCAL")}
    run([*zig, *executable.FLAGS, "-o", work / "cni", executable.SOURCE], env=folders)


def reference_plugins(architecture: str) -> list[Path]:
    """The CNI project's reference plugins, built if they are missing. Raises IOFailure."""
    names = list(go_build.REFERENCE_PLUGINS)
    if architecture == oci.architecture():
        binaries.provide(names)
        folder = binaries.cni_plugins()
    else:
        folder = _foreign_plugins(names, architecture)
    return [folder / name for name in sorted(names)]


def _foreign_plugins(names: list[str], architecture: str) -> Path:
    folder = binaries.cache() / "programs" / go_build.key(go_build.MODULE) / f"cni-{architecture}"
    if not folder.exists():
        with binaries.scratch_folder(binaries.cache()) as work:
            print_progress(f"building the reference plugins for {architecture} (the first time several minutes)")
            go_build.build(names, work / "cni", binaries.cache(), architecture)
            binaries.publish(work / "cni", folder)
    return folder


def go_modules(program: Path) -> list[tuple[str, str]]:
    """The Go modules in a program, with their versions; Go itself as ``stdlib``."""
    listed = output([go_build.GO, "version", "-m", program])
    found = [line.split() for line in listed.splitlines()[1:]]
    modules = [(words[1], words[2]) for words in found if words[0] == "dep"]
    return [("stdlib", listed.splitlines()[0].split()[-1].removeprefix("go")), *modules]

"""Makes the images of the lab's pods as OCI archives, from programs of this machine: no registry is needed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from spiderpool_lab import binaries
from spiderpool_lab.commands import run

COREDNS = "registry.k8s.io/coredns/coredns:v1.15.0"
_APPLETS = (
    *("sh", "cat", "ls", "tar", "nslookup", "sleep", "wget", "touch", "kill", "ps", "true", "false", "test", "ip"),
    *("date", "echo", "nc", "grep", "head", "tail", "mkdir", "rm", "id", "hostname", "env", "printf", "stat", "dd"),
)
_SOURCES = Path(__file__).parent


def archives() -> list[Path]:
    """The archives of the images that the lab's pods use, made if they are missing."""
    pause = _archive("registry.k8s.io/pause:3.10", {"pause": _compiled("pause")}, ["/pause"])
    files = {"pod-server": _compiled("pod_server"), "bin/busybox": _busybox()}
    server = _archive("docker.io/centos/tools:latest", files, ["/pod-server"])
    coredns = _archive(COREDNS, {"coredns": binaries.find("coredns")}, ["/coredns"])
    return [pause, server, coredns]


def _busybox() -> Path:
    """The busybox of the Debian package busybox-static, unpacked once."""
    program = binaries.cache() / "busybox-static/bin/busybox"
    if not program.exists():
        folder = program.parents[1]
        folder.mkdir(parents=True, exist_ok=True)
        run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "busybox-static"], cwd=folder)
        run(["dpkg", "-x", *folder.glob("*.deb"), folder])
    return program


def _compiled(name: str) -> Path:
    source = _SOURCES / f"{name}.c"
    target = binaries.cache() / "images" / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        command = ["gcc", "-static", "-Os", "-s", "-o", str(target), str(source)]
        subprocess.run(command, check=True, timeout=60)
    return target


def _archive(name: str, files: dict[str, Path], entrypoint: list[str]) -> Path:
    identity = hashlib.sha256(repr((name, entrypoint, [(key, _digest(file)) for key, file in files.items()])).encode())
    target = binaries.cache() / "images" / f"{name.replace('/', '_').replace(':', '_')}-{identity.hexdigest()[:16]}.tar"
    if not target.exists():
        draft = target.with_suffix(f".{os.getpid()}")
        _write(draft, name, _layer(files), entrypoint)
        draft.replace(target)
    return target


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _layer(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for name, file in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, file.stat().st_size
            with file.open("rb") as content:
                layer.addfile(entry, content)
        if "bin/busybox" in files:
            for applet in _APPLETS:
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                layer.addfile(entry)
        for folder in ("tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            layer.addfile(entry)
    return buffer.getvalue()


def _write(target: Path, name: str, layer: bytes, entrypoint: list[str]) -> None:
    with tarfile.open(target, "w") as archive:

        def add(data: bytes) -> dict[str, Any]:
            digest = hashlib.sha256(data).hexdigest()
            _add(archive, f"blobs/sha256/{digest}", data)
            return {"digest": f"sha256:{digest}", "size": len(data)}

        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "Env": ["PATH=/usr/bin:/bin:/usr/sbin:/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
        kind = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": {"mediaType": f"{kind}.config.v1+json", **add(json.dumps(config).encode())},
            "layers": [{"mediaType": f"{kind}.layer.v1.tar", **add(layer)}],
        }
        entry = {
            "mediaType": f"{kind}.manifest.v1+json",
            **add(json.dumps(manifest).encode()),
            "annotations": {"io.containerd.image.name": name},
        }
        index = {"schemaVersion": 2, "manifests": [entry]}
        _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(archive, "index.json", json.dumps(index).encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from spiderpool.errors import IOFailure
from spiderpool_lab import oci

pytestmark = pytest.mark.unit


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer.tar"
    with oci.LayerWriter(path) as writer:
        writer.file("/etc/hello", "hello\n")
        writer.file("/usr/bin/run", b"#!/bin/sh\n", 0o755)
        writer.link("/run", "usr/bin/run")
        writer.file("/etc/hello", "not this one\n")
    return path


def entries(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as opened:
        return {entry.name: entry for entry in opened}


def content(path: Path, name: str) -> bytes:
    with tarfile.open(path) as opened:
        extracted = opened.extractfile(name)
        assert extracted
        return extracted.read()


def test_a_layer_has_the_parents_of_its_files_and_the_first_of_each_path(layer: Path) -> None:
    found = entries(layer)
    assert list(found) == ["etc", "etc/hello", "usr", "usr/bin", "usr/bin/run", "run"]
    assert found["etc"].isdir()
    assert found["usr/bin/run"].mode == 0o755
    assert found["run"].linkname == "usr/bin/run"
    assert content(layer, "etc/hello") == b"hello\n"


def debian_package(folder: Path, files: dict[str, str]) -> Path:
    tree = folder / "tree"
    for path, text in {"DEBIAN/control": CONTROL, **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / "bin/also").hardlink_to(tree / "bin/tool")
    deb = folder / "tool.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True)
    return deb


CONTROL = "Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: a tool\n"


def test_a_package_is_merged_into_usr_without_its_documentation(tmp_path: Path) -> None:
    deb = debian_package(tmp_path, {"bin/tool": "tool\n", "usr/share/doc/tool/copyright": "free\n"})
    path = tmp_path / "layer.tar"
    with oci.LayerWriter(path) as writer:
        writer.merged_folders()
        writer.package(deb)
    found = entries(path)
    assert found["bin"].linkname == "usr/bin"
    assert {name for name in found if "tool" in name or "also" in name} == {"usr/bin/tool", "usr/bin/also"}
    assert content(path, "usr/bin/tool") == content(path, "usr/bin/also") == b"tool\n"


def test_a_package_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.deb").write_text("nothing")
    with oci.LayerWriter(tmp_path / "layer.tar") as writer, pytest.raises(IOFailure, match=r"broken\.deb cannot be"):
        writer.package(tmp_path / "broken.deb")


def read_blob(archive: Path, descriptor: dict[str, Any]) -> bytes:
    """A blob, after its size and digest have been compared with its descriptor."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    data = content(archive, f"blobs/{algorithm}/{digest}")
    assert len(data) == descriptor["size"]
    assert hashlib.new(algorithm, data).hexdigest() == digest
    return data


def test_an_archive_holds_an_image_under_all_its_names(layer: Path, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    config = oci.Config(["/run"], ["now"], {"HOME": "/"})
    digest = oci.write_archive(archive, ["example.com/a:1", "example.com/b:1"], [oci.Platform([layer, layer], config)])
    assert json.loads(content(archive, "oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    manifests = json.loads(content(archive, "index.json"))["manifests"]
    assert [entry["annotations"][oci.NAME_ANNOTATION] for entry in manifests] == ["example.com/a:1", "example.com/b:1"]
    assert manifests[0]["digest"] == manifests[1]["digest"] == digest
    manifest = json.loads(read_blob(archive, manifests[0]))
    assert [read_blob(archive, described) for described in manifest["layers"]] == [layer.read_bytes()] * 2
    described = json.loads(read_blob(archive, manifest["config"]))
    assert described["rootfs"]["diff_ids"] == [blob["digest"] for blob in manifest["layers"]]
    assert described["config"] == {"Entrypoint": ["/run"], "Cmd": ["now"], "Env": ["HOME=/"], "WorkingDir": "/"}


def test_equal_input_makes_equal_bytes(layer: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        oci.write_archive(tmp_path / name, ["example.com/a:1"], [oci.Platform([layer], oci.Config())])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "a").read_bytes())) as archive:
        assert len(archive.getnames()) == 5


def test_an_image_for_several_architectures_is_an_index_whose_parts_share_blobs(layer: Path, tmp_path: Path) -> None:
    compressed = tmp_path / "layer.tar.gz"
    compressed.write_bytes(gzip.compress(layer.read_bytes(), mtime=0))
    config = oci.Config(["/run"], user="1:1", labels={"a": "b"}, created="2026-01-02T03:04:05Z")
    platforms = [oci.Platform([compressed], config, name) for name in ("amd64", "arm64")]
    archive = tmp_path / "image.tar"
    digest = oci.write_archive(archive, ["example.com/a:1"], platforms)
    (entry,) = json.loads(content(archive, "index.json"))["manifests"]
    assert entry["annotations"] == {oci.NAME_ANNOTATION: "example.com/a:1", oci.TAG_ANNOTATION: "1"}
    assert (entry["digest"], entry["mediaType"]) == (digest, "application/vnd.oci.image.index.v1+json")
    manifests = json.loads(read_blob(archive, entry))["manifests"]
    assert [each["platform"]["architecture"] for each in manifests] == ["amd64", "arm64"]
    for described in manifests:
        manifest = json.loads(read_blob(archive, described))
        (blob,) = manifest["layers"]
        assert blob["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
        assert gzip.decompress(read_blob(archive, blob)) == layer.read_bytes()
        read = json.loads(read_blob(archive, manifest["config"]))
        assert read["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer.read_bytes()).hexdigest()}"]
        assert (read["config"]["User"], read["config"]["Labels"], read["created"]) == (
            "1:1",
            {"a": "b"},
            config.created,
        )
    with tarfile.open(archive) as opened:
        assert len(opened.getnames()) == 8  # two configurations, two manifests, and what both share


def test_a_tree_is_written_in_order_without_rights_of_users(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/su").write_text("su")
    (root / "usr/bin/su").chmod(0o4755)
    (root / "bin").symlink_to("usr/bin")
    with oci.LayerWriter(tmp_path / "layer.tar") as writer:
        writer.tree(root)
    found = entries(tmp_path / "layer.tar")
    assert list(found) == ["bin", "usr", "usr/bin", "usr/bin/su"]
    assert found["bin"].linkname == "usr/bin"
    assert found["usr/bin/su"].mode == 0o755
    assert {(each.uid, each.gid, each.mtime) for each in found.values()} == {(0, 0, 0)}

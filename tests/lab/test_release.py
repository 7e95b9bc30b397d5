"""A release: what is refused, that its checksums are right, and that equal commits give equal files."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from spiderpool import __version__
from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab.chart import CHART
from spiderpool_lab.product import checkout
from spiderpool_lab.product.checkout import Commit
from spiderpool_lab.product.release import SUMS, assemble, chart_package, check, described, packages, repack

CHANGELOG = "# Changes\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n\n- It works.\n\n## [1.2.2] - 2026-01-01\n"
COMMIT = Commit("0" * 40, "2026-01-02T03:04:05Z")


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout without changes, of which version 1.2.3 can be released."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name, text in {"CHANGELOG.md": CHANGELOG, ".gitignore": "/dist/\n", "code.py": ""}.items():
        (root / name).write_text(text)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "All")
    return root


@pytest.mark.unit
def test_the_files_of_a_former_commit_are_exported(root: Path, tmp_path: Path) -> None:
    former = checkout.commit_of("HEAD", root)
    (root / "code.py").write_text("later")
    git(root, "commit", "--quiet", "--all", "--message", "Later")
    assert checkout.has_commit(former, root)
    assert not checkout.has_commit("1" * 40, root)
    checkout.export(former, tmp_path / "former", root)
    assert sorted(path.name for path in tmp_path.glob("former/*")) == [".gitignore", "CHANGELOG.md", "code.py"]
    assert (tmp_path / "former/code.py").read_text() == ""
    with pytest.raises(IOFailure):
        checkout.export("1" * 40, tmp_path / "absent", root)


@pytest.mark.unit
class TestRefusals:
    def test_a_commit_with_a_described_version_is_released(self, root: Path) -> None:
        (root / "dist").mkdir()
        (root / "dist/ignored").touch()
        check(root, "1.2.3", allow_dirty=False)

    @pytest.mark.parametrize("name", ["code.py", "new.py"])
    def test_a_change_is_named_unless_it_is_allowed(self, root: Path, name: str) -> None:
        (root / name).write_text("changed")
        with pytest.raises(BadConfig, match=rf"files have changed: {name}; commit them, or set ALLOW_DIRTY=1"):
            check(root, "1.2.3", allow_dirty=False)
        check(root, "1.2.3", allow_dirty=True)

    def test_a_change_that_is_to_be_committed_is_one(self, root: Path) -> None:
        (root / "code.py").unlink()
        git(root, "add", "--all")
        with pytest.raises(BadConfig, match=r"files have changed: code\.py;"):
            check(root, "1.2.3", allow_dirty=False)

    def test_of_many_changes_some_are_named(self, root: Path) -> None:
        for number in range(5):
            (root / f"new{number}").touch()
        with pytest.raises(BadConfig, match=r"files have changed: new0, new1, new2 and 2 more;"):
            check(root, "1.2.3", allow_dirty=False)

    def test_nothing_is_released_of_a_folder_without_a_commit(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "--quiet")
        with pytest.raises(IOFailure, match="git knows no commit in"):
            check(tmp_path, "1.2.3", allow_dirty=False)

    def test_a_version_that_nothing_is_said_of_is_refused(self, root: Path) -> None:
        with pytest.raises(
            BadConfig, match=r"does not say what version 1\.2\.4 brings: write a section '## \[1\.2\.4\]"
        ):
            check(root, "1.2.4", allow_dirty=True)

    def test_a_version_that_is_another_commit_already_is_refused(self, root: Path) -> None:
        git(root, "tag", "--annotate", "--message", "1.2.3", "v1.2.3")
        check(root, "1.2.3", allow_dirty=False)
        git(root, "commit", "--quiet", "--allow-empty", "--message", "More")
        with pytest.raises(BadConfig, match=r"that of the tag v1\.2\.3: raise the version"):
            check(root, "1.2.3", allow_dirty=False)

    @pytest.mark.parametrize(
        ("version", "expected"), [("1.2.3", True), ("1.2.2", False), ("1.2", False), ("1x2.3", False), ("2.3", False)]
    )
    def test_a_section_has_the_version_and_a_text(self, version: str, expected: bool) -> None:
        assert described(CHANGELOG, version) is expected

    def test_a_section_without_a_date_is_not_yet_released(self) -> None:
        assert not described("## [1.2.3]\n\n- It works.\n", "1.2.3")

    def test_our_own_changelog_has_this_version_below_what_is_not_released(self) -> None:
        text = (checkout.ROOT / "CHANGELOG.md").read_text()
        assert described(text, __version__)
        assert 0 < text.index("\n## [Unreleased]\n") < text.index(f"\n## [{__version__}]")


def two_files(folder: Path) -> None:
    (folder / "b.tar").write_bytes(b"image")
    (folder / "a.whl").write_bytes(b"wheel")


def failing(folder: Path) -> None:
    (folder / "half").touch()
    raise IOFailure("no network")


@pytest.mark.unit
class TestFolder:
    def test_sha256sum_checks_every_file(self, tmp_path: Path) -> None:
        target = tmp_path / "dist/release"
        assemble(target, [two_files])
        done = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=target, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "a.whl: OK\nb.tar: OK\n")
        (target / "a.whl").write_bytes(b"another")
        assert subprocess.run(["sha256sum", "--check", SUMS], cwd=target, capture_output=True).returncode == 1

    def test_nothing_of_the_former_release_is_left(self, tmp_path: Path) -> None:
        target = tmp_path / "release"
        assemble(target, [lambda folder: (folder / "former.whl").touch()])
        assemble(target, [two_files])
        assert {path.name for path in target.iterdir()} == {"a.whl", "b.tar", SUMS}
        assert [path.name for path in tmp_path.iterdir()] == ["release"]

    @pytest.mark.parametrize(
        "name", ["file.txt", "sub/file", pytest.param("", id="no checksums"), pytest.param("a.whl", id="less")]
    )
    def test_a_folder_of_anything_else_is_refused_and_stays(self, tmp_path: Path, name: str) -> None:
        target = tmp_path / "release"
        assemble(target, [two_files])
        if name == "a.whl":
            (target / name).unlink()
        elif name:
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).touch()
        else:
            (target / SUMS).unlink()
        before = sorted(target.rglob("*"))
        with pytest.raises(BadConfig, match=rf"^{target} holds something else than a release, .* name a folder that"):
            assemble(target, [failing])
        assert sorted(target.rglob("*")) == before

    def test_what_somebody_puts_there_meanwhile_stays(self, tmp_path: Path) -> None:
        target = tmp_path / "release"
        target.mkdir()
        with pytest.raises(BadConfig, match="holds something else than a release"):
            assemble(target, [two_files, lambda _: (target / "notes").touch()])
        assert [path.name for path in target.iterdir()] == ["notes"]

    def test_a_file_is_refused_and_an_empty_folder_is_not(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(BadConfig, match="holds something else than a release"):
            assemble(tmp_path / "file", [two_files])
        (tmp_path / "empty").mkdir()
        assemble(tmp_path / "empty", [two_files])
        assert (tmp_path / "empty" / SUMS).exists()

    def test_the_former_release_stays_if_a_part_fails(self, tmp_path: Path) -> None:
        target = tmp_path / "release"
        assemble(target, [two_files])
        with pytest.raises(IOFailure, match="no network"):
            assemble(target, [two_files, failing])
        assert {path.name for path in target.iterdir()} == {"a.whl", "b.tar", SUMS}
        assert [path.name for path in tmp_path.iterdir()] == ["release"]


def packed(target: Path, seconds: int) -> Path:
    """A package of a chart whose files have a date."""
    source = target.parent / "Chart.yaml"
    source.write_text("name: c\n")
    with tarfile.open(target, "w:gz") as archive:
        entry = archive.gettarinfo(source, "c/Chart.yaml")
        entry.mtime = seconds
        with source.open("rb") as content:
            archive.addfile(entry, content)
    return target


@pytest.mark.unit
def test_packages_of_two_checkouts_of_a_chart_are_equal(tmp_path: Path) -> None:
    one, other = packed(tmp_path / "one.tgz", 1), packed(tmp_path / "other.tgz", 2)
    assert one.read_bytes() != other.read_bytes()
    for package in (one, other):
        repack(package, 1767323045)
    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as archive:
        (entry,) = archive
        content = archive.extractfile(entry)
        assert content
        assert (entry.name, entry.mtime, content.read()) == ("c/Chart.yaml", 1767323045, b"name: c\n")


@pytest.mark.unit
def test_what_git_ignores_by_any_list_is_not_copied(root: Path, tmp_path: Path) -> None:
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/exclude").write_text("*.local\n")
    for name in ("code.py", "new.py", "secret.local", "dist/built.py"):
        (root / "charts" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "charts" / name).touch()
    (root / ".gitignore").write_text("dist/\n")
    (root / "code.py").unlink()
    checkout.copy(["charts", "code.py"], tmp_path / "copy", root)
    copied = (path for path in (tmp_path / "copy").rglob("*") if path.is_file())
    assert {str(path.relative_to(tmp_path / "copy")) for path in copied} == {"charts/code.py", "charts/new.py"}


@pytest.mark.unit
def test_a_tree_without_git_is_copied_whole(root: Path, tmp_path: Path) -> None:
    checkout.export(checkout.commit_of("HEAD", root), tmp_path / "former", root)
    checkout.copy(["code.py", ".gitignore"], tmp_path / "copy", tmp_path / "former")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"code.py", ".gitignore"}


@pytest.mark.unit
def test_the_chart_is_packed_without_what_git_ignores(root: Path, tmp_path: Path) -> None:
    shutil.copytree(CHART, root / "charts/spiderpool")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Chart")
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/exclude").write_text("*.local\n")
    (root / "charts/spiderpool/templates/secret.local").write_text("mine")
    chart_package(tmp_path, COMMIT, root)
    with tarfile.open(tmp_path / f"spiderpool-{__version__}.tgz") as package:
        assert "spiderpool/templates/secret.local" not in (names := package.getnames())
    assert {"spiderpool/Chart.yaml", "spiderpool/values.yaml", "spiderpool/values.schema.json"} <= {*names}


@pytest.mark.unit
@pytest.mark.full
def test_two_releases_of_one_commit_are_equal(tmp_path: Path) -> None:
    """But for the images, of which test_product_images.py shows it."""
    one, other = tmp_path / "one", tmp_path / "other"
    for target in (one, other):
        assemble(target, packages(COMMIT))
    assert (one / SUMS).read_text() == (other / SUMS).read_text()
    assert {path.name for path in one.iterdir()} == {
        SUMS,
        f"spiderpool-{__version__}-py3-none-any.whl",
        f"spiderpool-{__version__}.tar.gz",
        f"spiderpool-{__version__}.tgz",
        f"spiderpool-{__version__}.cdx.json",
    }
    assert zipfile.is_zipfile(one / f"spiderpool-{__version__}-py3-none-any.whl")

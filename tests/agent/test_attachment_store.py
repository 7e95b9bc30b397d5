"""The files that tell which sandboxes have interfaces on this node."""

from __future__ import annotations

import os
import time
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from spiderpool.agent.attachment_store import (
    AttachmentStore,
    InterfaceRecord,
    SandboxRecord,
    own_netns,
    with_namespace,
)
from spiderpool.core.network.coordinator import OwnCIDRs
from spiderpool.core.network.plumbing.values import Loan
from spiderpool.errors import IOFailure

pytestmark = pytest.mark.unit

TWO = SandboxRecord(
    "c1",
    "/run/netns/x",
    "K8S_POD_NAME=p",
    (InterfaceRecord("eth0", "ns/a", coordinated=True), InterfaceRecord("net1", "ns/b")),
)


def test_what_was_saved_is_found_again(tmp_path: Path) -> None:
    known = AttachmentStore(tmp_path / "sandboxes")
    assert known.load("c1") is None
    assert list(known.all()) == []
    known.save(TWO)
    known.save(TWO)
    assert known.load("c1") == TWO
    assert list(AttachmentStore(tmp_path / "sandboxes").all()) == [TWO]
    known.forget("c1")
    known.forget("c1")
    assert known.load("c1") is None


def test_a_file_of_an_older_agent_names_no_cidrs(tmp_path: Path) -> None:
    known, own = AttachmentStore(tmp_path), OwnCIDRs(service=("10.8.0.0/16",), overlay=())
    (interface, _) = TWO.interfaces
    named = msgspec.structs.replace(TWO, interfaces=(msgspec.structs.replace(interface, cidrs=own),))
    known.save(named)
    assert known.load("c1") == named
    document = msgspec.json.decode((tmp_path / "c1.json").read_bytes())
    del document["interfaces"][0]["cidrs"]
    (tmp_path / "c1.json").write_bytes(msgspec.json.encode(document))
    found = known.load("c1")
    assert found is not None
    assert found.interfaces == (interface,)


def test_addresses_and_loans_are_the_agents_own_record(tmp_path: Path) -> None:
    known, loan = AttachmentStore(tmp_path), Loan("vf3", permanent_mac="00:16:3e:00:00:03")
    known.save(TWO.with_addresses({"eth0": ["10.0.0.5/24", "fd00::5/64"]}).with_loan("net1", loan))
    found = known.load("c1")
    assert found is not None
    assert found.loans == {"net1": loan}
    assert found.interfaces[0].given == {ip_address("10.0.0.5"), ip_address("fd00::5")}
    assert found.interfaces[1].given == frozenset()


def test_identifiers_longer_than_a_file_name(tmp_path: Path) -> None:
    known = AttachmentStore(tmp_path)
    long = SandboxRecord("c" * 300, "/ns", "", ())
    known.save(long)
    assert known.load("c" * 300) == long


def test_a_torn_file_is_passed_over_and_others_are_told(tmp_path: Path) -> None:
    known = AttachmentStore(tmp_path)
    known.save(TWO)
    (tmp_path / "c0.json").write_text('{"container_id"')
    assert list(known.all()) == [TWO]
    assert known.load("c0") is None


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known = AttachmentStore(tmp_path / "file")
    with pytest.raises(IOFailure, match="cannot be written"):
        known.save(TWO)
    with pytest.raises(IOFailure, match="cannot be removed"):
        known.forget("c1")
    (tmp_path / "c2.json").mkdir()
    with pytest.raises(IOFailure, match=r"c2\.json cannot be read"):
        AttachmentStore(tmp_path).load("c2")


def sandbox(container: str, path: Path) -> SandboxRecord:
    """The record of a sandbox that is attached now."""
    return with_namespace(SandboxRecord(container, str(path), "", ()))


def namespace(path: Path, kind: str = "net") -> Path:
    """A path to a namespace; those of other kinds stand for further network namespaces."""
    path.unlink(missing_ok=True)
    path.symlink_to(f"/proc/self/ns/{kind}")
    return path


def test_a_path_that_leads_to_another_namespace_is_not_the_sandboxes(tmp_path: Path) -> None:
    namespace(tmp_path / "netns")
    former = sandbox("c1", tmp_path / "netns")
    assert own_netns(former, former.netns, [former]) == former.netns
    namespace(tmp_path / "netns", "mnt")
    assert (own_netns(former, former.netns, [former]), own_netns(former, "", [])) == ("", "")
    assert own_netns(former, str(tmp_path / "gone"), []) == str(tmp_path / "gone")


def test_of_two_sandboxes_with_one_namespace_the_later_one_has_it(tmp_path: Path) -> None:
    namespace(tmp_path / "netns")
    former, later = sandbox("c1", tmp_path / "netns"), sandbox("c2", tmp_path / "netns")
    unknown = SandboxRecord("c3", former.netns, "", ())
    everyone = [former, later]
    assert [own_netns(one, one.netns, everyone) for one in (*everyone, unknown)] == ["", later.netns, ""]
    elsewhere = msgspec.structs.replace(later, netns_id="1:2")  # its namespace is gone, the path is used again
    assert own_netns(former, former.netns, [former, elsewhere]) == former.netns


def test_a_sandbox_is_left_when_its_path_is_anothers(tmp_path: Path) -> None:
    is_left = AttachmentStore(tmp_path).is_left
    here = sandbox("c3", namespace(tmp_path / "netns"))
    assert not is_left(here, [here])
    assert is_left(here, [here, with_namespace(msgspec.structs.replace(here, container_id="c4"))])
    namespace(tmp_path / "netns", "mnt")
    assert is_left(here, [here])


def test_a_sandbox_is_not_left_where_its_mount_point_alone_is_seen(tmp_path: Path) -> None:
    """As when the folder of namespaces has been unmounted, or is not mounted so that later mounts are seen."""
    here = sandbox("c", namespace(tmp_path / "netns"))
    (tmp_path / "netns").unlink()
    (tmp_path / "netns").touch()
    assert not AttachmentStore(tmp_path).is_left(here, [here])


def test_drafts_of_writers_that_died_are_removed(tmp_path: Path) -> None:
    known = AttachmentStore(tmp_path)
    known.remove_drafts()
    for name, age in (("old.17", 3600), ("young.18", 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    known.save(TWO)
    known.remove_drafts()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c1.json", "young.18"]

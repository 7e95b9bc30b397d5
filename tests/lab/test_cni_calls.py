"""The recorder calls the real executable unchanged, and its records are read back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from spiderpool_lab.cni_calls import parse
from spiderpool_lab.executable import build_recorder

pytestmark = pytest.mark.unit

PROGRAM = """#!/bin/sh
echo "$CNI_COMMAND of $(basename "$0"): $(cat)"
exit 3
"""


def call(recorder: Path, command: str, request: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [recorder],
        input=request,
        env={"CNI_COMMAND": command, "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    program = tmp_path / "cni"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return build_recorder(program, tmp_path / "records").rename(tmp_path / "spiderpool-attach")


def test_a_call_is_passed_on_and_recorded(recorder: Path) -> None:
    arguments = "K8S_POD_UID=u;K8S_POD_NAME=web;K8S_POD_NAMESPACE=default"
    request = '{"cniVersion": "1.0.0", "name": "n", "type": "t"}'
    done = call(recorder, "ADD", request, CNI_CONTAINERID="c1", CNI_NETNS="/n", CNI_ARGS=arguments)
    assert done == (3, f"ADD of cni: {request}\n")
    call(recorder, "DEL", '{"prevResult": {}}', CNI_NETNS="")
    add, delete = parse((recorder.parent / "records").read_bytes())
    assert (add.plugin, add.shape, add.pod, add.uid) == ("spiderpool-attach", "ADD netns!", "default/web", "u")
    assert (add.arguments, add.keys) == (
        ("K8S_POD_UID", "K8S_POD_NAME", "K8S_POD_NAMESPACE"),
        ("cniVersion", "name", "type"),
    )
    assert add.variables == ("CNI_ARGS", "CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS")
    assert 0 < add.ended - add.started < 10
    assert delete.shape == "DEL result!"
    assert add.addresses == ()


def test_the_addresses_of_a_result_are_recorded(recorder: Path) -> None:
    answer = '{"ips": [{"address": "10.0.0.2/24"}, {"address": "fd00::2/64"}]}'
    program = recorder.parent / "cni"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")
    assert call(recorder, "ADD", "{}") == (0, f"{answer}\n")
    (add,) = parse((recorder.parent / "records").read_bytes())
    assert (add.addresses, add.shape) == (("10.0.0.2", "fd00::2"), "ADD")


def test_a_record_that_was_cut_off_ends_the_file(recorder: Path) -> None:
    call(recorder, "STATUS", "{}")
    content = (recorder.parent / "records").read_bytes()
    assert [found.shape for found in parse(content + content[:-1])] == ["STATUS!"]

"""Plugins that are executed: what they read, in which order, and what becomes of their failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spiderpool.agent.delegates import DelegateExecutor
from spiderpool.core.network.chains import DelegatedNetwork, Invocation
from spiderpool.errors import PluginFailure, SpiderpoolError, UnknownPlugin

pytestmark = pytest.mark.unit

ABOUT = Invocation(
    "c1", "/run/netns/x", "net1", "K8S_POD_NAME=p", {"ips": ["10.0.0.7"], "bandwidth": {"ingressRate": 1}}, {"k": "v"}
)
TELLING = """#!/bin/sh
config=$(cat)
printf '{"plugin": "%s", "command": "%s", "ifname": "%s", "args": "%s", "config": %s}\\n' \
    "${0##*/}" "$CNI_COMMAND" "$CNI_IFNAME" "$CNI_ARGS" "$config" >> "${0%/*}/calls"
"""
ADDING = (
    TELLING
    + """[ "$CNI_COMMAND" = ADD ] && echo "{\\"cniVersion\\": \\"0.4.0\\", \\"by\\": \\"${0##*/}\\"}"
exit 0
"""
)
FAILING = (
    TELLING
    + """echo '{"cniVersion": "0.4.0", "code": 7, "msg": "no such bridge", "details": "br9"}'
exit 1
"""
)


class Folder:
    """A directory of executables that note how they were called."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, name: str, script: str) -> None:
        (self.path / name).write_text(script)
        (self.path / name).chmod(0o755)

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "calls").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def delegates(folder: Folder) -> DelegateExecutor:
    return DelegateExecutor((folder.path,), Path("/run/agent.sock"))


def network(*plugins: dict[str, Any]) -> DelegatedNetwork:
    return DelegatedNetwork("net", "0.4.0", tuple(json.dumps(each).encode() for each in plugins))


def chain() -> DelegatedNetwork:
    return network({"type": "first", "capabilities": {"ips": True}, "args": {"cni": {"a": 1}}}, {"type": "second"})


async def test_each_reads_its_configuration_and_what_came_before(folder: Folder) -> None:
    for name in ("first", "second"):
        folder.install(name, ADDING)
    result = await delegates(folder).add(chain(), ABOUT)

    assert json.loads(result) == {"cniVersion": "0.4.0", "by": "second"}
    one, two = folder.calls()
    assert [each["plugin"] for each in (one, two)] == ["first", "second"]
    assert (one["command"], one["ifname"], one["args"]) == ("ADD", "net1", "K8S_POD_NAME=p")
    assert one["config"] == {
        "type": "first",
        "capabilities": {"ips": True},
        "name": "net",
        "cniVersion": "0.4.0",
        "runtimeConfig": {"ips": ["10.0.0.7"]},
        "args": {"cni": {"a": 1, "k": "v"}},
    }
    assert two["config"]["prevResult"] == {"cniVersion": "0.4.0", "by": "first"}
    assert "runtimeConfig" not in two["config"]


async def test_a_failure_ends_the_addition_and_says_what_the_plugin_said(folder: Folder) -> None:
    folder.install("first", FAILING)
    folder.install("second", ADDING)
    with pytest.raises(PluginFailure, match="ADD of plugin first: no such bridge br9"):
        await delegates(folder).add(chain(), ABOUT)
    assert [each["plugin"] for each in folder.calls()] == ["first"]


async def test_a_deletion_asks_all_last_first_and_tells_the_first_failure(folder: Folder) -> None:
    folder.install("first", ADDING)
    folder.install("second", FAILING)
    with pytest.raises(PluginFailure, match="DEL of plugin second"):
        await delegates(folder).delete(chain(), ABOUT, b'{"cniVersion": "0.4.0"}')
    assert [each["plugin"] for each in folder.calls()] == ["second", "first"]
    assert [each["config"]["prevResult"] for each in folder.calls()] == [{"cniVersion": "0.4.0"}] * 2


async def test_check_shows_every_plugin_the_final_result(folder: Folder) -> None:
    folder.install("first", ADDING)
    folder.install("second", ADDING)
    await delegates(folder).check(chain(), ABOUT, b'{"by": "second"}')
    assert [(each["plugin"], each["command"]) for each in folder.calls()] == [("first", "CHECK"), ("second", "CHECK")]
    assert folder.calls()[0]["config"]["prevResult"] == {"by": "second"}


async def test_check_is_left_out_where_it_cannot_be_or_is_not_wanted(folder: Folder) -> None:
    folder.install("first", FAILING)
    older = DelegatedNetwork("net", "0.3.1", (b'{"type": "first"}',))
    unwanted = DelegatedNetwork("net", "1.0.0", (b'{"type": "first"}',), disable_check=True)
    for left_out in (older, unwanted):
        await delegates(folder).check(left_out, ABOUT, b"{}")
    assert not (folder.path / "calls").exists()


async def test_a_deletion_goes_on_where_an_executable_has_gone(folder: Folder) -> None:
    folder.install("first", ADDING)
    with pytest.raises(UnknownPlugin, match="'second'"):
        await delegates(folder).delete(chain(), ABOUT, b"{}")
    assert [each["plugin"] for each in folder.calls()] == ["first"]


async def test_our_own_plugins_find_the_agent_again(folder: Folder) -> None:
    folder.install("first", '#!/bin/sh\ncat >/dev/null\necho "{\\"socket\\": \\"$SPIDERPOOL_SOCKET\\"}"\n')
    result = await delegates(folder).add(network({"type": "first"}), ABOUT)
    assert json.loads(result) == {"socket": "/run/agent.sock"}


async def test_nothing_is_begun_when_an_executable_is_missing(folder: Folder) -> None:
    folder.install("first", ADDING)
    with pytest.raises(UnknownPlugin, match=r"plugin 'second' is not part of this agent.*install it"):
        await delegates(folder).add(chain(), ABOUT)
    assert not (folder.path / "calls").exists()
    with pytest.raises(UnknownPlugin, match=r"'\.\./second'"):
        await delegates(folder).add(network({"type": "../second"}), ABOUT)


async def test_words_that_are_no_error_document_are_told_as_they_are(folder: Folder) -> None:
    folder.install("first", "#!/bin/sh\necho Segmentation fault\nexit 139\n")
    with pytest.raises(PluginFailure, match="first: Segmentation fault"):
        await delegates(folder).add(network({"type": "first"}), ABOUT)
    folder.install("first", '#!/bin/sh\nprintf \'{"msg": "\\377"}\'\nexit 3\n')
    with pytest.raises(PluginFailure, match=r'first: \{"msg": "�"\}'):
        await delegates(folder).add(network({"type": "first"}), ABOUT)
    folder.install("first", "#!/bin/sh\nexit 3\n")
    with pytest.raises(PluginFailure, match="it failed without a word"):
        await delegates(folder).add(network({"type": "first"}), ABOUT)
    folder.install("first", "#!/no/such/interpreter\n")
    with pytest.raises(PluginFailure, match="cannot be executed"):
        await delegates(folder).add(network({"type": "first"}), ABOUT)


async def test_a_device_is_told_under_both_of_its_keys(folder: Folder) -> None:
    folder.install("first", ADDING)
    about = Invocation("c1", "/ns", "net1", "", {"deviceID": "0000:03:02.1"})
    await delegates(folder).add(network({"type": "first"}), about)
    config = folder.calls()[0]["config"]
    assert (config["deviceID"], config["pciBusID"]) == ("0000:03:02.1", "0000:03:02.1")


async def test_one_whose_configuration_is_wrong_keeps_no_other_from_its_del(folder: Folder) -> None:
    folder.install("first", ADDING)
    folder.install("second", ADDING)
    wrong = network({"type": "first"}, {"type": "second", "capabilities": ["ips"]})
    with pytest.raises(SpiderpoolError, match=r"Expected `object \| null`, got `array` - at `\$.capabilities`"):
        await delegates(folder).delete(wrong, ABOUT, b"")
    assert [(call["plugin"], call["command"]) for call in folder.calls()] == [("first", "DEL")]

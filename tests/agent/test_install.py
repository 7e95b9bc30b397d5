"""What the agent puts on its node, as it finds the node's folders in its container, and takes away again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from spiderpool.agent import main
from spiderpool.agent.install import NETWORK_LIST, NOTES, SET_ASIDE, install, network_list, uninstall
from spiderpool.agent.sole_agent import SoleAgent
from spiderpool.errors import BadConfig
from spiderpool.settings import AgentSettings

pytestmark = pytest.mark.unit

SERVED = {"coordinator", "ifacer", "spiderpool", "spiderpool-attach"}
FOREIGN = '{"cniVersion":"1.0.0","name":"before","plugins":[{"type":"bridge"}]}'


@pytest.fixture
def settings(tmp_path: Path) -> AgentSettings:
    """As the chart sets them, with a network of somebody else on the node."""
    image, host = tmp_path / "image", tmp_path / "host"
    plugins = {"bridge": "ours: bridge", "loopback": "ours: loopback"}
    files = {image / "cni": "shim 1", **{image / "plugins" / name: text for name, text in plugins.items()}}
    files |= {host / "etc/cni/net.d/10-before.conflist": FOREIGN, host / "opt/cni/bin/loopback": "theirs"}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return AgentSettings(
        node="n1",
        socket=tmp_path / "run/spiderpool.sock",
        cni_bin_dir=host / "opt/cni/bin",
        cni_conf_dir=host / "etc/cni/net.d",
        cni_executable=image / "cni",
        cni_plugins=image / "plugins",
    )


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def executables(settings: AgentSettings) -> dict[str, str]:
    return {name: text for name, text in files(settings.cni_bin_dir).items() if name != NOTES}


def test_every_plugin_name_is_an_executable_and_the_list_names_the_first(settings: AgentSettings) -> None:
    install(settings)
    assert executables(settings) == {**dict.fromkeys(SERVED, "shim 1"), "loopback": "theirs"}
    assert all(os.access(settings.cni_bin_dir / name, os.X_OK) for name in SERVED)
    assert files(settings.cni_conf_dir) == {
        "10-before.conflist": FOREIGN,
        NETWORK_LIST: network_list(status=False).decode(),
    }
    assert json.loads(network_list(status=False))["plugins"] == [
        {"type": "spiderpool-attach", "capabilities": {"portMappings": True}}
    ]
    assert (settings.cni_conf_dir / NETWORK_LIST).stat().st_mode & 0o777 == 0o644


def test_an_executable_is_replaced_under_the_call_that_runs_it(settings: AgentSettings) -> None:
    install(settings)
    with (settings.cni_bin_dir / "spiderpool").open() as called:
        settings.cni_executable.write_text("shim 2")
        install(settings)
        assert called.read() == "shim 1"
    assert (settings.cni_bin_dir / "spiderpool").read_text() == "shim 2"


def test_what_is_as_it_should_be_is_not_written(settings: AgentSettings) -> None:
    install(settings)
    before = {path: path.stat().st_ino for path in settings.cni_bin_dir.iterdir()}
    install(settings)
    assert {path: path.stat().st_ino for path in settings.cni_bin_dir.iterdir()} == before


def test_the_list_is_not_written_unless_every_executable_is(settings: AgentSettings) -> None:
    (settings.cni_bin_dir / "ifacer").mkdir()  # nothing can take its place
    with pytest.raises(BadConfig, match="cannot be written"):
        install(settings)
    assert {*files(settings.cni_conf_dir)} == {"10-before.conflist"}


def test_a_missing_executable_is_named(settings: AgentSettings) -> None:
    with pytest.raises(BadConfig, match="set SPIDERPOOL_CNI_EXECUTABLE"):
        install(replace(settings, cni_executable=Path("/missing")))


def test_missing_plugins_are_named(settings: AgentSettings) -> None:
    with pytest.raises(BadConfig, match="set SPIDERPOOL_CNI_PLUGINS"):
        install(replace(settings, install_plugins=True, cni_plugins=Path("/missing")))


def test_plugins_come_when_asked_for_beside_those_of_others(settings: AgentSettings) -> None:
    install(replace(settings, install_plugins=True))
    assert executables(settings).items() >= {"bridge": "ours: bridge", "loopback": "theirs"}.items()
    (settings.cni_plugins / "bridge").write_text("ours: bridge, newer")
    install(replace(settings, install_plugins=True))
    assert executables(settings).items() >= {"bridge": "ours: bridge, newer", "loopback": "theirs"}.items()


def test_all_of_ours_goes_and_all_of_others_stays(settings: AgentSettings) -> None:
    before = files(settings.cni_bin_dir), files(settings.cni_conf_dir)
    install(replace(settings, install_plugins=True))
    settings.cni_executable.write_text("shim 2")
    install(settings)  # a newer version, without plugins
    uninstall(settings)
    assert (files(settings.cni_bin_dir), files(settings.cni_conf_dir)) == before
    uninstall(settings)
    assert (files(settings.cni_bin_dir), files(settings.cni_conf_dir)) == before


def test_what_others_have_put_in_our_place_stays(settings: AgentSettings) -> None:
    install(settings)
    (settings.cni_bin_dir / "coordinator").write_text("another product's")
    uninstall(settings)
    assert executables(settings) == {"coordinator": "another product's", "loopback": "theirs"}


def test_an_installation_that_was_interrupted_is_taken_away(settings: AgentSettings) -> None:
    (settings.cni_bin_dir / "spiderpool-attach").mkdir()
    with pytest.raises(BadConfig):
        install(settings)
    (settings.cni_bin_dir / "spiderpool-attach").rmdir()
    assert NOTES in files(settings.cni_bin_dir)
    uninstall(settings)
    assert files(settings.cni_bin_dir) == {"loopback": "theirs"}


def test_damaged_notes_are_none(settings: AgentSettings) -> None:
    install(settings)
    (settings.cni_bin_dir / NOTES).write_text("{")
    install(settings)
    uninstall(settings)
    assert files(settings.cni_bin_dir) == {"loopback": "theirs"}


async def test_nothing_is_taken_away_while_an_agent_works(
    settings: AgentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spiderpool.agent.sole_agent.PATIENCE", 0.0)
    install(settings)
    async with SoleAgent(settings.socket.parent / main.LOCK).held():
        with pytest.raises(Exception, match="another spiderpool-agent of this node still runs"):
            await main.take_away(settings)
        assert NETWORK_LIST in files(settings.cni_conf_dir)
    await main.take_away(settings)
    assert {*files(settings.cni_conf_dir)} == {"10-before.conflist"}


def test_the_program_takes_away(settings: AgentSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "conf.yml"
    config.write_text(f"ipamUnixSocketPath: {settings.socket}\n")
    for name, value in {
        "SPIDERPOOL_NODE_NAME": "n1",
        "SPIDERPOOL_CNI_BIN_DIR": settings.cni_bin_dir,
        "SPIDERPOOL_CNI_CONF_DIR": settings.cni_conf_dir,
        "SPIDERPOOL_CONFIG": config,
    }.items():
        monkeypatch.setenv(name, str(value))
    install(settings)
    main.main(["uninstall"])
    assert executables(settings) == {"loopback": "theirs"}


MULTUS = "00-multus.conf"


def test_a_list_that_comes_before_ours_is_set_aside_and_comes_back(settings: AgentSettings) -> None:
    settings = replace(settings, replaced_lists=(MULTUS, "absent.conf", NETWORK_LIST, f"../net.d/{MULTUS}"))
    (settings.cni_conf_dir / MULTUS).write_text("theirs")
    for _ in range(2):
        install(settings)
        assert sorted(files(settings.cni_conf_dir)) == [f"{MULTUS}{SET_ASIDE}", NETWORK_LIST, "10-before.conflist"]
    uninstall(settings)
    assert files(settings.cni_conf_dir) == {MULTUS: "theirs", "10-before.conflist": FOREIGN}


def test_a_list_that_others_have_made_anew_stays(settings: AgentSettings) -> None:
    settings = replace(settings, replaced_lists=(MULTUS,))
    (settings.cni_conf_dir / MULTUS).write_text("old")
    install(settings)
    (settings.cni_conf_dir / MULTUS).write_text("new")
    uninstall(settings)
    assert files(settings.cni_conf_dir) == {MULTUS: "new", "10-before.conflist": FOREIGN}

"""The commands of pages that need an API server and our controller alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.conftest import install
from tests.controller.conftest import refuses, start_controller, wait
from tests.pages.accounts import PLAYS, Environment
from tests.pages.shell import findings, shell

pytestmark = [
    pytest.mark.control_plane,
    pytest.mark.full,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("public_authorities"),
]

DATA = Path(__file__).with_name("data")
CONFIG = """
enableIPv6: true
podResourceInject: {enabled: true}
"""
"""What pages have switched on."""


@pytest.fixture
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane without anything that other tests have made, and with our controller."""
    directory = tmp_path_factory.mktemp("pages")
    plane = ControlPlane(directory / "control-plane", Processes(directory / "processes"), dual_stack=True)
    plane.start()
    try:
        install(plane)
        running = start_controller(
            plane, directory / "controller", config=CONFIG, SPIDERPOOL_GC_AGENT_GRACE_SECONDS="600"
        )
        try:
            wait(running, lambda: running.is_ready and refuses(plane), "webhooks not in use")
            yield plane
        finally:
            running.kill()
    finally:
        plane.stop()


@pytest.mark.parametrize(
    "environment", [Environment.API_SERVER, Environment.ANOTHER_API_SERVER], ids=lambda each: each.name.lower()
)
def test_commands_of_pages_print_what_the_pages_show(
    environment: Environment, plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wrong = []
    for play in PLAYS:
        if play.environment is environment:
            wrong += findings(play, shell(tmp_path_factory.mktemp("page"), plane.admin_kubeconfig, DATA=str(DATA)))
    assert not wrong, "\n\n".join(wrong)

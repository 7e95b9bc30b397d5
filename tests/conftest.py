"""The order of all tests, and the API server that many of them share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from structlog._config import BoundLoggerLazyProxy
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]
from xdist.workermanage import NodeManager, WorkerController  # type: ignore[import-untyped]

from spiderpool_lab import chart, namespaces
from spiderpool_lab.audit import calls
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes

NOT_HERE = ("release-policy.yaml",)
"""Templates that tests do without: the policy that keeps administrators from deleting SpiderIPs, as tests do."""

TEARDOWN_TIMEOUT = 60
"""Seconds that workers get to take down what they made when the run is interrupted."""

GROUPS = (
    ("agent",),
    ("controller",),
    ("kube", "cli"),
    ("simulation", "chart"),
    ("security",),
    ("cloud", "cloudcontroller"),
    ("kernel", "fuzzing"),
    ("monitoring",),
    ("compat",),
)
"""Folders whose tests run in order on one worker, those first that take longest.

A worker has one API server (`control_plane`) for all its groups: tests of one folder may not run in two workers at once
because they share objects in it. Each file of LABS has labs of its own, and is a group for itself; those of SHARED_LAB
share one. Any other file is a group for itself as well: it takes seconds, and fills what time is left at the end.
"""

PUBLIC_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""The variables that name the certificates of public authorities to OpenSSL."""
INHERITED = "INHERITED_"
"""Begins the variables that keep what these were, also for workers, which get what they have become; empty: unset."""

EXAMPLES, ALL_EXAMPLES = 40, 100
"""Examples of a property that says no number of its own: in each run, and in one with ``--full``."""

LABS = "tests/lab/"
SHARED_LAB = f"{LABS}discovered/"


def log_plain_tracebacks() -> None:
    """Log tracebacks without the values of all variables, which may take minutes to print."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])


def group_of(nodeid: str) -> int:
    """The index of a test's group in GROUPS; less for labs, one more for the rest."""
    if nodeid.startswith(LABS):
        return -1
    folder = nodeid.split("/")[1]
    return next((index for index, folders in enumerate(GROUPS) if folder in folders), len(GROUPS))


def scope_of(nodeid: str) -> str:
    """What runs in order on one worker with a test: its group's folder, the lab that it shares, or its file."""
    file = nodeid.partition("::")[0]
    if file.startswith(SHARED_LAB):
        return SHARED_LAB
    group = group_of(nodeid)
    return f"tests/{GROUPS[group][0]}/" if 0 <= group < len(GROUPS) else file


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each group to one worker, single files last.

    Labs go to the first worker, since two at a time are slow, until another is idle.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        labs = node is self.nodes[0]
        for scope in sorted(self.workqueue, key=lambda scope: turn(scope, labs=labs)):
            self.workqueue.move_to_end(scope)
        super()._assign_work_unit(node)


def turn(scope: str, *, labs: bool) -> int:
    """When a worker takes a group, those with less first: the one of the labs those, and the others the rest."""
    if group_of(scope) == len(GROUPS):
        return 2
    return int(scope.startswith(LABS) is not labs)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    """Schedule groups in the order in which they are collected."""
    config.option.loadscopereorder = False
    return Groups(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--full`` also runs the tests that only `make full` runs; ``--calls`` tells what our accounts may need."""
    parser.addoption("--full", action="store_true", help="run the long tests as well, which are marked full")
    parser.addoption("--calls", type=Path, metavar="DIR", help="write there what our accounts called at API servers")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out long tests, and sort the others by group; within a group they keep their order."""
    if not config.getoption("--full"):
        long = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    items.sort(key=lambda item: group_of(item.nodeid))


def pytest_configure(config: pytest.Config) -> None:
    """Leave the host's network; handle SIGTERM as Ctrl-C, so that fixtures take down what they made.

    Examples of properties get no deadline under load. Nothing trusts public authorities (but see `public_authorities`):
    to read their certificates takes each program 0.1 s of a processor, and each call of a cloud's library as much.
    """
    log_plain_tracebacks()
    for name in PUBLIC_AUTHORITIES:
        os.environ.setdefault(INHERITED + name, os.environ.get(name, ""))
        os.environ[name] = os.devnull
    if os.geteuid() == 0:  # else there is nothing that a test could change on the host
        namespaces.leave_host()
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background jobs start with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    NodeManager.EXIT_TIMEOUT = TEARDOWN_TIMEOUT
    if config.pluginmanager.hasplugin("hypothesispytest"):  # nodes of the lab run tests without it
        from hypothesis import HealthCheck, settings

        most = ALL_EXAMPLES if config.getoption("--full") else EXAMPLES
        slow = [HealthCheck.too_slow]
        settings.register_profile("suite", deadline=None, max_examples=most, suppress_health_check=slow)
        settings.load_profile("suite")


def install(plane: ControlPlane) -> None:
    """Apply what the chart installs for daemons, wherever they run, and wait until the API server serves our kinds."""
    plane.apply(*chart.definitions())
    plane.apply(*chart.requirements(without=NOT_HERE))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


@pytest.fixture(autouse=True)
def logs_are_as_before() -> Iterator[None]:
    """A test that runs a program's own `main` leaves the logs of the others as they are.

    Programs let each logger keep how it was configured at its first use.
    """
    before = structlog.get_config()
    yield
    if structlog.get_config() == before:
        return
    structlog.configure(**before)
    for name, module in [*sys.modules.items()]:
        for logger in vars(module).values() if name.startswith("spiderpool") else ():
            if isinstance(logger, BoundLoggerLazyProxy):
                vars(logger).pop("bind", None)


@pytest.fixture
def public_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that download something: what they start trusts whom it trusts elsewhere."""
    for name in PUBLIC_AUTHORITIES:
        if value := os.environ[INHERITED + name]:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)


def write_calls(plane: ControlPlane, file: Path) -> None:
    """Write which of their rights our accounts used, one on each line."""
    used = {call.right for call in calls(plane.audit_log.read_text().splitlines()) if not call.refused}
    file.write_text("".join(f"{right}\n" for right in sorted(used)))


@contextmanager
def own_control_plane(directory: Path) -> Iterator[ControlPlane]:
    """One beside that of all tests, for what there can be only one of in a cluster: a leader, registered webhooks."""
    plane = ControlPlane(directory, Processes(directory / "processes"))
    plane.start()
    try:
        install(plane)
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """A real dual-stack control plane with our custom resources, our roles, and what our controller fills."""
    directory, recorded = tmp_path_factory.mktemp("control-plane"), request.config.getoption("--calls")
    plane = ControlPlane(directory, Processes(directory / "processes"), dual_stack=True)
    plane.audit = recorded is not None
    plane.start()
    try:
        install(plane)
        yield plane
        if recorded is not None:
            write_calls(plane, recorded / f"tests-{os.getpid()}")
    finally:
        plane.stop()

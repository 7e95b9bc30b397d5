"""Runs Kubernetes' own tests that judge a network against real nodes, and writes the page that reports on them.

Each test has a process and a time limit of its own; several run side by side. Outcomes are kept in the state folder,
and those of all tests beside the page: a run that is interrupted goes on with ``--missing``, also on another machine.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from spiderpool.errors import BadConfig, IOFailure, SpiderpoolError
from spiderpool_lab import binaries, go_build, images
from spiderpool_lab.audit import check_calls
from spiderpool_lab.cluster import SOURCE_TREE, LabCluster, LabOptions, state_directory
from spiderpool_lab.commands import output
from spiderpool_lab.conformance_report import E2EOutcome, Run, failures, junit, read_junit, section, updated
from spiderpool_lab.conformance_tests import (
    LIMIT,
    Plan,
    focus_of,
    is_from_internet,
    limit_of,
    listed,
    needs_cluster_alone,
    plan,
    smoke,
)
from spiderpool_lab.control_plane import ADMIN, NODE_SERVER
from spiderpool_lab.machines import NodeHardware
from spiderpool_lab.processes import WITH_PARENT
from spiderpool_lab.running import need_root
from spiderpool_lab.signals import exit_on_signals
from spiderpool_lab.topology import NodeKind, enlarged

PAGE = SOURCE_TREE / "docs" / "reference" / "conformance.md"
REPORTS = PAGE.with_suffix("")
"""The folder with a JUnit file for each version, which the page tells about."""
ADDRESSES = 30
"""Registered addresses of each family on the first ENI of each node."""
END_SECONDS = 60.0
"""Seconds that a test which is ended has to clean up."""
NAME = "conformance"
"""Of the lab."""
_LIST_TIMEOUT = 120.0


def lab_options(*, detached: bool = False) -> LabOptions:
    """How the lab of a run is brought up: by the chart, on nodes with all images of the tests that can be made."""
    program = binaries.find("e2e.test")
    wanted = output([program, "--list-images"]).split()
    can = {name for image in images.IMAGES for name in image.names}
    return LabOptions(
        topology=enlarged(ADDRESSES),
        detached=detached,
        discovery=True,
        nodes=NodeKind.REAL,
        by_chart=True,
        hardware=NodeHardware(memory="4G"),
        images=(*images.DEMO, *(name for name in wanted if name in can)),
    )


class Tests:
    """Runs tests against a lab that is up, and keeps their outcomes in a folder."""

    def __init__(
        self, cluster: LabCluster, folder: Path, recorded: Iterable[E2EOutcome] = (), *, limit: float = LIMIT
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._recorded = {outcome.name: outcome for outcome in recorded}
        self._limit = limit
        self._tree = _tree()
        self.not_run: list[str] = []
        """Tests of the last `run` that it has not come to."""
        self._program = binaries.find("e2e.test")
        self._kubeconfig = cluster.plane.kubeconfig(ADMIN, ["system:masters"], server=NODE_SERVER)
        folder.mkdir(parents=True, exist_ok=True)

    def known(self, name: str) -> E2EOutcome | None:
        """The outcome of an earlier run of a test."""
        file = self._report(name)
        found = read_junit(file.read_text()) if file.exists() else []
        return next((outcome for outcome in found if outcome.name == name), self._recorded.get(name))

    async def run(self, names: Sequence[str], side_by_side: int, until: float) -> None:
        """Run tests; none is started after ``until`` by the monotonic clock, see `not_run`."""
        self.not_run = [*names]
        together = [name for name in names if not needs_cluster_alone(name)]
        queue = iter(together)

        async def work() -> None:
            for name in queue:
                if time.monotonic() < until:
                    await self._run_one(name)

        async with asyncio.TaskGroup() as group:
            for _ in range(side_by_side):
                group.create_task(work())
        for name in names:
            if needs_cluster_alone(name) and time.monotonic() < until:
                await self._run_one(name)

    async def _run_one(self, name: str) -> None:
        draft = self._folder / f"{self._key(name)}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        started = time.monotonic()
        with (self._folder / f"{self._key(name)}.log").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command(name, draft), stdout=log, stderr=log, start_new_session=True, env=self._environment()
            )
            try:
                await self._ended(process, limit_of(name, self._limit))
            finally:
                _kill(process.pid)
        seconds = time.monotonic() - started
        outcome = replace(_outcome(name, draft / "junit_01.xml", seconds), tested=self._tree)
        self._report(name).write_text(junit([outcome]))
        self.not_run.remove(name)
        shutil.rmtree(draft)
        click.echo(f"{outcome.status:8} {seconds:4.0f} s  {name}  {outcome.message}")

    @staticmethod
    async def _ended(process: asyncio.subprocess.Process, limit: float) -> None:
        """Wait for a test; after its own limit it has some time to clean up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit + 2 * END_SECONDS):
                await process.wait()

    def _command(self, name: str, reports: Path) -> list[str]:
        fabric = self._cluster.fabric
        place = fabric.internet if is_from_internet(name) else fabric.management
        return [
            *(*WITH_PARENT, "ip", "netns", "exec", place, str(self._program)),
            *(f"--kubeconfig={self._kubeconfig}", "--provider=local", "--disable-log-dump"),
            *("--ginkgo.no-color", "--ginkgo.v", f"--ginkgo.focus={focus_of(name)}"),
            *(f"--ginkgo.timeout={limit_of(name, self._limit):.0f}s", f"--ginkgo.grace-period={END_SECONDS:.0f}s"),
            f"--report-dir={reports}",  # with a file whose names are those of the list; Ginkgo's own adds labels
        ]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"}  # kubectl

    def _report(self, name: str) -> Path:
        return self._folder / f"{self._key(name)}.xml"

    @staticmethod
    def _key(name: str) -> str:
        return hashlib.sha256(name.encode()).hexdigest()[:16]


def _outcome(name: str, report: Path, seconds: float) -> E2EOutcome:
    found = read_junit(report.read_text()) if report.exists() else []
    unfinished = E2EOutcome(name, "failed", seconds, f"did not end within {seconds:.0f} s, or ended without a report")
    return next((outcome for outcome in found if outcome.name == name), unfinished)


def _tree() -> str:
    """Today's date, and the commit of the source tree."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=SOURCE_TREE, capture_output=True, text=True, timeout=10, check=False)
    return f"{datetime.now(tz=UTC).date().isoformat()} commit {done.stdout.strip() or 'unknown'}"


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def list_tests() -> list[str]:
    """The names of all tests of the cluster's version. Raises IOFailure if the program does not list them."""
    command = [str(binaries.find("e2e.test")), "--list-tests"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIST_TIMEOUT, check=False)
    if not (names := listed(done.stdout)):
        raise IOFailure(f"e2e.test lists no tests: {done.stderr.strip()[-500:]}")
    return names


@dataclass(frozen=True, slots=True)
class Choice:
    """Options of the command; what each means is said there."""

    again: bool
    missing: bool
    side_by_side: int
    limit: float
    until: float
    """By the monotonic clock."""

    def wants(self, known: E2EOutcome | None) -> bool:
        """Whether a test is run that has this outcome from an earlier run."""
        if known is None or not (self.again or self.missing):
            return True
        return self.again and bool(failures([known]))


@click.command()
@click.option("--focus", default="", help="Run only tests whose name matches this regular expression.")
@click.option("--smoke", "few", is_flag=True, help="Run a few tests that take some minutes.")
@click.option("--again", is_flag=True, help="As --missing, and run what failed for a cause of ours.")
@click.option("--missing", is_flag=True, help="Keep the outcomes of earlier runs, and run only what is missing.")
@click.option("--side-by-side", default=4, show_default=True, help="Tests that run at the same time.")
@click.option(
    "--limit", default=LIMIT, show_default=True, help="Seconds that a test has; four times as many if it says [Slow]."
)
@click.option("--minutes", default=240.0, show_default=True, help="Start no test after this time.")
@click.option("--keep", is_flag=True, help="Use a lab of an earlier run that is up, and leave it up.")
def main(focus: str, few: bool, keep: bool, minutes: float, **chosen: Any) -> None:
    """Run Kubernetes' own tests of a network against real nodes, and write docs/reference/conformance.md."""
    need_root()
    exit_on_signals()
    until = time.monotonic() + 60 * minutes
    names = list_tests()
    tests_plan = smoke(names) if few else plan(names, focus)
    try:
        with lab(keep=keep) as cluster:
            succeeded = _run(cluster, tests_plan, Choice(until=until, **chosen), is_whole=not (few or focus))
    except SpiderpoolError as error:
        raise click.ClickException(error.message) from error
    sys.exit(0 if succeeded else 1)


@contextmanager
def lab(*, keep: bool) -> Iterator[LabCluster]:
    """The lab of the tests; with ``keep`` that of an earlier run if it is up, and it stays up.

    Raises BadConfig with the remedy while another run uses it, or if it is up and not to be kept: it stays as it is.
    """
    with _only_run(state_directory(NAME).with_name(f"{NAME}.lock")):
        yield from _lab(keep=keep)


@contextmanager
def _only_run(file: Path) -> Iterator[None]:
    """Lock a file (flock(2)), which no other run has locked. Raises BadConfig if one has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadConfig("another run of these tests is under way on this machine: wait for its end") from error
        yield


def _lab(*, keep: bool) -> Iterator[LabCluster]:
    cluster = LabCluster(NAME, lab_options(detached=keep), progress=click.echo)
    is_ready = keep and cluster.is_up
    if not is_ready:
        cluster.up()
    try:
        if is_ready:
            _remove_leftovers(cluster)
        else:
            reach_api_server_from_internet(cluster)
        yield cluster
    finally:
        if not keep:
            cluster.down()


def reach_api_server_from_internet(cluster: LabCluster) -> None:
    """Forward the API server's address for nodes into the internet's namespace, where clients of balancers run."""
    netns, server = cluster.fabric.internet, NODE_SERVER.removeprefix("https://")
    subprocess.run(
        ["ip", "-n", netns, "address", "replace", f"{server.partition(':')[0]}/32", "dev", "lo"], check=True, timeout=10
    )
    to = cluster.plane.server.removeprefix("https://")
    arguments = ["--netns", netns, "--listen", server, "--to", to]
    cluster.processes.start("internet-forwarder", [sys.executable, "-m", "spiderpool_lab.forward", *arguments])


def _remove_leftovers(cluster: LabCluster) -> None:
    """Delete what tests of an interrupted run have left, so that its pods need no addresses."""
    cluster.plane.kubectl("delete", "namespaces", "--selector=e2e-framework", "--wait=false")


def _check_version(cluster: LabCluster) -> None:
    """Raise BadConfig unless the cluster is of the version that tests and page are for."""
    served = json.loads(cluster.plane.kubectl("get", "--raw", "/version"))["gitVersion"]
    if served != go_build.kubernetes_version():
        raise BadConfig(f"the lab runs {served}: take it down, or set KUBERNETES to its version")


def _run(cluster: LabCluster, chosen: Plan, choice: Choice, *, is_whole: bool) -> bool:
    """Run what is chosen; whether all was run, nothing failed for a cause of ours, and no role refused a daemon's call.

    Outcomes of earlier runs stay until the test is run again. The page is written also by a run that is interrupted.
    """
    _check_version(cluster)
    folder = state_directory(NAME).with_name(f"{NAME}-{go_build.kubernetes_version()}")
    recorded = read_junit(_record().read_text()) if _record().exists() else []
    tests = Tests(cluster, folder, recorded, limit=choice.limit)
    wanted = [name for name in chosen.run if choice.wants(tests.known(name))]
    click.echo(f"{len(wanted)} tests to run, {len(chosen.left_out)} are left out")
    try:
        asyncio.run(tests.run(wanted, choice.side_by_side, choice.until))
    finally:
        outcomes = [known for name in chosen.run if (known := tests.known(name))]
        (folder / "junit.xml").write_text(junit(outcomes))
        click.echo(f"JUnit report: {folder / 'junit.xml'}")
        if is_whole:
            _write_page(chosen, outcomes)
    refused = [call.detail for call in check_calls(cluster.plane) if not call.passed]
    for each in refused:
        click.echo(f"a daemon called nothing, or its role does not allow what it asked for: {each}")
    return not (failures(outcomes) or tests.not_run or refused)


def _record() -> Path:
    """The JUnit file in the documentation of the cluster's version."""
    return REPORTS / f"{go_build.kubernetes_version()}.xml"


def _write_page(chosen: Plan, outcomes: Sequence[E2EOutcome]) -> None:
    minor, version = go_build.kubernetes_minor(), go_build.kubernetes_version()
    REPORTS.mkdir(exist_ok=True)
    _record().write_text(junit(outcomes))
    run = Run(version, f"KUBERNETES={minor} make conformance", chosen, outcomes)
    page = PAGE.read_text() if PAGE.exists() else ""
    PAGE.write_text(updated(page, version, section(run)))
    click.echo(f"wrote {PAGE.relative_to(SOURCE_TREE)}")


if __name__ == "__main__":
    main()

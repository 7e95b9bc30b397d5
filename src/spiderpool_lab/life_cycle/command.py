"""``spiderpool-lab life-cycle``: plays the cases on a lab of their own."""

from __future__ import annotations

import sys
import time
from functools import partial

import click
from rich.console import Console

from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool_lab.cluster import temporary
from spiderpool_lab.life_cycle import prober, report, stage
from spiderpool_lab.life_cycle.cases import CASES, Case
from spiderpool_lab.life_cycle.report import CaseOutcome
from spiderpool_lab.life_cycle.stage import LifeStage
from spiderpool_lab.running import need_root
from spiderpool_lab.signals import exit_on_signals

SETTLE_TIMEOUT = 120.0
"""Seconds after a case within which kernels and records have to agree."""


@click.command("life-cycle")
@click.argument("names", nargs=-1)
@click.option("--name", default="life-cycle", show_default=True, help="Name of the lab.")
@click.option("--write", is_flag=True, help="Write the page of the documentation, of all cases.")
def life_cycle(names: tuple[str, ...], name: str, write: bool) -> None:
    """Play the cases (all, or those named) while a client counts what is lost."""
    need_root()
    if unknown := set(names) - CASES.keys():
        raise BadConfig(f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    if names and write:
        raise BadConfig("the page is of all cases: leave out their names, or --write")
    exit_on_signals()
    console = Console(width=None if sys.stdout.isatty() else 160, emoji=False)
    progress = partial(console.print, markup=False, highlight=False)
    with temporary(name, stage.options()) as cluster:
        on = LifeStage(cluster)
        on.start_application()
        on.start_load()
        on.start_client()
        outcomes = [play(on, CASES[each], progress) for each in names or CASES]
        info = cluster.objects("nodes")[0]["status"]["nodeInfo"]
        if not all(outcome.passed for outcome in outcomes):
            cluster.progress = progress
            cluster.keep_logs()
    console.print(report.table(outcomes))
    if write:
        versions = f"Kubernetes {info['kubeletVersion']}, {info['containerRuntimeVersion']}"
        report.PAGE.write_text(report.page(outcomes, versions))
    passed = all(outcome.passed for outcome in outcomes)
    console.print("[bold green]PASS[/bold green]" if passed else "[bold red]FAIL[/bold red]")
    sys.exit(0 if passed else 1)


def play(on: LifeStage, case: Case, progress: partial[None]) -> CaseOutcome:
    """Play one case, and count what the client has lost meanwhile."""
    application, before, failed = on.application(), on.probes(), on.failed_adds()
    begin = time.monotonic()
    faults = []
    try:
        case.play(on)
    except SpiderpoolError as error:
        faults.append(error.message)
    seconds = time.monotonic() - begin
    time.sleep(prober.TIMEOUT + 2 * prober.WRITE_INTERVAL)
    after = on.probes()
    lost = after.lost[len(before.lost) :]
    faults += [] if on.application() == application else ["the application's pods or addresses are other ones"]
    faults += _disorder(on)
    requests = after.ended - before.ended
    if len(lost) > case.most * requests:
        faults.append(f"{len(lost)} of {requests} requests were lost: {'; '.join(after.latest[-3:])}")
    adds = on.failed_adds() - failed
    unanswered = len(on.logged().intersection(lost)) if lost else 0
    outcome = CaseOutcome(
        case.name, case.title, requests, len(lost), unanswered, adds, seconds, tuple(faults), case.loses
    )
    progress(f"{'pass' if outcome.passed else 'FAIL'}  {case.name}, {seconds:.0f} s, {outcome.losses}")
    return outcome


def _disorder(on: LifeStage) -> list[str]:
    """What stays wrong with addresses while the load makes no pods."""
    on.pause_load(True)
    try:
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while (wrong := on.disorder()) and time.monotonic() < deadline:
            time.sleep(1.0)
        return wrong
    finally:
        on.pause_load(False)

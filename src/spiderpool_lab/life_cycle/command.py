"""``spiderpool-lab life-cycle``: plays the cases on a lab of their own."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from functools import partial

import click
from rich.console import Console

from spiderpool.cli.connection import examples
from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool_lab.cluster import temporary
from spiderpool_lab.life_cycle import earlier, report, stage
from spiderpool_lab.life_cycle.cases import CASES, FIRST, Case
from spiderpool_lab.life_cycle.report import CaseOutcome
from spiderpool_lab.life_cycle.stage import LifeStage
from spiderpool_lab.running import need_root
from spiderpool_lab.signals import exit_on_signals

SETTLE_TIMEOUT = 120.0
"""Seconds after a case within which kernels and records have to agree."""


@click.command("life-cycle", epilog=examples("spiderpool-lab life-cycle", "spiderpool-lab life-cycle --write"))
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
    played = chosen(names or tuple(CASES))
    of_earlier = any(case.earlier for case in played) and earlier.is_available()
    with temporary(name, stage.options(earlier.provide() if of_earlier else None)) as cluster:
        on = LifeStage(cluster)
        on.start_application()
        on.start_load()
        on.start_client()
        outcomes = [play(on, each, progress) if of_earlier or not each.earlier else _skip(each) for each in played]
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


def chosen(names: Collection[str]) -> list[Case]:
    """The cases of these names in the table's order. Where one needs the earlier version, its update comes first."""
    first = {FIRST} if any(CASES[name].earlier for name in names) else set()
    return [case for case in CASES.values() if case.name in first.union(names)]


def _skip(case: Case) -> CaseOutcome:
    return CaseOutcome(case.name, case.title, 0, 0, 0, 0, 0, 0.0, skipped=earlier.ABSENT)


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
    after = on.all_probes()
    late, lost = after.late - before.late, after.lost[len(before.lost) :]
    if not case.replaces and on.application() != application:
        faults.append("the application's pods or addresses are other ones")
    faults += _disorder(on)
    requests = after.ended - before.ended
    reasons = after.latest[-len(lost) :] if lost else []
    if late + len(lost) > case.most * requests:
        faults.append(" ".join([f"{len(lost)} of {requests} requests were lost, {late} answered late", *reasons[-3:]]))
    adds = on.failed_adds() - failed
    unanswered = len(on.logged().intersection(lost)) if lost else 0
    outcome = CaseOutcome(
        *(case.name, case.title, requests, late, len(lost), unanswered, adds, seconds),
        faults=tuple(faults),
        loses=case.loses,
        notes=tuple(on.notes()),
    )
    progress(f"{'pass' if outcome.passed else 'FAIL'}  {case.name}, {seconds:.0f} s, {outcome.losses}")
    for line in (*faults, *outcome.notes, *reasons):
        progress(f"      {line}")
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

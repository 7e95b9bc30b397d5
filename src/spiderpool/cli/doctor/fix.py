"""What `doctor --fix` does: it releases addresses that are left over, as `ip release` does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import click

from spiderpool.cli import addresses
from spiderpool.cli.finding import Finding
from spiderpool.cli.printing import printable
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client


@dataclass(frozen=True, slots=True)
class Fixing:
    """Whether something is mended, and whether the user is asked. Raises UsageError for options without --fix."""

    fix: bool
    yes: bool
    dry_run: bool

    def __post_init__(self) -> None:
        if (self.yes or self.dry_run) and not self.fix:
            raise click.UsageError("--yes and --dry-run say how --fix is done: give --fix as well")

    def agrees(self, finding: Finding) -> bool:
        """Whether a finding is to be mended now; asks on standard error, since the answer is on standard output."""
        what = printable(f"release {finding.release}, if its node says that no sandbox has it")
        if self.dry_run:
            click.echo(f"would {what}", err=True)
            return False
        return self.yes or click.confirm(f"{what.capitalize()}?", err=True)


@dataclass(frozen=True, slots=True)
class FixOutcome:
    """What became of one finding."""

    text: str
    done: bool


async def mend(client: Client, findings: Iterable[Finding]) -> list[FixOutcome]:
    """Mend findings, one after the other; a refusal of one does not end the rest."""
    return [await _mend(client, each) for each in findings]


async def _mend(client: Client, finding: Finding) -> FixOutcome:
    assert finding.release is not None
    try:
        return FixOutcome(await addresses.release(client, finding.release, finding.release_uid), done=True)
    except SpiderpoolError as error:
        return FixOutcome(error.message, done=False)

"""Runs the commands of a page, one after the other, and reports what differs from the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spiderpool_lab import binaries
from tests.pages.accounts import ROOT, Play, played
from tests.pages.blocks import Command, without_commands
from tests.pages.comparison import difference, matches, names

PATIENCE = 60.0
"""Seconds until a command that only reads has to print what the page shows: what it shows may take time."""
INTERVAL = 0.5
TIMEOUT = 120
"""Seconds for one command."""
READS = re.compile(
    r"(?:spiderpool-lab )?kubectl (?:get|describe|rollout)|spiderpoolctl (?:status|who|explain|top)|spiderpool-lab exec"
)
ASSIGNS = re.compile(r"\w+=[^\s;]*$|\w+=\$\(.*\)$")


@dataclass
class Shell:
    """Bash in a folder that looks like a checkout, with some programs in front of those of the machine."""

    folder: Path
    environment: Mapping[str, str]
    words: dict[str, str] = field(default_factory=dict)
    """Words of the page, and what stands for them here."""
    variables: list[str] = field(default_factory=list)

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a text of bash, with the variables of those before. What it prints and its errors come in one."""
        script = "\n".join([*self.variables, text])
        out = subprocess.PIPE
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", script],
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def play(self, command: Command) -> str:
        """Run a command of a page; what is wrong, or nothing.

        One that only reads is repeated until it prints what the page shows, for PATIENCE.
        """
        text = self.here(command.text).replace(".venv/bin/", "")
        if ASSIGNS.match(text):
            self.variables.append(text)
        deadline = time.monotonic() + (PATIENCE if READS.match(text) else 0)
        while True:
            wrong = self._once(text, [self.here(line) for line in command.shown], command.shown)
            if not wrong or time.monotonic() > deadline:
                return wrong
            time.sleep(INTERVAL)

    def here(self, text: str) -> str:
        """A text of the page with the words of this environment."""
        if not self.words:
            return text
        longest_first = sorted(self.words, key=len, reverse=True)
        pattern = "|".join(rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\d)" for word in longest_first)
        return re.sub(pattern, lambda found: self.words[found[0]], text)

    def _once(self, text: str, shown: list[str], original: Iterable[str]) -> str:
        done = self.run(text)
        printed = done.stdout.splitlines()
        if not shown:
            return "" if done.returncode == 0 else f"exit status {done.returncode}:\n{done.stdout}"
        if matches(shown, printed) is None:
            return difference(shown, printed)
        self.words |= dict(names(matches(original, printed) or []))
        return ""


def shell(folder: Path, kubeconfig: Path, **variables: str) -> Shell:
    """A shell in a folder that has all that a checkout has. Programs of the folder `programs` come first."""
    programs, checkout = folder / "programs", folder / "checkout"
    for each in (programs, checkout):
        each.mkdir(exist_ok=True)
    for entry in ROOT.iterdir():
        if not entry.name.startswith("."):
            (checkout / entry.name).symlink_to(entry)
    (programs / "kubectl").symlink_to(binaries.find("kubectl"))
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {"PATH": path, "KUBECONFIG": str(kubeconfig), "HOME": str(folder), "COLUMNS": "80"}
    return Shell(checkout, {**os.environ, **ours, **variables})


def findings(play: Play, at: Shell) -> list[str]:
    """What is wrong with the commands of a play."""
    for number, chunk in enumerate(without_commands(ROOT / play.page), 1):
        (at.folder / f"block-{number}.yaml").write_text(chunk.text)
    _prepare(at, play.before)
    found = []
    for command in played(play):
        _prepare(at, next((text for begin, text in play.first.items() if command.text.startswith(begin)), ""))
        named = "\n".join((command.text, *command.shown))
        at.words |= {word: at.run(text).stdout.split("\n")[0] for word, text in play.words.items() if word in named}
        wrong = at.play(command)
        if wrong:
            found.append(report(play.page, command, wrong))
            print(found[-1], flush=True)  # also if the time is over before the end
    return found


def _prepare(at: Shell, text: str) -> None:
    """Run what a page takes for granted."""
    if text:
        done = at.run(f"set -e\n{text}")
        assert done.returncode == 0, done.stdout


def report(page: str, command: Command, wrong: str) -> str:
    """A finding for a reader."""
    indented = "\n".join(f"    {line}" for line in wrong.splitlines())
    return f"{page}:{command.line}: {command.first}\n{indented}"

"""Runs the commands that make a lab's programs and images, with progress on stderr, and ends them when interrupted."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from spiderpool.errors import IOFailure
from spiderpool_lab.processes import WITH_PARENT

SILENCE = 30.0
"""Seconds without output after which a line says that a command still runs."""
END_TIMEOUT = 10.0
"""Seconds that an interrupted command and its children have to end."""
QUOTED_LINES = 20
"""Last lines of a failed command that its error quotes."""


def print_progress(text: str) -> None:
    """Print a line to stderr at once."""
    print(text, file=sys.stderr, flush=True)


def _print_indented(line: str) -> None:
    print_progress(f"  {line}")


def output(command: Sequence[str | Path]) -> str:
    """What a command that ends soon prints; its errors are not looked at. Raises IOFailure if it does not exist."""
    done = subprocess.run(_words(command), capture_output=True, text=True, check=False, timeout=120)
    return done.stdout


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    show: Callable[[str], None] = _print_indented,
) -> None:
    """Run a command and pass each line of its output to ``show``. Raises IOFailure with the last lines if it fails.

    ``env`` is added to the environment. An interrupt ends the command and its children.
    """
    child = subprocess.Popen(
        [*WITH_PARENT, *_words(command)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that an interrupt can end all its children
    )
    with child:
        try:
            tail = _relay(child, show)
            code = child.wait()
        except BaseException:
            _end(child)
            raise
    if code != 0:
        raise IOFailure(f"{' '.join(map(str, command[:4]))} failed with exit code {code}", details="\n".join(tail))


def _words(command: Sequence[str | Path]) -> list[str]:
    """A command as strings. Raises IOFailure if its program is not on this machine."""
    if not shutil.which(str(command[0])):
        raise IOFailure(f"{command[0]} is not on this machine, and making a program needs it; install it")
    return [str(word) for word in command]


def _relay(child: subprocess.Popen[bytes], show: Callable[[str], None]) -> deque[str]:
    """Pass on a command's output, and a line when there is none for SILENCE seconds; return its last lines."""
    assert child.stdout is not None
    tail: deque[str] = deque(maxlen=QUOTED_LINES)
    started = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(SILENCE):
                print_progress(f"  still running after {time.monotonic() - started:.0f} s")
            elif not _relay_some(child.stdout, tail, show):
                return tail


def _relay_some(stream: IO[bytes], tail: deque[str], show: Callable[[str], None]) -> bool:
    text = os.read(stream.fileno(), 65536).decode(errors="replace")
    for line in text.splitlines():
        tail.append(line)
        show(line)
    return bool(text)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a command and its children, first by SIGTERM, then by SIGKILL, and wait until they are gone."""
    deadline = time.monotonic() + END_TIMEOUT
    number = signal.SIGTERM
    while time.monotonic() < deadline:
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        child.poll()
        time.sleep(0.1)
        number = signal.SIGKILL

"""Record the functions that an agent enters during its first CNI call; for ``python -m scripts.structure --add`` only.

Python imports a module of this name at its start when this folder is in ``PYTHONPATH``. It does nothing unless the
process is an agent and ``SPIDERPOOL_TRACE_ADD`` names a file that does not exist yet; the record goes there as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, FrameType

PACKAGE = "/src/spiderpool/"
AGENT = "spiderpool.agent.main"
in_call: ContextVar[bool] = ContextVar("in_call", default=False)  # tasks that the call starts inherit it


class Recorder:
    """The profile function of the process: one entry per call of a function of ours, in order."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._entries: list[dict[str, str]] = []
        self._frames: set[FrameType] = set()  # frames entered once: a coroutine that is resumed is no new call
        self._threads: set[threading.Thread] = set()  # threads that the call has started
        self._over = False

    def __call__(self, frame: FrameType, event: str, result: object) -> None:
        """Called by the interpreter whenever a Python function is entered, resumed or left."""
        code = frame.f_code
        if self._over or event not in ("call", "return"):
            return
        if code.co_name == "_handle" and code.co_filename.endswith("/aiohttp/web_app.py"):
            self._handler(frame, event, result)
        elif event == "call" and (in_call.get() or threading.current_thread() in self._threads):
            self._enter(frame, code)

    def _handler(self, frame: FrameType, event: str, result: object) -> None:
        if event == "call" and getattr(frame.f_locals.get("request"), "path", "") == "/v1/cni":
            in_call.set(True)
        elif event == "return" and in_call.get() and hasattr(result, "status"):  # not a suspension: the response
            self._over = True
            with contextlib.suppress(FileExistsError), self._output.open("x") as file:
                json.dump(self._entries, file)

    def _enter(self, frame: FrameType, code: CodeType) -> None:
        if code.co_name == "start" and code.co_filename == threading.__file__:
            self._threads.add(frame.f_locals["self"])
        if PACKAGE not in code.co_filename or code.co_name.startswith("<") or frame in self._frames:
            return
        self._frames.add(frame)
        self._entries.append({"file": _file(code), "function": code.co_qualname, "caller": _caller(frame)})


def _file(code: CodeType) -> str:
    return code.co_filename.rpartition(PACKAGE)[2]


def _caller(frame: FrameType) -> str:
    """The file of the nearest function of ours that waits for this one; empty for the first of a task or thread."""
    caller = frame.f_back
    while caller is not None:
        if PACKAGE in caller.f_code.co_filename:
            return _file(caller.f_code)
        caller = caller.f_back
    return ""


def _record() -> None:
    output = os.environ.get("SPIDERPOOL_TRACE_ADD")
    if not output or AGENT not in sys.orig_argv or Path(output).exists():
        return
    recorder = Recorder(Path(output))
    threading.setprofile(recorder)
    sys.setprofile(recorder)


_record()

"""The HTTP endpoint of a node on its management address, for :mod:`spiderpool_lab.node_client`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from aiohttp import web

from spiderpool_lab import node, probes, syscalls
from spiderpool_lab.node_client import Command, Kill, NodePodState, NodeState, Outcome, Signal
from spiderpool_lab.probes import Answer, TrafficProbe

_TIMED_OUT = 124  # the exit status of timeout(1)
_NO_COMMAND = 127  # the shell's exit status for a missing program

T = TypeVar("T")


class NodeEndpoint:
    """The handlers. ``pods`` gives the pods of the node, the newest of a name last; it is called at every request.

    ``kill`` ends a container of a pod, or its sandbox, as SIGKILL does. It raises KeyError if there is none.
    """

    def __init__(self, pods: Callable[[], list[NodePodState]], kill: Callable[[str, str | None], None]) -> None:
        self._pods = pods
        self._end = kill

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        application.router.add_post("/exec", self._exec)
        application.router.add_post("/probes", self._probes)
        application.router.add_get("/state", self._state)
        application.router.add_post("/signal", self._signal)
        application.router.add_post("/kill", self._kill)
        return application

    async def _exec(self, request: web.Request) -> web.Response:
        command = await _decoded(request, Command)
        return _answer(await run_command(command, self._netns(command.pod)))

    async def _probes(self, request: web.Request) -> web.Response:
        requested = await _decoded(request, list[TrafficProbe])
        answers: list[Answer] = await probes.run_all([(probe, self._netns(probe.source)) for probe in requested])
        return _answer(answers)

    async def _state(self, _: web.Request) -> web.Response:
        return _answer(NodeState(self._pods(), _children()))

    async def _signal(self, request: web.Request) -> web.Response:
        signal = await _decoded(request, Signal)
        pid = _children().get(signal.child)
        if pid is None:
            raise web.HTTPNotFound(text=f"no daemon {signal.child!r} runs here; there are {sorted(_children())}")
        os.kill(pid, signal.number)
        return _answer({signal.child: pid})

    async def _kill(self, request: web.Request) -> web.Response:
        kill = await _decoded(request, Kill)
        try:
            self._end(kill.pod, kill.container)
        except KeyError:
            raise web.HTTPNotFound(text=f"pod {kill.pod!r} has no container {kill.container!r}") from None
        return _answer({"pod": kill.pod})

    def _netns(self, pod: str | None) -> Path | None:
        if pod is None:
            return None
        for state in reversed(self._pods()):
            if state.pod == pod and state.netns is not None:
                return Path(state.netns)
        raise web.HTTPNotFound(text=f"pod {pod!r} has no sandbox on this node; see /state")


@asynccontextmanager
async def listening(endpoint: NodeEndpoint, address: str) -> AsyncIterator[None]:
    """Serve the endpoint while the context lasts."""
    runner = web.AppRunner(endpoint.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, node.ENDPOINT_PORT).start()
        yield
    finally:
        await runner.cleanup()


async def run_command(command: Command, netns: Path | None) -> Outcome:
    """Run a command in a network namespace, and kill it at its timeout."""
    enter = partial(syscalls.enter_network, netns) if netns else None
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command.argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, preexec_fn=enter
        )
    except OSError as error:
        return Outcome(_NO_COMMAND, "", f"{command.argv[0]}: {error.strerror}")
    try:
        async with asyncio.timeout(command.timeout):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Outcome(_TIMED_OUT, "", f"ended after {command.timeout} s")
    return Outcome(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


async def _decoded(request: web.Request, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=shape)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def _answer(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _children() -> dict[str, int]:
    return {file.stem: int(file.read_text()) for file in node.STATE.glob("*.pid")}

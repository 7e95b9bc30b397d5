"""Networks with plugins that are not built into the agent: executed one after another, as a runtime would.

Container Network Interface, specification 1.1.0, section 3 "Execution of Network Configurations".
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.agent.failures import noted
from spiderpool.api.cni import has_command, plugin_type
from spiderpool.api.decoding import decode
from spiderpool.core.network.chains import DelegatedNetwork, Invocation, configuration
from spiderpool.errors import PluginFailure, SpiderpoolError, UnknownPlugin, raise_all

TIMEOUT = 30.0
"""Seconds that one execution may take."""
LONGEST_MESSAGE = 500
"""Characters of a plugin's output that an error repeats."""


class DelegateExecutor:
    """Executes plugins from a list of directories. Our own executables among them call back on ``socket``."""

    def __init__(self, path: tuple[Path, ...], socket: Path) -> None:
        self._path = path
        self._socket = socket

    async def add(self, network: DelegatedNetwork, invocation: Invocation) -> bytes:
        """ADD, plugin by plugin; the last result. After a failure the caller is to call `delete`.

        Raises PluginFailure with the plugin's own message, or UnknownPlugin where its executable is missing.
        """
        self._check(network)
        result = b""
        for raw in network.plugins:
            result = await self._execute("ADD", network, raw, invocation, result) or result
        return result

    async def check(self, network: DelegatedNetwork, invocation: Invocation, result: bytes) -> None:
        """CHECK, plugin by plugin, unless the network's version lacks it or its configuration forbids it.

        Raises as `add`.
        """
        if network.disable_check or not has_command("CHECK", network.version):
            return
        for raw in network.plugins:
            await self._execute("CHECK", network, raw, invocation, result)

    async def delete(self, network: DelegatedNetwork, invocation: Invocation, result: bytes) -> None:
        """DEL in reverse order: all plugins are executed, then their failures are raised."""
        failures: list[SpiderpoolError] = []
        for raw in reversed(network.plugins):
            with noted(failures):
                await self._execute("DEL", network, raw, invocation, result)
        raise_all(failures)

    def _check(self, network: DelegatedNetwork) -> None:
        """Raises UnknownPlugin unless all executables exist, before the first one is executed."""
        for raw in network.plugins:
            self._executable(plugin_type(raw))

    async def _execute(
        self, command: str, network: DelegatedNetwork, raw: bytes, invocation: Invocation, previous: bytes
    ) -> bytes:
        kind = plugin_type(raw)
        stdin = msgspec.json.encode(configuration(network, raw, invocation, previous))
        status, output = await _run(
            self._executable(kind), self._environment(command, invocation), stdin, kind, command
        )
        if status != 0:
            raise _failure(kind, command, output)
        return output

    def _executable(self, kind: str) -> Path:
        found = next((path / kind for path in self._path if "/" not in kind and (path / kind).is_file()), None)
        if found is None:
            folders = ", ".join(map(str, self._path))
            raise UnknownPlugin(f"plugin {kind!r} is not part of this agent and no executable in {folders}; install it")
        return found

    def _environment(self, command: str, invocation: Invocation) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": invocation.container_id,
            "CNI_NETNS": invocation.netns,
            "CNI_IFNAME": invocation.ifname,
            "CNI_ARGS": invocation.cni_args,
            "CNI_PATH": os.pathsep.join(map(str, self._path)),
            "SPIDERPOOL_SOCKET": str(self._socket),
        }


async def _run(path: Path, environment: dict[str, str], stdin: bytes, kind: str, command: str) -> tuple[int, bytes]:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            str(path), stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, env=environment
        )
    except OSError as error:
        raise PluginFailure(f"{path} cannot be executed: {error}") from error
    try:
        async with asyncio.timeout(TIMEOUT):
            output, _ = await process.communicate(stdin)
    except TimeoutError as error:
        raise PluginFailure(f"{command} of plugin {kind} took longer than {TIMEOUT:.0f} s and was ended") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, output


def _failure(kind: str, command: str, output: bytes) -> PluginFailure:
    """The error that the plugin printed (CNI specification, section 5), or its raw output where it printed none."""
    try:
        printed = decode(output, dict[str, Any])
        message = f"{printed.get('msg', '')} {printed.get('details', '')}".strip()
    except msgspec.DecodeError:
        message = output.decode(errors="replace").strip()
    return PluginFailure(f"{command} of plugin {kind}: {message[:LONGEST_MESSAGE] or 'it failed without a word'}")

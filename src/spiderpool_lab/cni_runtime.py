"""The network part of a container runtime: creates pod namespaces and calls CNI plugins as containerd does.

Follows the CNI specification 1.1.0, sections 3 and 4.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.api.cni import PORT_MAPPINGS
from spiderpool.errors import SpiderpoolError
from spiderpool_lab import namespaces

INTERFACE = "eth0"
POD_ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
"""The capability with which containerd passes a pod's annotations to a plugin."""

_STATUS_SINCE = _NEWEST = (1, 1, 0)
"""The version of CNI that introduced STATUS, and the newest one that the runtime knows."""

Json = dict[str, Any]


class CniFailure(SpiderpoolError):
    """A CNI plugin failed, printed no valid result, or gave none in time."""

    code = 999
    retriable = True


class Sandbox(msgspec.Struct, frozen=True):
    """One sandbox of a pod, with its container id and network namespace.

    ``uid`` is the one that the kubelet knows: of a static pod the hash of its manifest, not the mirror's.
    """

    namespace: str
    name: str
    uid: str
    annotations: dict[str, str]
    container_id: str
    netns: Path
    ports: list[dict[str, Any]] = []
    """The pod's host ports, as ``portMappings``."""

    def environment(self, command: str, *, netns: bool, order: random.Random) -> dict[str, str]:
        """The ``CNI_*`` variables, without CNI_PATH; the keys of CNI_ARGS in any order, as those of a Go map."""
        arguments = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.namespace,
            "K8S_POD_NAME": self.name,
            "K8S_POD_INFRA_CONTAINER_ID": self.container_id,
            "K8S_POD_UID": self.uid,
        }
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": str(self.netns) if netns else "",
            "CNI_IFNAME": INTERFACE,
            "CNI_ARGS": ";".join(f"{key}={arguments[key]}" for key in order.sample([*arguments], len(arguments))),
        }


def create_sandbox(
    namespace: str, name: str, uid: str, annotations: Mapping[str, str], ports: Sequence[Json] = ()
) -> Sandbox:
    """A new sandbox, with its network namespace created."""
    netns = namespaces.create(f"cni-{uuid.uuid4()}")
    return Sandbox(namespace, name, uid, dict(annotations), secrets.token_hex(32), netns, list(ports))


class CniRuntime:
    """Calls the plugins of the first network configuration list in a directory; ``seed`` repeats the random orders."""

    def __init__(
        self, configuration: Path, executables: Path, *, timeout: float = 60.0, seed: int | None = None
    ) -> None:
        self.configuration = configuration
        self.executables = executables
        self.timeout = timeout
        self._order = random.Random(seed)

    def network(self) -> Json | None:
        """The first ``*.conflist`` by name that is valid; None if there is none."""
        for file in sorted(self.configuration.glob("*.conflist")):
            try:
                network = json.loads(file.read_text())
            except (OSError, ValueError):
                continue
            if isinstance(network, dict) and network.get("plugins"):
                return network
        return None

    async def add(self, network: Json, sandbox: Sandbox) -> Json:
        """Call ADD of every plugin in order, each with its predecessor's result; return the last result."""
        result: Json | None = None
        for plugin in network["plugins"]:
            environment = sandbox.environment("ADD", netns=True, order=self._order)
            output = await self._call(plugin, environment, _request(network, plugin, sandbox, result))
            result = _decode(plugin, output)
        return result or {}

    async def delete(self, network: Json, sandbox: Sandbox, result: Json | None, *, netns: bool = True) -> None:
        """Call DEL of every plugin in reverse order; containerd calls it again without ``result`` and ``netns``."""
        for plugin in reversed(network["plugins"]):
            environment = sandbox.environment("DEL", netns=netns, order=self._order)
            await self._call(plugin, environment, _request(network, plugin, sandbox, result))

    async def status(self, network: Json) -> None:
        """Call STATUS of every plugin, if the list offers the version that has it. Raises CniFailure."""
        if not has_status(network):
            return
        for plugin in network["plugins"]:
            await self._call(plugin, {"CNI_COMMAND": "STATUS"}, _configuration(network, plugin))

    async def _call(self, plugin: Json, environment: dict[str, str], request: Json) -> bytes:
        process = await self._start(plugin, environment)
        try:
            async with asyncio.timeout(self.timeout):
                output, errors = await process.communicate(json.dumps(request).encode())
        except TimeoutError:
            raise _failure(plugin, environment, f"no answer within {self.timeout} s") from None
        finally:
            await _end(process)
        if process.returncode != 0:
            raise _failure(plugin, environment, _reason(output, errors, process.returncode))
        return output

    async def _start(self, plugin: Json, environment: dict[str, str]) -> asyncio.subprocess.Process:
        executable = self.executables / plugin["type"]
        try:
            return await asyncio.create_subprocess_exec(
                executable,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **environment, "CNI_PATH": str(self.executables)},
            )
        except OSError as error:
            raise _failure(plugin, environment, f"failed to find plugin {executable}: {error.strerror}") from None


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a plugin that still runs: after a timeout, and when the caller is cancelled."""
    if process.returncode is None:
        process.kill()
        await process.wait()


def pod_addresses(result: Json) -> list[str]:
    """The addresses of the pod's ``eth0`` in a CNI result, without prefix length."""
    interfaces = result.get("interfaces", [])
    entries = [entry for entry in result.get("ips", []) if _on_pod_interface(entry, interfaces)]
    return [entry["address"].partition("/")[0] for entry in entries]


def _on_pod_interface(entry: Json, interfaces: list[Json]) -> bool:
    index = entry.get("interface")
    return index is None or (interfaces[index]["name"] == INTERFACE and bool(interfaces[index].get("sandbox")))


def has_status(network: Json) -> bool:
    """Whether a list offers CNI 1.1.0, with which a runtime calls STATUS."""
    return _numbers(spoken_version(network)) >= _STATUS_SINCE


def spoken_version(network: Json) -> str:
    """The newest of the versions that a list offers, and that the runtime knows (section 1, ``cniVersions``)."""
    offered: list[str] = [*network.get("cniVersions", []), network["cniVersion"]]
    return max((version for version in offered if _numbers(version) <= _NEWEST), key=_numbers, default=offered[-1])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def _configuration(network: Json, plugin: Json) -> Json:
    return {**plugin, "name": network["name"], "cniVersion": spoken_version(network)}


def _request(network: Json, plugin: Json, sandbox: Sandbox, result: Json | None) -> Json:
    request = _configuration(network, plugin)
    declared, passed = (
        plugin.get("capabilities", {}),
        {POD_ANNOTATIONS: sandbox.annotations, PORT_MAPPINGS: sandbox.ports},
    )
    runtime = {name: value for name, value in passed.items() if value and declared.get(name)}
    if runtime:
        request["runtimeConfig"] = runtime
    if result is not None:
        request["prevResult"] = result
    return request


def _decode(plugin: Json, output: bytes) -> Json:
    try:
        result = json.loads(output)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise CniFailure(f'plugin type="{plugin["type"]}" failed (add): its answer is not a JSON object')
    return result


def _reason(output: bytes, errors: bytes, code: int | None) -> str:
    """The reason of a failure: the error object that a plugin printed (section "Error"), else its last output."""
    try:
        answer = json.loads(output)
        return "; ".join(filter(None, (answer["msg"], answer.get("details"))))
    except (ValueError, TypeError, KeyError):
        words = errors.decode(errors="replace").strip() or output.decode(errors="replace").strip()
        return f"netplugin failed with code {code}: {words[-500:]}"


def _failure(plugin: Json, environment: dict[str, str], reason: str) -> CniFailure:
    return CniFailure(f'plugin type="{plugin["type"]}" failed ({environment["CNI_COMMAND"].lower()}): {reason}')

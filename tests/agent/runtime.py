"""A container runtime as the specification has it: plugins of a network are executed in order, on the node."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Plugin = dict[str, Any]


class Refusal(Exception):
    """A plugin failed; its error document."""

    def __init__(self, document: Json) -> None:
        super().__init__(document)
        self.document = document

    @property
    def code(self) -> int:
        return int(self.document["code"])

    @property
    def message(self) -> str:
        return str(self.document["msg"])


@dataclass(frozen=True)
class Container:
    """One sandbox of a pod."""

    netns: str
    pod: str
    uid: str
    identifier: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def arguments(self) -> str:
        return (
            f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={self.pod};"
            f"K8S_POD_INFRA_CONTAINER_ID={self.identifier};K8S_POD_UID={self.uid}"
        )


@dataclass
class Runtime:
    """Executes plugins of a folder in a node's network namespace."""

    node: Path
    executables: Path
    socket: Path

    def add(self, network: Json, container: Container, ifname: str = "eth0") -> Json:
        """ADD of all plugins, each with the result of the one before; the last result."""
        result: Json = {}
        for plugin in network["plugins"]:
            result = self.call("ADD", network, plugin, container, ifname, previous=result)
        return result

    def check(self, network: Json, container: Container, result: Json, ifname: str = "eth0") -> None:
        """CHECK of all plugins with the final result."""
        for plugin in network["plugins"]:
            assert self.call("CHECK", network, plugin, container, ifname, previous=result) == {}

    def delete(
        self, network: Json, container: Container, result: Json, ifname: str = "eth0", *, netns: bool = True
    ) -> None:
        """DEL of all plugins in reverse order."""
        for plugin in reversed(network["plugins"]):
            assert (
                self.call("DEL", network, plugin, container, ifname, previous=result if netns else {}, netns=netns)
                == {}
            )

    def collect(self, network: Json, valid: Iterable[tuple[Container, str]]) -> None:
        """GC of all plugins."""
        listed = [{"containerID": container.identifier, "ifname": ifname} for container, ifname in valid]
        keys = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
        for plugin in network["plugins"]:
            assert self.execute("GC", network, plugin | keys, {}) == {}

    def status(self, network: Json) -> None:
        """STATUS of all plugins."""
        for plugin in network["plugins"]:
            assert self.execute("STATUS", network, plugin, {}) == {}

    def call(
        self,
        command: str,
        network: Json,
        plugin: Plugin,
        container: Container,
        ifname: str,
        *,
        previous: Json,
        netns: bool = True,
    ) -> Json:
        """One execution for a container."""
        environment = {
            "CNI_CONTAINERID": container.identifier,
            "CNI_NETNS": container.netns if netns else "",
            "CNI_IFNAME": ifname,
            "CNI_ARGS": container.arguments,
        }
        return self.execute(command, network, plugin | ({"prevResult": previous} if previous else {}), environment)

    def execute(self, command: str, network: Json, plugin: Plugin, environment: dict[str, str]) -> Json:
        """One execution; what the plugin printed. Raises Refusal."""
        config = {"cniVersion": network["cniVersion"], "name": network["name"], **plugin}
        done = subprocess.run(
            ["nsenter", f"--net={self.node}", "--", self.executables / plugin["type"]],
            input=json.dumps(config).encode(),
            capture_output=True,
            env={
                **environment,
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "CNI_COMMAND": command,
                "CNI_PATH": str(self.executables),
                "SPIDERPOOL_SOCKET": str(self.socket),
            },
            timeout=60,
            check=False,
        )
        document: Json = json.loads(done.stdout) if done.stdout.strip() else {}
        if done.returncode:
            raise Refusal(document or {"code": 999, "msg": done.stderr.decode()})
        return document

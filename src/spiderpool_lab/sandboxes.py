"""The sandboxes of a node as containerd keeps them: on disk, so that they outlive the kubelet and a reboot of the node.

A sandbox that was stopped (DEL with what is known of it) is removed later, by two more DEL with neither namespace nor
result. A sandbox whose ADD failed has one DEL, whatever that answers, and is forgotten.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.errors import SpiderpoolError
from spiderpool_lab import namespaces
from spiderpool_lab.cni_runtime import CniFailure, CniRuntime, Json, Sandbox
from spiderpool_lab.stand_in import StandIn

_POLL_INTERVAL = 0.25
"""Seconds between two searches for sandboxes that are to be removed."""


class StoredSandbox(msgspec.Struct, frozen=True):
    """A sandbox with the name of its network, and the result of its ADD: None before the end of that."""

    sandbox: Sandbox
    network: str
    result: dict[str, Any] | None = None
    stopped: bool = False

    @property
    def is_up(self) -> bool:
        """Whether it has its network: neither was it stopped, nor has the node been rebooted since."""
        return self.result is not None and not self.stopped and self.sandbox.netns.exists()


class Sandboxes:
    """Makes, stops and removes sandboxes. ``directory`` holds a file for each."""

    def __init__(self, directory: Path, runtime: CniRuntime, times: StandIn) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.runtime = runtime
        self._directory = directory
        self._times = times
        self._random = random.Random(times.seed)
        self._stored = {stored.sandbox.container_id: stored for stored in _load(directory)}
        self._due = {container: self._draw_due() for container in self._stored}  # container → when it is removed

    def of(self, uid: str) -> list[StoredSandbox]:
        """Those of a pod that have not been stopped."""
        return [stored for stored in self._stored.values() if stored.sandbox.uid == uid and not stored.stopped]

    def uids(self) -> set[str]:
        """UIDs of the pods that have one which has not been stopped."""
        return {stored.sandbox.uid for stored in self._stored.values() if not stored.stopped}

    async def start(self, network: Json, sandbox: Sandbox) -> StoredSandbox:
        """Call ADD and keep the sandbox. Raises SpiderpoolError, with the sandbox removed."""
        begun = StoredSandbox(sandbox, network["name"])
        self._save(begun)
        try:
            result = await self.runtime.add(network, sandbox)
        except SpiderpoolError:
            await self._discard(network, sandbox)
            raise
        stored = msgspec.structs.replace(begun, result=result)
        self._save(stored)
        return stored

    async def stop(self, stored: StoredSandbox) -> None:
        """Call DEL with the namespace, if the node has it still, and the result; remove the namespace.

        A runtime uses the list that it has now, and finds the result by the list's name. Raises CniFailure.
        """
        network, sandbox = self._network(), stored.sandbox
        result = stored.result if network["name"] == stored.network else None
        await self.runtime.delete(network, sandbox, result, netns=sandbox.netns.exists())
        namespaces.delete(sandbox.netns)
        self._save(msgspec.structs.replace(stored, stopped=True))

    async def run(self) -> None:
        """Remove sandboxes that were stopped, each when its time has come, until cancelled."""
        while True:
            await asyncio.sleep(_POLL_INTERVAL)
            for container, due in [*self._due.items()]:
                stored = self._stored.get(container)  # an ADD that has failed meanwhile has forgotten its own
                if stored and stored.stopped and due <= time.monotonic():
                    await self._remove(stored)

    async def _remove(self, stored: StoredSandbox) -> None:
        container = stored.sandbox.container_id
        try:
            for _ in range(2):
                await self.runtime.delete(self._network(), stored.sandbox, None, netns=False)
        except CniFailure as failure:
            print(f"sandbox {container} stays: {failure.message}", flush=True)
            self._due[container] = self._draw_due()
            return
        self._forget(container)

    async def _discard(self, network: Json, sandbox: Sandbox) -> None:
        try:
            await self.runtime.delete(network, sandbox, None)
        except CniFailure as failure:
            print(f"after a failed ADD: {failure.message}", flush=True)
        namespaces.delete(sandbox.netns)
        self._forget(sandbox.container_id)

    def _network(self) -> Json:
        network = self.runtime.network()
        if network is None:
            raise CniFailure("cni plugin not initialized: there is no network configuration list")
        return network

    def _save(self, stored: StoredSandbox) -> None:
        """Write the file and wait for the disk: the next moment the node may lose its power."""
        container = stored.sandbox.container_id
        draft = self._file(container).with_suffix(".new")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(stored, enc_hook=str))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._file(container))
        self._stored[container] = stored
        self._due[container] = self._draw_due()

    def _forget(self, container: str) -> None:
        self._file(container).unlink(missing_ok=True)
        del self._stored[container], self._due[container]

    def _file(self, container: str) -> Path:
        return self._directory / f"{container}.json"

    def _draw_due(self) -> float:
        return time.monotonic() + self._random.uniform(*self._times.collection)


def _load(directory: Path) -> list[StoredSandbox]:
    return [_decode(file.read_bytes()) for file in sorted(directory.glob("*.json"))]


def _decode(content: bytes) -> StoredSandbox:
    return msgspec.json.decode(content, type=StoredSandbox, dec_hook=lambda kind, value: kind(value))

"""Answers of the cloud's metadata service: an input is a JSON list of readings, one after the other.

A reading is an object of pages by path; a number in place of a text is the HTTP status of a refusal. The page ``role``
holds the keys of a RAM role.
"""

from __future__ import annotations

import json
from functools import cache, partial
from random import Random
from typing import Any

import msgspec

from spiderpool.api.core_v1 import Node
from spiderpool.api.decoding import decode
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import Instance, SpiderServer
from spiderpool.cloud.alibaba.credentials import _RoleKeys, _session
from spiderpool.cloud.alibaba.metadata import MetadataClient
from spiderpool.core.cloud.eni_pools import registered
from spiderpool.core.cloud.instances import completed, defect, described, is_this_machine, merged, with_devices
from spiderpool.core.network.plumbing.values import Link
from tests.fuzzing.parts import each_alone
from tests.simulation.loop import SimulatedLoop

LINKS = (Link("eth0", 2, mac="00:16:3e:00:00:01"), Link("eth1", 3, mac="00:16:3e:00:00:02"))
NODE = Node(metadata=ObjectMeta(name="node", uid="uid"))
MOST_READINGS = 4


class AnsweredMetadata(MetadataClient):
    """Its answers come from ``pages``, in place of HTTP, which aiohttp reads."""

    pages: dict[str, Any]

    async def _exchange(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        answer = self.pages.get(path.removeprefix("/latest/meta-data/"), 404)
        if isinstance(answer, int):
            return answer, ""
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return 200, text.encode(errors="replace").decode()  # bytes on the wire, of which none is half a character


@cache
def _far_end() -> tuple[SimulatedLoop, AnsweredMetadata]:
    """A loop whose pauses take no time, and a client that lives as long as this process."""
    loop = SimulatedLoop(Random(0))

    async def client() -> AnsweredMetadata:
        return AnsweredMetadata()

    return loop, loop.run_until_complete(client())


def run(data: bytes) -> None:
    """Read a server and its ENIs, several times, and merge what was read as the agent does."""
    loop, client = _far_end()
    client.forget()
    last: Instance | None = None
    desired: Instance | None = None
    for pages in _readings(data):
        client.pages = pages
        each_alone(partial(_read_keys, pages.get("role")))
        now = loop.run_until_complete(client.read())
        if defect(now, last) or not is_this_machine(now, LINKS):
            client.forget()
            continue
        now = completed(last, with_devices(now, LINKS, ("172.31.199.183",)))
        desired, last = merged(desired, now), now
        _publish(desired)


def _readings(data: bytes) -> list[dict[str, Any]]:
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        found = [{"instance-id": data.decode(errors="replace")}]
    listed = found if isinstance(found, list) else [found]
    return [each for each in listed if isinstance(each, dict)][:MOST_READINGS]


def _read_keys(document: object) -> None:
    """As `InstanceRole` does, which takes these two errors for no keys."""
    try:
        _session(decode(json.dumps(document), _RoleKeys))
    except (ValueError, msgspec.DecodeError):
        return


def _publish(instance: Instance) -> None:
    """What is published is good, and is read again."""
    server = SpiderServer.of(NODE, instance)
    assert msgspec.json.decode(msgspec.json.encode(server), type=SpiderServer) == server
    assert [*described([NODE], [server])] == [instance]
    for eni in instance.enis:
        for version in (4, 6):
            registered(eni, version)
            eni.gateway_of(version)


def close() -> None:
    """Close the client."""
    if _far_end.cache_info().currsize:
        loop, client = _far_end()
        loop.run_until_complete(client.__aexit__())
        loop.close()
        _far_end.cache_clear()

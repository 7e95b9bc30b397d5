"""Pods with users of their own (``hostUsers: false``): another user namespace owns their network namespace."""

from __future__ import annotations

import asyncio
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spiderpool.agent.interfaces import add, check, remove
from spiderpool.core.network.plumbing.values import Attachment
from tests.kernel.environment import World, run, seen_by, serve
from tests.kernel.questions import CLIENT, CONTAINER, ETH0, assert_answers, interface, one_interface

pytestmark = pytest.mark.lab

ADD = """
import asyncio, pickle, sys
from spiderpool.agent.interfaces import add
attachments, node = pickle.loads(bytes.fromhex(sys.argv[1]))
for attachment in attachments:
    asyncio.run(add(attachment, node=node))
"""
ENOUGH = "-all,+sys_admin,+net_admin,+net_raw"
"""The capabilities that an ADD needs: to enter namespaces, to change them, to announce addresses."""


def add_with(capabilities: str, node: Path, *attachments: Attachment) -> None:
    """Attach pods in a process that has some capabilities only."""
    request = pickle.dumps((attachments, node)).hex()
    run("setpriv", f"--bounding-set={capabilities}", "--inh-caps=-all", sys.executable, "-c", ADD, request)


async def test_it_is_attached_checked_and_removed_as_any_other(wide: World, kind: str) -> None:
    pod = wide.pod_of_other_users()
    attachment = interface(pod, kind, versions=(4, 6))
    await add(attachment, node=wide.node)
    await check(attachment, node=wide.node)
    for version, net in ETH0.items():
        assert_answers(wide.route_of(pod, one_interface(version)))
        servers = [await serve(side, 8080, version) for side in (pod, wide.node)]
        assert await seen_by(pod, net.node, 8080) == net.pod
        assert await seen_by(wide.node, net.pod, 8080) == net.node
        assert await seen_by(wide.router, net.pod, 8080, source=CLIENT[version]) == CLIENT[version]
        for server in servers:
            server.close()
    await remove(CONTAINER, pod, "eth0", node=wide.node)
    assert wide.ip(pod, "-br", "link", "show", "type", kind) == ""


async def test_it_needs_no_more_capabilities_than_any_other(wide: World, kind: str) -> None:
    net = ETH0[4]
    own = interface(wide.pod("own"), kind, versions=(4,))
    nets = {4: replace(net, pod=net.other)}
    other = replace(interface(wide.pod_of_other_users("other"), kind, versions=(4,), nets=nets), container_id="b" * 12)
    await asyncio.to_thread(add_with, ENOUGH, wide.node, own, other)
    for attachment, address in ((own, net.pod), (other, net.other)):
        server = await serve(attachment.netns, 8080)
        assert await seen_by(wide.node, address, 8080) == net.node
        server.close()
    for missing in ("sys_admin", "net_admin"):
        with pytest.raises(AssertionError, match="not permitted"):
            add_with(ENOUGH.replace(f",+{missing}", ""), wide.node, other)

"""The cloud of a lab beside its network: metadata service, API, balancers, for the servers of a topology.

``python -m spiderpool_lab.cloud_process FILE`` reads a :class:`~spiderpool_lab.cloud.CloudProcessConfig` and serves
until SIGTERM or SIGINT. From an address that the account assigns to an ENI at run time the fabric carries traffic from
then on; from an address that it unassigns, no longer.

Servers reach the metadata service at its well-known address, on the cloud's router. It gives out keys where servers
have a role. If not, only a second metadata service does, on the loopback of the machine, for a spiderpool-cloud there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from spiderpool.cloud.alibaba import policy
from spiderpool_lab import namespaces
from spiderpool_lab.alibaba.account import Account, AccountSettings
from spiderpool_lab.alibaba.admin import Admin
from spiderpool_lab.alibaba.dataplane import DataPlane
from spiderpool_lab.alibaba.metadata import ADDRESS, MetadataServer
from spiderpool_lab.alibaba.openapi import OpenAPI
from spiderpool_lab.backend import NodeBackend
from spiderpool_lab.balancer_connections import end_stale_udp
from spiderpool_lab.cloud import LAB_VPC, PUBLIC, PUBLIC_IPV6, CloudProcessConfig
from spiderpool_lab.cloud_account import follow, populate
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.signals import stop_event
from spiderpool_lab.topology import Topology

ROLE = "spiderpool-cloud"
OPERATIONS = "i-operations"
"""Identity of the server that spiderpool-cloud runs on; it has no ENI in the nodes' VPC."""


def make_account(topology: Topology, features: Iterable[str], *, servers_have_role: bool = False) -> Account:
    """The account of a topology. The role of spiderpool-cloud may do what these features need, and no more.

    With ``servers_have_role`` all servers have it, otherwise only one outside the topology.
    """
    account = Account(AccountSettings(vpc=LAB_VPC, public_block=PUBLIC, public_ipv6_block=PUBLIC_IPV6))
    account.add_role(ROLE, {action for feature in features for action in policy.ACTIONS[feature]})
    account.add_instance("operations", identity=OPERATIONS, role=ROLE)
    populate(account, topology, role=ROLE if servers_have_role else None)
    return account


async def serve(config: CloudProcessConfig) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = stop_event()
    account = make_account(config.topology, config.features, servers_have_role=config.servers_have_role)
    fabric = Fabric(config.topology, config.name, backend=NodeBackend(config.backend))
    openapi = OpenAPI(account)
    in_router = functools.partial(namespaces.open_socket, namespaces.path(fabric.vpc))
    config.authority.write_bytes(openapi.authority.pair.certificate)
    namespaces.ip_batch([f"address replace {ADDRESS}/32 dev lo"], netns=fabric.vpc)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(follow(account, config.topology, fabric.register, fabric.unregister))
        for service in (
            DataPlane(account, fabric.vpc, Path(config.directory) / "balancers", end_stale=end_stale_udp).running(),
            MetadataServer(account).serve(ADDRESS, 80, open_socket=in_router),
            MetadataServer(account, resolve=lambda _: OPERATIONS, hardened=True).serve(port=config.role_port),
            openapi.serve(port=config.openapi_port, forwarders=(config.topology.host,)),
            Admin(account, openapi).serve(port=config.admin_port),
        ):
            await stack.enter_async_context(service)
        await ended.wait()


def main() -> None:
    """Entry point. The files that it writes are readable by its user alone."""
    os.umask(0o077)
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=CloudProcessConfig)
    asyncio.run(serve(config))


if __name__ == "__main__":
    main()

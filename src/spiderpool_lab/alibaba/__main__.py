"""``python -m spiderpool_lab.alibaba``: serves a simulated Alibaba Cloud on loopback, without the rest of the lab.

Listeners of load balancers exist but forward nothing, because their data plane needs network namespaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from spiderpool import __version__
from spiderpool.errors import BadConfig
from spiderpool_lab.alibaba import topology_file
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.admin import Admin
from spiderpool_lab.alibaba.identities import CallerIdentity
from spiderpool_lab.alibaba.metadata import MetadataServer
from spiderpool_lab.alibaba.openapi import OpenAPI
from spiderpool_lab.alibaba.resources import Instance
from spiderpool_lab.signals import stop_event


@dataclass(frozen=True, slots=True)
class ServedCloud:
    """Where a simulated cloud is reached, and what a client needs for it."""

    region: str
    openapi: str
    administration: str
    metadata: dict[str, str]  # name of an instance → URL of its metadata service
    access_keys: dict[str, str]  # access key ID → secret
    ca: str

    def __str__(self) -> str:
        rows = [
            ("region", self.region),
            ("OpenAPI", f"{self.openapi}  (ECS, VPC, SLB, NLB)"),
            ("CA file", self.ca),
            *(("access key", f"{key} {secret}") for key, secret in self.access_keys.items()),
            ("administration", self.administration),
            *((f"metadata of {name}", url) for name, url in self.metadata.items()),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command. ``first_port`` 0 takes any free ports."""

    first_port: int
    hardened: bool
    as_json: bool


@contextlib.asynccontextmanager
async def serve_cloud(
    account: Account, keys: Iterable[CallerIdentity], ca: Path, options: Options
) -> AsyncIterator[ServedCloud]:
    """Serve OpenAPI, administration and, for each instance, a metadata service; write the CA certificate to ``ca``."""
    openapi = OpenAPI(account)
    instances = list(account.tables.instances)
    ports = iter(_ports(options.first_port, 2 + len(instances)))
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(openapi.serve(port=next(ports)))
        admin = await stack.enter_async_context(Admin(account, openapi).serve(port=next(ports)))
        metadata = {}
        for instance in instances:
            server = _metadata_server(account, instance, hardened=options.hardened)
            metadata[instance.name] = (await stack.enter_async_context(server.serve(port=next(ports)))).url
        ca.write_bytes(openapi.authority.pair.certificate)
        secrets = {key.key: key.secret for key in keys}
        yield ServedCloud(account.region, api.url, admin.url, metadata, secrets, str(ca))


EXAMPLES = """\b
Examples:
  python -m spiderpool_lab.alibaba
  python -m spiderpool_lab.alibaba --port 8443 --json"""


def _ports(first: int, count: int) -> list[int]:
    return [first + number if first else 0 for number in range(count)]


def _metadata_server(account: Account, instance: Instance, *, hardened: bool) -> MetadataServer:
    """A metadata service for one instance, since callers on loopback cannot be told apart by their address."""
    return MetadataServer(account, resolve=lambda _: instance.identity, hardened=hardened)


async def run(account: Account, keys: Iterable[CallerIdentity], ca: Path, options: Options) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = stop_event()
    async with serve_cloud(account, keys, ca, options) as cloud:
        click.echo(json.dumps(asdict(cloud)) if options.as_json else str(cloud))
        await stopped.wait()


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.version_option(__version__, prog_name="spiderpool_lab.alibaba")
@click.option(
    "--topology",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML or JSON file with vSwitches, instances and ENIs. Default: two servers with two ENIs each.",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where to write the CA certificate, ca.crt. Default: a temporary directory, removed at the end.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65000),
    default=0,
    help="Port of the OpenAPI; administration and metadata services get the ports after it. Default: any free ports.",
)
@click.option("--hardened", is_flag=True, help="Metadata services refuse requests without a session token.")
@click.option("--json", "as_json", is_flag=True, help="Print endpoints and keys as one line of JSON.")
def main(topology: Path | None, directory: Path | None, port: int, hardened: bool, as_json: bool) -> None:
    """Serve a simulated Alibaba Cloud on loopback until SIGTERM or SIGINT.

    Prints where the OpenAPI (ECS, VPC, SLB, NLB), the administration and the metadata service of each instance are
    reached, the access key to use and the CA file to trust. Load balancers are simulated but forward no traffic.
    """
    try:
        described = topology_file.parse(topology.read_bytes()) if topology else topology_file.DEFAULT
        account, keys = topology_file.create_account(described)
        with contextlib.nullcontext(directory) if directory else tempfile.TemporaryDirectory() as place:
            asyncio.run(run(account, keys, Path(place) / "ca.crt", Options(port, hardened, as_json)))
    except (BadConfig, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main(prog_name="python -m spiderpool_lab.alibaba")

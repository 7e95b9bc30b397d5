"""The commands about an account of the cloud. They change nothing there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from spiderpool.api.core_v1 import Node
from spiderpool.cli.answer_comparison import AnswerComparison, compared
from spiderpool.cli.cloud_settings import FEATURES, provider_of, read_cloud_settings, region_of, settings_of
from spiderpool.cli.connection import Cluster, Connection, Show, connected, end, examples, shown
from spiderpool.cli.files import EXISTING, text_at
from spiderpool.cli.installation import DEFAULT_NAMESPACE
from spiderpool.cli.verification import VerifiedAccount, load, metadata_check, save, without_secrets
from spiderpool.cloud import registry
from spiderpool.cloud.registry import Provider
from spiderpool.cloud.verification import VerificationScope
from spiderpool.errors import BadConfig
from spiderpool.settings import CloudSettings
from spiderpool.telemetry import configure_command


@click.group(epilog=examples("spiderpoolctl cloud verify"))
def cloud() -> None:
    """The account of the cloud that spiderpool-cloud works in."""


@cloud.command(
    "verify",
    epilog=examples(
        "spiderpoolctl cloud verify",
        "spiderpoolctl cloud verify --values conf.yml --no-cluster",
        "spiderpoolctl cloud verify --record answers.json",
        "spiderpoolctl cloud verify --replay answers.json",
    ),
)
@click.option(
    "--values", type=EXISTING, help="conf.yml of spiderpool-cloud, no values of Helm. Default: that of the cluster."
)
@click.option("--feature", "features", multiple=True, type=click.Choice(FEATURES), help="Default: those that are on.")
@click.option("--no-cluster", is_flag=True, help="Read no cluster, only the file of --values.")
@click.option(
    "--without-dry-run",
    is_flag=True,
    help="Try also changes that the API cannot only check, on identities that do not exist.",
)
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Write the answers to this file.")
@click.option("--replay", type=EXISTING, help="Judge the answers in this file; ask neither cluster nor cloud.")
@click.option(
    "--spiderpool-namespace", "home", default=DEFAULT_NAMESPACE, show_default=True, help="Where Spiderpool is."
)
@shown
@connected
def verify_account(
    values: Path | None,
    record: Path | None,
    replay: Path | None,
    connection: Connection,
    show: Show,
    **where: Any,
) -> None:
    """Ask the cloud for all that spiderpool-cloud will ask for, and report what it lacks.

    Endpoints, the servers of the Nodes, quotas, load balancers, the metadata service of this machine, and each
    permission: what reads is called, what changes is sent as a dry run, and names nothing that exists. Nothing is
    changed. Use the keys of spiderpool-cloud itself. Where something is wrong, the exit status is 1.
    """
    options = VerifyOptions(values, where["home"], tuple(where["features"]), where["without_dry_run"], record)
    if replay is not None:
        found = asyncio.run(verify_replayed(replay))
    elif where["no_cluster"]:
        if values is None:
            raise click.UsageError("--no-cluster needs --values")
        configure_command()
        found = asyncio.run(verify_settings(settings_of(text_at(values), values), (), options))
    else:
        found = connection.run(lambda cluster: verify_cluster(cluster, options))
    show(found)
    end(found.is_wrong)


@cloud.command("compare", epilog=examples("spiderpoolctl cloud compare answers.json"))
@click.argument("answers", type=EXISTING)
@shown
def compare_answers(answers: Path, show: Show) -> None:
    """Send the calls of a file of `cloud verify --record` to another endpoint, and say where it answers otherwise.

    The endpoint is that of SPIDERPOOL_CLOUD_ENDPOINT, such as a simulated cloud. Compared are outcomes, and names and
    types of fields; no values. Nothing is changed there. Where there is a difference, the exit status is 1.
    """
    configure_command()
    found = asyncio.run(compare(settings_of("", None), answers))
    show(found)
    end(bool(found.differences))


async def compare(settings: CloudSettings, path: Path) -> AnswerComparison:
    """Compares recorded answers with those of the endpoint that settings name. Raises BadConfig, CloudError."""
    if settings.endpoint is None:
        raise BadConfig("name the endpoint that is compared by SPIDERPOOL_CLOUD_ENDPOINT")
    _, recorded = load(path)
    answered = await provider_of(settings).resend(settings, recorded)
    return compared(recorded, [without_secrets(each) for each in answered])


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What the user says about what is to be verified."""

    values: Path | None = None
    """conf.yml; None: that of the cluster."""
    home: str = DEFAULT_NAMESPACE
    """The Namespace of Spiderpool."""
    features: tuple[str, ...] = ()
    """Empty: those that are on."""
    without_dry_run: bool = False
    record: Path | None = None
    """Where the answers are written."""


async def verify_cluster(cluster: Cluster, options: VerifyOptions) -> VerifiedAccount:
    """Verifies the account for a cluster. Raises SpiderpoolError."""
    settings = await read_cloud_settings(cluster, options.values, options.home)
    return await verify_settings(settings, await cluster.needed(Node), options)


async def verify_settings(settings: CloudSettings, nodes: Sequence[Node], options: VerifyOptions) -> VerifiedAccount:
    """Verifies the account for settings, and the servers of Nodes. Raises SpiderpoolError."""
    provider = provider_of(settings)
    found = await provider.verify(settings, _scope(settings, nodes, provider, options))
    if options.record is not None:
        save(found, options.record)
    metadata = await metadata_check(provider, settings.common.cloud.metadata_endpoint)
    return VerifiedAccount((metadata, *found.checks))


async def verify_replayed(path: Path) -> VerifiedAccount:
    """Judges the answers that an account once gave. Raises BadConfig, CloudError."""
    scope, answers = load(path)
    found = await registry.DEFAULT.verify(CloudSettings(), scope, answers)
    return VerifiedAccount(found.checks)


def _scope(
    settings: CloudSettings, nodes: Sequence[Node], provider: Provider, options: VerifyOptions
) -> VerificationScope:
    parse = provider.look(settings).servers.parse_provider_id
    region = region_of(settings, nodes, parse)
    named = (parse(node.spec.providerID or "") for node in nodes)
    return VerificationScope(
        region=region,
        cluster=settings.cluster_id,
        features=options.features or provider.enabled(settings),
        servers=tuple(sorted(identity for place, identity in filter(None, named) if place == region)),
        vswitch=settings.balancing.vswitch,
        max_balancers=settings.balancing.max_per_cluster,
        without_dry_run=options.without_dry_run,
    )

"""Entry point of spiderpoolctl."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import yaml
from rich.console import Console
from rich.syntax import Syntax

from spiderpool import __version__
from spiderpool.cli import addresses, nodes
from spiderpool.cli.rbac import documents
from spiderpool.cli.services import grants, plans
from spiderpool.cloud import registry
from spiderpool.cloud.loadbalancers import configuration_of
from spiderpool.cloud.registry import Provider
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client
from spiderpool.settings import SettingsSource, cloud_settings, file_source

FEATURES = registry.DEFAULT.features
"""Features of spiderpool-cloud, all of which need permissions."""
HOME_CONFIG = Path("~/.kube/config")
"""The kubeconfig that kubectl uses by default."""

KUBECONFIG = click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="KUBECONFIG",
    help="Your kubeconfig. Default: ~/.kube/config if it exists, else the service account of the pod.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="spiderpoolctl")
def cli() -> None:
    """Ask Spiderpool, and state what it cannot know."""


@cli.group()
def policy() -> None:
    """What spiderpool-cloud must be allowed to do."""


@cli.group()
def ip() -> None:
    """Addresses of pods."""


@ip.command("release")
@click.argument("address")
@KUBECONFIG
def release_address(address: str, kubeconfig: Path | None) -> None:
    """Release ADDRESS, unless a sandbox has it by the word of its node, which is asked first."""
    _in_cluster(kubeconfig, lambda client: addresses.release(client, address))


@cli.group()
def node() -> None:
    """Nodes that do not answer."""


@node.command("fence")
@click.argument("name", metavar="NODE")
@KUBECONFIG
def fence_node(name: str, kubeconfig: Path | None) -> None:
    """State that nothing of the present boot of NODE runs any more, so that its addresses may be given to others.

    Switch the machine off first, or take its NICs off the network: what runs on keeps its addresses.
    """
    _in_cluster(kubeconfig, lambda client: nodes.fence(client, name))


@node.command("unfence")
@click.argument("name", metavar="NODE")
@KUBECONFIG
def unfence_node(name: str, kubeconfig: Path | None) -> None:
    """Take back what `fence` has stated about NODE."""
    _in_cluster(kubeconfig, lambda client: nodes.unfence(client, name))


@cli.group()
def service() -> None:
    """Services of type LoadBalancer."""


@service.command("plan")
@click.argument("manifests", type=click.File())
@click.option(
    "--values", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="conf.yml of spiderpool-cloud."
)
@click.option(
    "--grants", "only_grants", is_flag=True, help="Print only the SpiderLoadBalancerGrants that are lacking, as YAML."
)
def plan_services(manifests: TextIO, values: Path | None, only_grants: bool) -> None:
    """Print what would be made in the cloud for the Services of a file (-: standard input), step by step.

    Nodes and EndpointSlices in the file are the servers, and what its SpiderLoadBalancerGrants lack follows as a
    manifest. No cluster and no cloud is called:

    kubectl get services,nodes,spiderservers,endpointslices,spiderloadbalancergrants -A -o yaml \
      | spiderpoolctl service plan -
    """
    printed = grants if only_grants else plans
    try:
        settings = cloud_settings(file_source(values) if values else SettingsSource({}, {}))
        kind_of = _provider(settings.common.cloud.provider).kind_of
        click.echo(printed(manifests.read(), configuration_of(settings), kind_of))
    except SpiderpoolError as error:
        raise click.ClickException(error.message) from error


@policy.command("print")
@click.option(
    "--feature", "features", multiple=True, type=click.Choice(FEATURES), help="Feature that is on; repeatable."
)
@click.option(
    "--values",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="conf.yml or Helm values: the features that are on there.",
)
@click.option("--kind", type=click.Choice(["ram", "rbac"]), default="ram", show_default=True)
@click.option("--namespace", "-n", default="kube-system", show_default=True, help="Namespace of spiderpool-cloud.")
def print_policy(features: Sequence[str], values: Path | None, kind: str, namespace: str) -> None:
    """Print the least RAM policy (JSON) or the roles in the cluster (YAML) for the features that are on.

    Without --feature and --values: for all features.
    """
    provider, enabled = _enabled_features(_read(values)) if values else (registry.DEFAULT, [])
    chosen = sorted({*features, *enabled}) or list(FEATURES)
    if kind == "ram":
        _show(json.dumps(provider.policy(chosen), indent=2), "json")
    else:
        _show(yaml.safe_dump_all(documents(chosen, namespace), sort_keys=False).rstrip(), "yaml")


def _in_cluster(kubeconfig: Path | None, work: Callable[[Client], Awaitable[str]]) -> None:
    """Prints the sentence that ``work`` returns. Raises ClickException."""
    home = HOME_CONFIG.expanduser()

    async def run() -> str:
        async with Client.load(kubeconfig or (home if home.is_file() else None)) as client:
            return await work(client)

    try:
        click.echo(asyncio.run(run()))
    except SpiderpoolError as error:
        raise click.ClickException(error.message) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise click.ClickException(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(found, dict):
        raise click.ClickException(f"{path} holds no mapping of keys")
    return found


def _provider(name: str) -> Provider:
    """Returns the provider of the settings; the default one when they name none, as a dry run needs no settings."""
    return registry.provider(name) if name else registry.DEFAULT


def _enabled_features(values: dict[str, Any]) -> tuple[Provider, list[str]]:
    """Returns the provider of a file and the features that it enables. Raises ClickException when it names none."""
    cloud = values.get("cloud") or {}
    name = str(cloud.get("provider"))
    if name not in registry.PROVIDERS:
        raise click.ClickException(
            f"cloud.provider is not {registry.names()} there, so spiderpool-cloud needs no policy"
        )
    enabled = {
        "nodes": True,
        "addresses": (cloud.get(name) or {}).get("assign", False),
        "balancers": (cloud.get("loadBalancers") or {}).get("enabled", True),
    }
    return registry.PROVIDERS[name], [feature for feature in FEATURES if enabled[feature]]


def _show(text: str, language: str) -> None:
    """Prints text with colours on a terminal, and without into a pipe."""
    console = Console()
    if console.is_terminal:
        console.print(Syntax(text, language, background_color="default"))
    else:
        click.echo(text)


def main() -> None:
    """Runs a command. Exits with 1 and a message on invalid input, with 2 on invalid options."""
    cli()


if __name__ == "__main__":
    main()

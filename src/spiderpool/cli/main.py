"""Entry point of spiderpoolctl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import yaml
from rich.console import Console
from rich.syntax import Syntax

from spiderpool.cli.rbac import documents
from spiderpool.cli.services import plans
from spiderpool.cloud.alibaba.policy import ACTIONS, document
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.errors import SpiderpoolError
from spiderpool.settings import SettingsSource, cloud_settings, load_source

FEATURES = tuple(ACTIONS)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Ask Spiderpool."""


@cli.group()
def policy() -> None:
    """What spiderpool-cloud must be allowed to do."""


@cli.group()
def service() -> None:
    """Services of type LoadBalancer."""


@service.command("plan")
@click.argument("manifests", type=click.File())
@click.option(
    "--values", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="conf.yml of spiderpool-cloud."
)
def plan_services(manifests: TextIO, values: Path | None) -> None:
    """Print what would be made in the cloud for the Services of a file (-: standard input), step by step.

    Nodes and EndpointSlices beside them tell the servers. Nothing is asked of a cluster or a cloud:

    kubectl get services,nodes,endpointslices -A -o yaml | spiderpoolctl service plan -
    """
    try:
        settings = cloud_settings(load_source({"SPIDERPOOL_CONFIG": str(values)}) if values else SettingsSource({}, {}))
        click.echo(plans(manifests.read(), BalancerConfiguration.of(settings)))
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
    chosen = sorted({*features, *(_features(_read(values)) if values else ())}) or list(FEATURES)
    if kind == "ram":
        _show(json.dumps(document(chosen), indent=2), "json")
    else:
        _show(yaml.safe_dump_all(documents(chosen, namespace), sort_keys=False).rstrip(), "yaml")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise click.ClickException(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(found, dict):
        raise click.ClickException(f"{path} holds no mapping of keys")
    return found


def _features(values: dict[str, Any]) -> list[str]:
    """The features that a file switches on. Raises ClickException when it names no provider."""
    cloud = values.get("cloud") or {}
    if cloud.get("provider") != "alibaba":
        raise click.ClickException("cloud.provider is not alibaba there, so spiderpool-cloud needs no policy")
    switched = {
        "nodes": True,
        "addresses": (cloud.get("alibaba") or {}).get("assign", False),
        "balancers": (cloud.get("loadBalancers") or {}).get("enabled", True),
    }
    return [feature for feature in FEATURES if switched[feature]]


def _show(text: str, language: str) -> None:
    """Coloured on a terminal; as it is into a pipe."""
    console = Console()
    if console.is_terminal:
        console.print(Syntax(text, language, background_color="default"))
    else:
        click.echo(text)


def main() -> None:
    """Run a command. Exits 1 with a sentence on wrong input, 2 on wrong options."""
    cli()


if __name__ == "__main__":
    main()

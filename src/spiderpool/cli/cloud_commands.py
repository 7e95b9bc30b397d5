"""The commands about what spiderpool-cloud makes and needs. They ask no cluster and no cloud."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import yaml
from rich.console import Console
from rich.syntax import Syntax

from spiderpool.cli.connection import (
    Show,
    end,
    examples,
    shown,
)
from spiderpool.cli.files import EXISTING, block, text_of, values_at
from spiderpool.cli.policies import read_as_conf
from spiderpool.cli.rbac import documents
from spiderpool.cli.services import grants, plans
from spiderpool.cloud import registry
from spiderpool.cloud.loadbalancers import configuration_of
from spiderpool.cloud.registry import Provider
from spiderpool.errors import BadConfig
from spiderpool.settings import SettingsSource, cloud_settings, file_source

FEATURES = registry.DEFAULT.features
"""Features of spiderpool-cloud, all of which need permissions."""
PLAN_EXAMPLE = (
    "kubectl get -A -o yaml \\",
    "  services,nodes,spiderservers,endpointslices,spiderloadbalancergrants \\",
    "  | spiderpoolctl service plan -",
)


@click.group(epilog=examples("spiderpoolctl policy print --kind rbac"))
def policy() -> None:
    """What spiderpool-cloud must be allowed to do."""


@click.group(epilog=examples("spiderpoolctl service plan service.yaml"))
def service() -> None:
    """Services of type LoadBalancer."""


@service.command("plan", epilog=examples(*PLAN_EXAMPLE))
@click.argument("manifests", type=click.File())
@click.option("--values", type=EXISTING, help="conf.yml of spiderpool-cloud, no values of Helm.")
@click.option(
    "--grants", "only_grants", is_flag=True, help="Print only the SpiderLoadBalancerGrants that are lacking, as YAML."
)
@shown
def plan_services(manifests: TextIO, values: Path | None, only_grants: bool, show: Show) -> None:
    """Print what would be made in the cloud for the Services of a file (-: standard input), step by step.

    Nodes and EndpointSlices in the file are the servers, and what its SpiderLoadBalancerGrants lack follows as a
    manifest. No cluster and no cloud is called. Where a Service is faulty, or a grant is lacking, the exit status is 1;
    with --grants it is 0 then.
    """
    with read_as_conf(values):
        settings = cloud_settings(file_source(values) if values else SettingsSource({}, {}))
    kind_of = _provider(settings.common.cloud.provider).kind_of
    configuration, text = configuration_of(settings), text_of(manifests)
    if only_grants:
        click.echo(grants(text, configuration, kind_of))
        return
    planned = plans(text, configuration, kind_of)
    show(planned)
    end(planned.is_faulty)


@policy.command(
    "print",
    epilog=examples(
        "spiderpoolctl policy print --feature nodes", "spiderpoolctl policy print --kind rbac -n kube-system"
    ),
)
@click.option(
    "--feature", "features", multiple=True, type=click.Choice(FEATURES), help="Feature that is on; repeatable."
)
@click.option(
    "--values",
    type=EXISTING,
    help="conf.yml or Helm values: the features that are on there.",
)
@click.option("--kind", type=click.Choice(["ram", "rbac"]), default="ram", show_default=True)
@click.option("--namespace", "-n", default="kube-system", show_default=True, help="Namespace of spiderpool-cloud.")
def print_policy(features: Sequence[str], values: Path | None, kind: str, namespace: str) -> None:
    """Print the least RAM policy (JSON) or the roles in the cluster (YAML) for the features that are on.

    Without --feature and --values: for all features.
    """
    provider, enabled = _enabled_features(values_at(values)) if values else (registry.DEFAULT, [])
    chosen = sorted({*features, *enabled}) or list(FEATURES)
    if kind == "ram":
        _show(json.dumps(provider.policy(chosen), indent=2), "json")
    else:
        _show(yaml.safe_dump_all(documents(chosen, namespace), sort_keys=False).rstrip(), "yaml")


def _provider(name: str) -> Provider:
    """Returns the provider of the settings; the default one when they name none, as a dry run needs no settings."""
    return registry.provider(name) if name else registry.DEFAULT


def _enabled_features(values: dict[str, Any]) -> tuple[Provider, list[str]]:
    """Returns the provider of a file and the features that it enables. Raises BadConfig when it names none."""
    cloud = block(values, "cloud")
    name = str(cloud.get("provider"))
    if name not in registry.PROVIDERS:
        raise BadConfig(f"cloud.provider is not {registry.names()} there, so spiderpool-cloud needs no policy")
    enabled = {
        "nodes": True,
        "addresses": block(cloud, name).get("assign", False),
        "balancers": block(cloud, "loadBalancers").get("enabled", True),
    }
    return registry.PROVIDERS[name], [feature for feature in FEATURES if enabled[feature]]


def _show(text: str, language: str) -> None:
    """Prints text with the terminal's own colours, readable on light and dark ones, and without into a pipe."""
    console = Console()
    if console.is_terminal and not os.environ.get("NO_COLOR"):
        console.print(Syntax(text, language, theme="ansi_light", background_color="default"))
    else:
        click.echo(text)

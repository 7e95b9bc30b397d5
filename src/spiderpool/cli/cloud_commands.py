"""The commands about what spiderpool-cloud makes and needs. They change nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click
import yaml
from rich.console import Console
from rich.syntax import Syntax

from spiderpool.cli.cloud_settings import FEATURES, provider_of, read_cloud_settings, region_of
from spiderpool.cli.connection import Cluster, Connection, Show, connected, end, examples, shown
from spiderpool.cli.files import EXISTING, block, text_of, values_at
from spiderpool.cli.installation import DEFAULT_NAMESPACE
from spiderpool.cli.policies import read_as_conf
from spiderpool.cli.present_balancers import BalancerLook
from spiderpool.cli.rbac import documents
from spiderpool.cli.service_objects import objects_of, read_objects
from spiderpool.cli.services import PlanRules, Plans, manifest, plans
from spiderpool.cloud import registry
from spiderpool.cloud.loadbalancers import configuration_of
from spiderpool.cloud.registry import Provider
from spiderpool.errors import BadConfig
from spiderpool.settings import CloudSettings, SettingsSource, cloud_settings, file_source

GATES_POLICY = """\
# Of the status of pods only conditions of readiness gates are written. A role cannot say that: apply also the policy
# spiderpool-readiness-gates of the chart, templates/readiness-gates-policy.yaml, which refuses all else.
"""
"""Begins the roles for load balancers."""
PLAN_EXAMPLES = (
    "spiderpoolctl service plan",
    "spiderpoolctl service plan default/web -o json",
    "spiderpoolctl service plan -f service.yaml --values conf.yml",
    "kubectl get -A -o yaml \\",
    "  services,nodes,spiderservers,endpointslices,spiderloadbalancergrants \\",
    "  | spiderpoolctl service plan -f - --values conf.yml",
)


@click.group(epilog=examples("spiderpoolctl policy print --kind rbac"))
def policy() -> None:
    """What spiderpool-cloud must be allowed to do."""


@click.group(epilog=examples("spiderpoolctl service plan"))
def service() -> None:
    """Services of type LoadBalancer."""


@service.command("plan", epilog=examples(*PLAN_EXAMPLES))
@click.argument("words", nargs=-1, metavar="[[NAMESPACE/]NAME]...")
@click.option("--filename", "-f", type=click.File(), help="Manifests instead of the cluster; -: standard input.")
@click.option(
    "--values",
    type=EXISTING,
    help="conf.yml of spiderpool-cloud, no values of Helm. Default: that of the cluster; with -f: no settings.",
)
@click.option(
    "--grants", "only_grants", is_flag=True, help="Print only the SpiderLoadBalancerGrants that are lacking, as YAML."
)
@click.option(
    "--spiderpool-namespace", "home", default=DEFAULT_NAMESPACE, show_default=True, help="Where Spiderpool is."
)
@shown
@connected
def plan_services(
    words: Sequence[str], filename: TextIO | None, only_grants: bool, connection: Connection, show: Show, **where: Any
) -> None:
    """Print what spiderpool-cloud would do in the cloud for Services, step by step, and what the cloud would bill.

    It reads the Services of the cluster, all or those that are named, and looks at the balancers that they have, with
    keys that need no right but to look. Nothing is changed: no other calls are sent. A line with ! says what ends
    traffic, gives up an address, or changes what somebody may have set by hand.

    With -f it reads manifests alone, as if there were no balancers, and calls neither a cluster nor the cloud.
    Nodes and EndpointSlices among them are the servers.

    What SpiderLoadBalancerGrants lack follows as a manifest. Where a Service is faulty, or a grant is lacking, the
    exit status is 1; with --grants it is 0 then.
    """
    values: Path | None = where["values"]
    if len(words) == 1 and (words[0] == "-" or Path(words[0]).is_file()):  # as it was before there was -f
        raise click.UsageError(f"a file goes with -f: service plan -f {words[0]}")
    if filename is not None and words:
        raise click.UsageError("Services of the cluster are named without -f")
    if filename:
        planned = _of_manifests(filename, values)
    else:
        planned = connection.run(lambda cluster: plan_of_cluster(cluster, words, values, where["home"]))
    if only_grants:
        click.echo(manifest(planned.grants))
        return
    show(planned)
    end(planned.is_faulty)


def _of_manifests(file: TextIO, values: Path | None) -> Plans:
    with read_as_conf(values):
        settings = cloud_settings(file_source(values) if values else SettingsSource({}, {}))
    return plans(objects_of(text_of(file)), _rules(settings))


def _rules(settings: CloudSettings) -> PlanRules:
    kind_of = partial(provider_of(settings).kind_of, default=settings.balancing.default_type)
    return PlanRules(configuration_of(settings), kind_of)


async def plan_of_cluster(cluster: Cluster, words: Sequence[str], values: Path | None, home: str) -> Plans:
    """Returns the plans for Services of a cluster, by name or all, from the balancers that they have now.

    ``home`` is the Namespace of Spiderpool. Raises SpiderpoolError.
    """
    settings = await read_cloud_settings(cluster, values, home)
    objects = await read_objects(cluster, words)
    provider = provider_of(settings)
    cloud, configuration = provider.look(settings), configuration_of(settings)
    region = region_of(settings, objects.nodes, cloud.servers.parse_provider_id)
    look = BalancerLook(cloud.balancers(region, settings.balancing.vpc), configuration)
    return plans(objects, _rules(settings), await look.all(objects))


@policy.command(
    "print",
    epilog=examples(
        "spiderpoolctl policy print --feature nodes",
        "spiderpoolctl policy print --read-only",
        "spiderpoolctl policy print --kind rbac -n kube-system",
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
@click.option("--read-only", is_flag=True, help="RAM: only what looks, for `service plan` and `cloud verify`.")
@click.option("--namespace", "-n", default="kube-system", show_default=True, help="Namespace of spiderpool-cloud.")
def print_policy(features: Sequence[str], values: Path | None, kind: str, read_only: bool, namespace: str) -> None:
    """Print the least RAM policy (JSON) or the roles in the cluster (YAML) for the features that are on.

    Without --feature and --values: for all features.
    """
    provider, enabled = _enabled_features(values_at(values)) if values else (registry.DEFAULT, ())
    chosen = sorted({*features, *enabled}) or list(FEATURES)
    if kind == "ram":
        _show(json.dumps(provider.policy(chosen, read_only=read_only), indent=2), "json")
    else:
        text = yaml.safe_dump_all(documents(chosen, namespace), sort_keys=False).rstrip()
        _show(f"{GATES_POLICY}{text}" if "balancers" in chosen else text, "yaml")


def _enabled_features(values: dict[str, Any]) -> tuple[Provider, Sequence[str]]:
    """Returns the provider of a file and the features that it enables. Raises BadConfig when it names none."""
    name = str(block(values, "cloud").get("provider"))
    if name not in registry.PROVIDERS:
        raise BadConfig(f"cloud.provider is not {registry.names()} there, so spiderpool-cloud needs no policy")
    provider = registry.PROVIDERS[name]
    return provider, provider.enabled(cloud_settings(SettingsSource({}, {"cloud": values["cloud"]})))


def _show(text: str, language: str) -> None:
    """Prints text with the terminal's own colours, readable on light and dark ones, and without into a pipe."""
    console = Console()
    if console.is_terminal and not os.environ.get("NO_COLOR"):
        console.print(Syntax(text, language, theme="ansi_light", background_color="default"))
    else:
        click.echo(text)

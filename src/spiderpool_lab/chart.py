"""Our chart as helm renders it, so that labs and tests apply what users install."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from spiderpool.errors import BadConfig
from spiderpool_lab import binaries

CHART = Path(__file__).parents[2] / "charts" / "spiderpool"
RELEASE, NAMESPACE = "spiderpool", "kube-system"

WITHOUT_DAEMONS = re.compile(r".*-(policy|rbac|webhooks)\.yaml")
"""Templates of what daemons need in a cluster, wherever they run: ServiceAccounts, roles, policies, what they fill."""
ALL_FEATURES = (
    "cloud.enabled=true",
    "cloud.provider=alibaba",
    "cloud.alibaba.assign=true",
    "spiderpoolController.removeStartupTaint=true",
    "spiderpoolController.nodeAddressResources=advertise",
)
"""Values with which the roles of all daemons and features are rendered."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""In C where libyaml is there: ten times as fast."""
_SOURCE = re.compile(r"^# Source: spiderpool/templates/(\S+)\n", re.MULTILINE)


def definitions() -> list[Path]:
    """The files of the CustomResourceDefinitions, which are no templates."""
    return sorted(CHART.glob("crds/*.yaml"))


def requirements(*, without: Iterable[str] = ()) -> list[str]:
    """The manifests of what daemons need in a cluster, but for those of the templates ``without``."""
    found = templates(*ALL_FEATURES)
    names = sorted(name for name in found if WITHOUT_DAEMONS.fullmatch(name))
    return [found[name] for name in names if name not in without]


def template(name: str, *values: str) -> str:
    """The manifests that one template makes. Raises KeyError where it makes none."""
    return templates(*(values or ALL_FEATURES))[name]


def settings(values: Mapping[str, Any], sets: Iterable[str] = ()) -> dict[str, Any]:
    """The settings that daemons get with these values and these ``key=value``. Raises BadConfig where helm refuses."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values), file)
        file.flush()
        flags = [word for each in sets for word in ("--set", each)]
        only = ("--show-only", "templates/configmap.yaml", "--values", file.name)
        (config,) = documents(helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *only, *flags))
    found: dict[str, Any] = yaml.safe_load(config["data"]["conf.yml"])
    return found


def merged(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Values with those of others in them, as helm merges files: mappings key by key, all else as a whole."""
    both = {key: (values[key], others[key]) for key in values.keys() & others.keys()}
    blocks = {key: merged(*pair) for key, pair in both.items() if all(isinstance(each, dict) for each in pair)}
    return {**values, **others, **blocks}


def documents(text: str) -> list[dict[str, Any]]:
    """The objects of manifests."""
    return [document for document in yaml.load_all(text, _LOADER) if document]


@cache
def templates(*values: str, namespace: str = NAMESPACE) -> dict[str, str]:
    """The name of each template, and the manifests that it makes with these values (``key=value``).

    Raises BadConfig where the chart refuses them.
    """
    flags = [word for value in values for word in ("--set", value)]
    done = helm("template", RELEASE, CHART, "--namespace", namespace, *flags)
    made: dict[str, str] = {}
    _, *parts = _SOURCE.split(done)
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        made[name] = made.get(name, "") + "---\n" + text.removesuffix("---\n")
    return made


def helm(
    *arguments: str | Path, environment: Mapping[str, str] = MappingProxyType({}), timeout: float | None = None
) -> str:
    """What helm prints. Raises BadConfig with its error, subprocess.TimeoutExpired after ``timeout`` seconds."""
    (program,) = binaries.provide([binaries.HELM])
    command, variables = [program.path, *arguments], {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, env=variables)
    if done.returncode != 0:
        raise BadConfig(f"helm {arguments[0]}: {done.stderr.strip()}")
    return done.stdout

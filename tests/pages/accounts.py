"""Of every page with commands: where each is run with its output compared, which test runs it, or why nobody can.

A command is named by its beginning. What is in no list here makes `test_accounts.py` fail.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import yaml

from tests.pages.blocks import Command, commands

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/*/*.md")))]
PAGES = [page for page in PAGES if page.startswith(("README", "docs/usage/", "docs/reference/"))]
"""Pages whose commands are accounted for; those of docs/zh/ are the same, by tests/test_documentation.py."""


class Environment(enum.Enum):
    """Where the commands of a page are run. Labs have fast nodes."""

    API_SERVER = "an API server with our controller"
    ANOTHER_API_SERVER = "the same, for a page with a cluster of its own"
    DISCOVERED = "a lab whose pools are made from what the ENIs have"
    WRITTEN = "a lab without pools"


@dataclass(frozen=True)
class Play:
    """Sections of a page that are run in an environment, in the order of PLAYS."""

    page: str
    environment: Environment
    sections: tuple[str, ...] = ()
    """By their headings; none: all that no other play of the page has."""
    before: str = ""
    """What the page takes for granted, as commands. block-1.yaml is the page's first block of YAML, and so on."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Words of the page, and the command that prints what stands for each."""
    first: Mapping[str, str] = field(default_factory=dict)
    """What is done just before a command that begins so, where the text above it says so."""


@dataclass(frozen=True)
class Unplayed:
    """A command, by its beginning, that no play runs: the test that does, or why none can; `page` may be a pattern."""

    page: str
    beginning: str
    test: str = ""
    reason: str = ""


USAGE, REFERENCE = "docs/usage", "docs/reference"

APP_1 = "kubectl get pods -l app=test-app-1 -o jsonpath='{.items[0].metadata.name}'"
HELD = "kubectl get spiderips --no-headers -o custom-columns=:.metadata.name"
SETTINGS = "kubectl create configmap spiderpool-conf -n kube-system --from-file=conf.yml=$LAB_FOLDER/conf.yml"
"""The ConfigMap of the chart, which a lab with fast nodes has as a file."""
NETWORKS = "kubectl apply -f examples/alibaba-cloud/networks.yaml"
FIXED_SHOP = """
kubectl create namespace shop
kubectl apply -f block-1.yaml
kubectl apply --namespace shop -f examples/subnet/fixed.yaml
"""

SMALL_AGAIN = """
kubectl wait --for=jsonpath='{.status.totalIPCount}'=7 $(kubectl get spiderippools -o name | grep auto4-shop)
"""
NOT_CANONICAL = """
echo '{apiVersion: spiderpool.spidernet.io/v2beta1, kind: SpiderIPPool, metadata: {name: p},
  spec: {subnet: 10.6.0.1/16}}' >pool.yaml
"""
READY = """
kubectl apply -f - <<E
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: web}
spec: {subnet: 10.8.0.0/24, ips: [10.8.0.10-10.8.0.20]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: second, namespace: default}
spec: {cniType: ipvlan, ipvlan: {master: [eth1]}}
E
"""

OPERATED = """
bash $DATA/spiderpoolctl.sh
cp $DATA/*.yaml .
"""

PLAYS = (
    Play(f"{USAGE}/discovery.md", Environment.DISCOVERED),
    Play(f"{USAGE}/alibaba-cloud.md", Environment.DISCOVERED),
    Play(
        f"{USAGE}/load-balancers.md",
        Environment.DISCOVERED,
        before=f"{SETTINGS} && cp $LAB_FOLDER/conf.yml .",
        words={"demo": "basename $LAB_FOLDER"},
    ),
    Play(f"{USAGE}/cloud.md", Environment.DISCOVERED),
    Play(
        f"{USAGE}/troubleshooting.md",
        Environment.DISCOVERED,
        words={
            "<pod>": APP_1,
            "<node>": "echo master",
            "master-172": "echo master-eth0-v4",
            "172.31.199.185": HELD,
        },
    ),
    Play(f"{USAGE}/server-software.md", Environment.DISCOVERED),
    Play(f"{USAGE}/install.md", Environment.DISCOVERED, before="cp $LAB_FOLDER/conf.yml ."),
    Play(f"{REFERENCE}/data-path.md", Environment.DISCOVERED),
    Play(f"{REFERENCE}/high-availability.md", Environment.DISCOVERED),
    Play(f"{REFERENCE}/collection.md", Environment.DISCOVERED, words={"worker-1": "echo worker"}),
    Play(
        f"{USAGE}/lab.md",
        Environment.DISCOVERED,
        words={
            "test-app-1-xxxxx": APP_1,
            "30080": "kubectl get service cluster-svc -o jsonpath='{.spec.ports[0].nodePort}'",
        },
    ),
    Play(
        f"{USAGE}/subnet.md",
        Environment.API_SERVER,
        first={"kubectl apply -f examples/subnet/pool.yaml": SMALL_AGAIN},
    ),
    Play(f"{USAGE}/quotas.md", Environment.API_SERVER, before=FIXED_SHOP),
    Play(
        f"{USAGE}/network-injection.md",
        Environment.API_SERVER,
        before="kubectl apply -f examples/network-injection/pools.yaml",
    ),
    Play(f"{USAGE}/addresses.md", Environment.WRITTEN, before=NETWORKS),
    Play(
        f"{USAGE}/alibaba-cloud.md",
        Environment.WRITTEN,
        sections=("By hand",),
        words={"curl": "echo spiderpool-lab exec master curl"},
    ),
    Play(f"{REFERENCE}/admission.md", Environment.API_SERVER, before=NOT_CANONICAL),
    Play(f"{REFERENCE}/conditions.md", Environment.API_SERVER, before=READY),
    Play(f"{USAGE}/examples.md", Environment.API_SERVER),
    Play(f"{USAGE}/spiderpoolctl.md", Environment.ANOTHER_API_SERVER, before=OPERATED),
)

UNPLAYED = tuple(
    Unplayed(page, beginning, entry.get("test", ""), entry.get("reason", ""))
    for page, entries in yaml.safe_load(Path(__file__).with_name("unplayed.yaml").read_text()).items()
    for entry in entries
    for beginning in entry["commands"]
)

NO_COMMANDS = (
    ("README.md", "pod → CNI executable"),
    (f"{USAGE}/discovery.md", "metadata service ── agent"),
    (f"{USAGE}/fuzzing.md", "netlink          7159"),
    (f"{USAGE}/install.md", "Spiderpool is installed in this cluster already"),
    (f"{USAGE}/lab.md", "from spiderpool_lab import"),
    (f"{USAGE}/lab.md", "options = LabOptions"),
    (f"{USAGE}/migration.md", "Nodes that change hands"),
    (f"{USAGE}/migration.md", "Addresses:"),
    (f"{USAGE}/first-hour.md", "CHECK "),
    (f"{USAGE}/first-hour.md", "export "),
    (f"{USAGE}/load-balancers.md", "export "),
    (f"{USAGE}/simulated-cloud.md", "export "),
    (f"{USAGE}/simulated-cloud.md", "region  "),
    (f"{USAGE}/simulated-cloud.md", "from alibabacloud_ecs"),
    (f"{USAGE}/simulated-cloud.md", "client = Client("),
    (f"{USAGE}/simulated-cloud.md", "eni-a 00:16:3e"),
    (f"{USAGE}/simulation.md", "seed 12:"),
    (f"{USAGE}/troubleshooting.md", "Warning  AddressRefused"),
    (f"{REFERENCE}/cni-protocol.md", "POST /v1/cni"),
    (f"{REFERENCE}/cni-protocol.md", "name NUL"),
    (f"{REFERENCE}/data-path.md", "1000:"),
    (f"{REFERENCE}/data-path.md", "default via"),
)
"""Parts of blocks that are neither commands nor YAML, by page and beginning: figures, Python, what was printed."""


def plays(command: Command, page: str) -> list[Play]:
    """The plays to whose sections a command belongs."""
    own = [play for play in PLAYS if play.page == page]
    special = [play for play in own if command.section in play.sections]
    return special or [play for play in own if not play.sections]


def unplayed(command: Command, page: str) -> list[Unplayed]:
    """What is said of a command that no play runs."""
    return [each for each in UNPLAYED if fnmatch(page, each.page) and command.text.startswith(each.beginning)]


def played(play: Play) -> list[Command]:
    """The commands that a play runs, in order."""
    found = commands(ROOT / play.page)
    return [each for each in found if play in plays(each, play.page) and not unplayed(each, play.page)]

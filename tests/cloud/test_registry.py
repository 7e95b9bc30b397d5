"""Which clouds there are: known to the registry, and to nothing else."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spiderpool
from spiderpool.api.core_v1 import Service, ServiceSpec
from spiderpool.api.meta import ObjectMeta
from spiderpool.cloud import registry
from spiderpool.errors import BadConfig
from spiderpool.settings import CloudSettings, LoadBalancerSettings

pytestmark = pytest.mark.unit

SOURCE = Path(spiderpool.__file__).parent
KNOWING = ("core/cloud/alibaba/", "cloud/alibaba/", "cloud/registry.py", "settings/")
"""Where a cloud's words may stand; settings have them as keys and values that users write."""
WORDS = re.compile(r"alibaba|alicloud|aliyun|\b(clb|nlb|ecs)\b", re.IGNORECASE)


def code_of(path: Path) -> str:
    """The code of a file, without comments and docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [  # type: ignore[attr-defined]
                each for each in body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
            ] or [ast.Pass()]
    return ast.unparse(tree)


def test_nothing_else_knows_a_clouds_words() -> None:
    files = {path.relative_to(SOURCE).as_posix(): path for path in SOURCE.rglob("*.py")}
    assert all(any(name.startswith(part) for name in files) for part in KNOWING)
    found = {name: WORDS.findall(code_of(path)) for name, path in files.items() if not name.startswith(KNOWING)}
    assert {name: words for name, words in found.items() if words} == {}


def test_a_provider_is_found_by_its_name() -> None:
    assert registry.provider("alibaba") is registry.DEFAULT
    assert registry.names() == "alibaba"
    for name in ("", "other"):
        with pytest.raises(BadConfig, match=r"set cloud\.provider in conf\.yml, or CLOUD_PROVIDER, to alibaba"):
            registry.provider(name)


def test_what_a_provider_offers() -> None:
    provider = registry.DEFAULT
    assert str(provider.metadata_address) == "100.100.100.200"
    assert provider.features == ("nodes", "addresses", "balancers")
    assert provider.policy(["nodes"])["Statement"][0]["Action"] == ["ecs:DescribeInstances"]
    service = Service(metadata=ObjectMeta(name="web"), spec=ServiceSpec(type="LoadBalancer"))
    assert str(provider.kind_of(service)) == "clb"
    connection = provider.connect(CloudSettings(), None)
    assert connection.servers.parse_provider_id("cn-hangzhou.i-1") == ("cn-hangzhou", "i-1")
    balancers = connection.balancers("cn-hangzhou", "vpc-1")
    assert [str(kind) for kind in balancers.apis] == ["clb", "nlb"]
    assert str(balancers.kind_of(service)) == "clb"
    networked = CloudSettings(balancing=LoadBalancerSettings(default_type="nlb"))
    for found in (provider.connect(networked, None), provider.look(networked)):
        assert str(found.balancers("cn-hangzhou", "vpc-1").kind_of(service)) == "nlb"


async def test_the_metadata_service_of_a_provider() -> None:
    async with registry.DEFAULT.metadata("127.0.0.1:9", None) as source:
        source.forget()


def test_agents_load_no_library_that_signs_calls() -> None:
    program = (
        "import sys, spiderpool.agent.discovery; print([name for name in sys.modules if name.startswith('alibaba')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""The public names of a checkout, as scripts/public_names.py prints them."""

import json
import re
from pathlib import Path

import pytest
from scripts import public_names_probe
from scripts.public_names import HERE, Module, events, kernel, logs, metrics, modules, public_names, routes, words

pytestmark = pytest.mark.unit

SOURCE = '''
"""A docstring is no name."""
__all__ = ["PREFIX"]
log = logger("agent")
PREFIX, TABLES = "ignored", range(100, 101)
ROOT = "/v1"
POOL_FULL = EventReason("PoolFull", "Words of a sentence.")
POOL_MADE = EventReason("PoolMade", "More.", type="Normal")
USED = Counter("spiderpool_used", "Help.", ("pool",))
NETWORK = setting(help="Words of a sentence.", variables=("SPIDERPOOL_NET",), page="usage/page.md")

def work(self, router, name):
    log.info("pool made", pool=name, ips=1)
    router.add_get(f"{ROOT}/pools/{name}", work)
    USED.labels("blue")
    return f"""\\
table inet x
chain {name}"""
'''


@pytest.fixture
def module(tmp_path: Path) -> Module:
    path = tmp_path / "spiderpool" / "kernel" / "sample.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE)
    return Module(path, {})


def test_strings_without_blanks_by_kind(module: Module) -> None:
    found = set(words(module))
    assert {"word agent", "word PoolFull", "path /v1", "path /v1/pools/{}", "variable SPIDERPOOL_NET"} <= found
    assert not {line for line in found if "PREFIX" in line or "usage" in line or "docstring" in line}


def test_calls_that_name_something(module: Module) -> None:
    assert set(logs(module)) == {"log agent info 'pool made' ips pool", "log-component agent"}
    assert list(events(module)) == ["event Warning PoolFull", "event Normal PoolMade"]
    assert list(routes(module)) == ["http get /v1/pools/{}"]
    assert set(metrics(module)) == {"metric Counter spiderpool_used ('pool',)", "metric-label blue"}


def test_numbers_and_rules_for_the_kernel(module: Module) -> None:
    assert set(kernel(module)) == {
        "kernel-number 0x64",
        "kernel-number 0x65",
        "kernel-line table inet x",
        "kernel-line chain {}",
    }


def test_settings_with_what_they_make_of_values() -> None:
    lines = set(public_names_probe.settings())
    assert "setting agent_settings SPIDERPOOL_ADD_TIMEOUT_SECONDS '7': 60.0 → 7.0" in lines
    assert "setting agent_settings SPIDERPOOL_ADD_TIMEOUT_SECONDS 'word': refused" in lines
    assert "setting cloud_settings cloud.alibaba.assign true: no → yes" in lines


def test_names_of_this_checkout() -> None:
    lines = set(public_names(HERE))
    assert "program spiderpool-agent" in lines
    assert "command spiderpoolctl service plan" in lines
    assert "json {cidr}" in lines
    assert "key cloud.spidernet.io/assigned" in lines
    assert "crd spiderips.spiderpool.spidernet.io spec.group = " + json.dumps("spiderpool.spidernet.io") in lines
    assert any(line.startswith("annotation clb,nlb address-type ") for line in lines)


def test_logs_call_an_eni_by_its_name() -> None:
    lines = [line for module in modules(HERE) for line in logs(module)]
    assert lines
    assert [line for line in lines if {"card", "cards"} & {*re.findall("[a-z]+", line)}] == []

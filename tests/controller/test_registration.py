"""The webhook configurations that we register."""

from __future__ import annotations

import pytest

from spiderpool.controller.registration import NAMESPACE_NAME_LABEL, matches, webhooks
from spiderpool.settings import CommonSettings, ControllerSettings, PodInject

pytestmark = pytest.mark.unit


def test_additions_of_the_api_server_match_and_edits_do_not() -> None:
    wanted = [{"name": "a", "rules": [{"scope": "*"}], "objectSelector": {}}]
    assert matches([{**wanted[0], "added": {"later": 1}}], wanted)
    for edited in ([], [*wanted, *wanted], [{**wanted[0], "objectSelector": {"matchLabels": {"a": "b"}}}], None):
        assert not matches(edited, wanted)


def test_the_webhook_for_pods_fails_open_and_excludes_system_namespaces() -> None:
    settings = ControllerSettings(pod_inject=PodInject(True, ("kube-system",), ("team",)))
    *ours, pods = webhooks("mutate", settings, b"ca")
    assert {webhook["failurePolicy"] for webhook in ours} == {"Fail"}
    assert (pods["name"], pods["failurePolicy"]) == ("pods.spiderpool.spidernet.io", "Ignore")
    assert pods["namespaceSelector"]["matchExpressions"] == [
        {"key": NAMESPACE_NAME_LABEL, "operator": "NotIn", "values": ["kube-system"]},
        {"key": NAMESPACE_NAME_LABEL, "operator": "In", "values": ["team"]},
    ]
    assert pods["clientConfig"]["service"]["path"] == "/mutate--v1-pod"


@pytest.mark.parametrize(
    ("settings", "mutated", "guarded"),
    [
        (ControllerSettings(), {"pool", "subnet", "reservedip", "multusconfig", "coordinator"}, set()),
        (ControllerSettings(CommonSettings(enable_spider_subnet=False), protect_used=True), {"pool"}, {"pool"}),
        (ControllerSettings(protect_used=True), {"subnet"}, {"pool", "subnet"}),
    ],
)
def test_the_webhooks_follow_the_settings(settings: ControllerSettings, mutated: set[str], guarded: set[str]) -> None:
    def short_name(webhook: dict[str, object]) -> str:
        return str(webhook["name"]).partition(".")[0].removeprefix("spider").removeprefix("ip")

    registered = webhooks("validate", settings, b"ca")
    assert mutated <= {short_name(webhook) for webhook in registered}
    assert ("subnet" in {short_name(webhook) for webhook in registered}) == settings.common.enable_spider_subnet
    assert {short_name(webhook) for webhook in registered if "DELETE" in webhook["rules"][0]["operations"]} == guarded

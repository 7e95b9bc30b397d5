"""Registrations of admission webhooks."""

from __future__ import annotations

import pytest

from spiderpool.api.admissionregistration_v1 import (
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
    WebhookConfiguration,
)
from tests.api.documents import read

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (MutatingWebhookConfiguration, "mutatingwebhookconfigurations/spiderpool"),
        (ValidatingWebhookConfiguration, "validatingwebhookconfigurations/spiderpool"),
    ],
)
def test_a_webhook_stays_unchanged(kind: type[WebhookConfiguration], path: str) -> None:
    webhook = {"name": "pools.spidernet.io", "clientConfig": {"url": "https://127.0.0.1/x"}, "failurePolicy": "Fail"}
    found = read({"metadata": {"name": "spiderpool"}, "webhooks": [webhook]}, kind)
    assert found.webhooks == [webhook]
    assert kind.KIND.object_path(None, "spiderpool") == f"apis/admissionregistration.k8s.io/v1/{path}"

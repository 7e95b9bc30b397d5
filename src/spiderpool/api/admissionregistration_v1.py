"""Registrations of admission webhooks (admissionregistration.k8s.io/v1), in part."""

from __future__ import annotations

from typing import Any, ClassVar

from spiderpool.api.meta import Kind, Object, Scope

GROUP = "admissionregistration.k8s.io"

Webhook = dict[str, Any]
"""admissionregistration.k8s.io/v1 MutatingWebhook or ValidatingWebhook, as JSON: we write it whole and read nothing."""


class WebhookConfiguration(Object, kw_only=True):
    """Base of the two kinds of registration."""

    webhooks: list[Webhook] | None = None


class MutatingWebhookConfiguration(WebhookConfiguration, kw_only=True):
    """admissionregistration.k8s.io/v1 MutatingWebhookConfiguration."""

    KIND: ClassVar[Kind] = Kind(
        GROUP, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", Scope.CLUSTER
    )


class ValidatingWebhookConfiguration(WebhookConfiguration, kw_only=True):
    """admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration."""

    KIND: ClassVar[Kind] = Kind(
        GROUP, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", Scope.CLUSTER
    )

"""SpiderIPQuota: how many addresses a Namespace may hold."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.ipquota import EXHAUSTED_LABEL, SpiderIPQuota
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_the_limit_and_the_mark() -> None:
    metadata = {"name": "q", "namespace": "shop"}
    quota = read({"metadata": metadata, "spec": {"addresses": 7}, "status": {"used": 9}}, SpiderIPQuota)
    assert (quota.spec.addresses, quota.status and quota.status.used, quota.exhausted) == (7, 9, False)
    labels = {EXHAUSTED_LABEL: "true"}
    assert read({"metadata": metadata | {"labels": labels}, "spec": {"addresses": 7}}, SpiderIPQuota).exhausted
    with pytest.raises(msgspec.ValidationError):
        read({"metadata": metadata, "spec": {"addresses": -1}}, SpiderIPQuota)

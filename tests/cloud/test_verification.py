"""What a verification says can be kept as JSON, and read again."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.cloud.verification import RecordedAnswer, Verification, VerificationScope

pytestmark = pytest.mark.unit


def test_a_verification_survives_json() -> None:
    scope = VerificationScope("cn-hangzhou", "c1", ("nodes",), ("i-1",), "vsw-1", 60)
    answers = (RecordedAnswer("ecs:A", {"RegionId": "r"}, {"B": [1]}), RecordedAnswer("ecs:B", {}, None, "Rejected"))
    found = Verification(scope, (), answers)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Verification) == found

"""Where two clouds answer otherwise: by outcome and by the names and types of fields, never by values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spiderpool.cli.account_commands import compare
from spiderpool.cli.answer_comparison import compared, shape
from spiderpool.cli.printing import View
from spiderpool.cli.verification import save
from spiderpool.cloud.alibaba import connection
from spiderpool.cloud.alibaba.policy import ACTIONS, document
from spiderpool.cloud.verification import RecordedAnswer, VerificationScope
from spiderpool.errors import BadConfig
from spiderpool.settings import CloudSettings
from tests.cloud.alibaba import simulation

pytestmark = pytest.mark.unit


def answer(value: dict[str, Any] | None, code: str = "") -> list[RecordedAnswer]:
    return [RecordedAnswer("slb:A", {}, value, "Rejected" if code else "", code)]


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [each.text for each in compared(answer(before), answer(now)).differences]


def test_values_are_no_difference() -> None:
    assert differences({"A": [{"B": "x"}], "C": 1}, {"A": [{"B": "y"}, {"B": "z"}], "C": 2}) == []


def test_fields_and_types_are_compared() -> None:
    assert differences({"A": [{"B": "x", "D": 1}]}, {"A": [{"B": 7}], "C": True}) == [
        "A[].B was a text, is a number",
        "lacks A[].D, a number",
        "has C, which was not there",
    ]


def test_an_empty_list_and_null_say_nothing_of_what_could_be_there() -> None:
    assert differences({"A": [{"B": {"C": [1]}}]}, {"A": []}) == []
    assert differences({"A": [{"B": [{"C": 1}]}]}, {"A": [{"B": []}]}) == []
    assert differences({"A": None}, {"A": "x"}) == []


def test_outcomes_are_compared() -> None:
    found = compared(answer(None, "Forbidden.RAM"), answer({}))
    assert "was: Forbidden.RAM, is: carried out" in "\n".join(found.lines(View()))
    assert compared(answer(None, "X"), answer(None, "X")).differences == ()


def test_a_shape_has_the_fields_of_all_items() -> None:
    assert shape({"A": [{"B": 1}, {"C": "x"}]}) == {
        "A": "list",
        "A[]": "object",
        "A[].B": "number",
        "A[].C": "text",
    }


async def test_recorded_calls_are_sent_to_another_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation.without_proxy(monkeypatch)
    recorded = tmp_path / "answers.json"
    for name in ("first", "second"):
        account = simulation.new_account()
        account.add_eni("vsw-1", instance=account.add_instance("a", identity="i-a").identity)
        (tmp_path / name).mkdir()
        async with simulation.served(account, tmp_path / name) as simulated:
            settings = CloudSettings(
                region=simulated.access.region,
                endpoint=simulated.access.override,
                authority=simulated.access.authority,
                secret=simulated.secret,
                credentials="secret",
            )
            if name == "first":
                scope = VerificationScope(settings.region, "c1", tuple(ACTIONS), ("i-a",), "vsw-1", 60)
                save(await connection.verify(settings, scope), recorded)
                continue
            same = await compare(settings, recorded)
            assert (same.calls > 30, same.differences) == (True, ())
            simulated.allow(
                *(each for each in document(ACTIONS)["Statement"][0]["Action"] if "ListListeners" not in each)
            )
            (lacking,) = (await compare(settings, recorded)).differences
            assert (lacking.action, lacking.text) == ("nlb:ListListeners", "was: carried out, is: Forbidden.RAM")
    with pytest.raises(BadConfig, match="SPIDERPOOL_CLOUD_ENDPOINT"):
        await compare(CloudSettings(), recorded)

"""The history of addresses: what is written, and what the rows say."""

from __future__ import annotations

import base64
import random
import zlib

import pytest
from msgspec.structs import replace

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam import history
from spiderpool.core.ipam.history import Tenure

pytestmark = pytest.mark.unit

WEB = Tenure("10.0.0.1", "p", "n1", "shop", "web-1", "u1", "eth0", 100)
NEXT = Tenure("10.0.0.1", "p", "n2", "shop", "web-2", "u2", "eth0", 150)


def record(uid: str = "u1", *, made: str = "1970-01-01T00:01:40Z", released: str | None = None) -> SpiderIP:
    name = {"u1": "web-1"}.get(uid, "web-2")
    spec = IPSpec("10.0.0.1/24", "p", "n1", "shop", name, uid, "eth0", releasedAt=released)
    return SpiderIP(metadata=ObjectMeta(name="10.0.0.1", creationTimestamp=made), spec=spec)


def ended(tenure: Tenure, after: int, by: int) -> str:
    return f"{history.ENDED}{tenure.body}\t{after}\t{by}"


def begun(tenure: Tenure) -> str:
    return history.BEGUN + tenure.body


# --- What is written --------------------------------------------------------------------------------------------------


def test_times_are_those_of_the_api() -> None:
    assert history.seconds("1970-01-01T00:01:40Z") == 100
    assert history.seconds("1970-01-01T00:01:40.700000Z") == 100
    assert history.seconds("yesterday") is history.seconds(None) is None
    assert history.moment(100) == "1970-01-01T00:01:40Z"


def test_a_tenure_begins_with_the_record_or_later_with_its_pod() -> None:
    assert history.present(record(), None, 0) == WEB
    successor = Pod(metadata=ObjectMeta(name="web-1", uid="u1", creationTimestamp="1970-01-01T00:02:00Z"))
    other = Pod(metadata=ObjectMeta(name="web-1", uid="u9", creationTimestamp="1970-01-01T00:02:00Z"))
    assert history.present(record(), successor, 0) == replace(WEB, begun=120)
    assert history.present(record(), other, 0) == WEB, "a pod that is not its holder says nothing"
    assert history.present(record(), successor, 130) == replace(WEB, begun=130)


def test_nobody_has_an_address_without_a_record_or_with_one_that_cools_down_or_is_wrong() -> None:
    wrong = record()
    wrong.metadata.name = "10.0.0.2"
    for each in (None, record(released="1970-01-01T00:03:00Z"), wrong):
        assert history.present(each, None, 0) is None


def test_an_ipv6_address_has_one_spelling() -> None:
    found = record()
    found.metadata.name = "fd00-0000-0000-0000-0000-0000-0000-0007"
    found.spec.address = "fd00:0:0::0007/64"
    assert history.present(found, None, 0) == replace(WEB, address="fd00::7")


def rows(stored: Tenure | None, found: SpiderIP | None, *, after: int = 300, now: int = 300) -> list[str]:
    return history.rows_of(
        stored.body if stored else None,
        history.present(found, None, 0),
        lambda body: history.end_of(body, found, after, now),
    )


def test_only_what_changes_is_written() -> None:
    assert rows(None, None) == []
    assert rows(None, record()) == [begun(WEB)]
    assert rows(WEB, record(made="1970-01-01T00:00:07Z")) == [], "whenever it is thought to have begun"
    assert rows(WEB, None) == [ended(WEB, 300, 300)]
    assert rows(WEB, None, after=200) == [ended(WEB, 200, 300)]
    other, next_row = rows(WEB, record("u2"))
    assert (other, next_row.split("\t")[5]) == (ended(WEB, 300, 300), "u2")


def test_a_record_that_cools_down_says_when_it_was_released() -> None:
    assert rows(WEB, record(released="1970-01-01T00:03:00Z"), after=50) == [ended(WEB, 180, 180)]
    assert rows(WEB, record("u2", released="1970-01-01T00:03:00Z"), after=150) == [ended(WEB, 150, 300)]


@pytest.mark.parametrize(
    ("released", "end"),
    [(181, (200, 300)), (190, (190, 190)), (300, (300, 300)), (301, (200, 300)), (9**9, (200, 300))],
)
def test_when_it_was_released_is_believed_only_where_it_fits(released: int, end: tuple[int, int]) -> None:
    assert rows(WEB, record(released=history.moment(released)), after=200) == [ended(WEB, *end)]


def test_no_tenure_ends_before_it_began_whatever_clocks_say() -> None:
    assert rows(WEB, None, after=0, now=50) == [ended(WEB, 100, 100)]


def test_the_tenures_that_last_follow_from_the_rows() -> None:
    lasting: dict[str, str] = {}
    for row in (begun(WEB), ended(WEB, 150, 150), begun(NEXT), ended(WEB, 140, 150)):
        history.apply(lasting, row)
    assert lasting == {"10.0.0.1": NEXT.body}, "the late end is that of another tenure"
    text = "\n".join((begun(WEB), ended(WEB, 150, 150), begun(NEXT)))
    assert history.still_needed(text, lasting) == [begun(NEXT)]


BAD_ROWS = [
    "",
    "rubbish",
    "+a\tb",
    "?" + WEB.body,
    begun(WEB) + "\tx",
    begun(WEB) + "\t1",
    begun(replace(WEB, address="10.0.0.1/24")),
    begun(replace(WEB, address="fd00:0::7")),
    begun(replace(WEB, begun=-1)),
    begun(replace(WEB, begun=history.LATEST + 1)),
    ended(WEB, 1, 10**20),
]


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_row_that_nobody_can_read_is_none_for_readers_and_writers(row: str) -> None:
    assert history.read([row, begun(NEXT)]) == [NEXT]
    lasting = {WEB.address: WEB.body}
    history.apply(lasting, row)
    assert lasting == {WEB.address: WEB.body}


def test_an_object_is_filled_as_far_as_it_has_room() -> None:
    assert history.fill("", []) == ("", 0)
    assert history.fill("a", ["b", "c"]) == ("a\nb\nc", 2)
    row = "+" + "x" * 999
    text, count = history.fill("", [row] * 400)
    assert count == history.MOST_TEXT // 1001
    assert len(text) <= history.MOST_TEXT
    assert history.fill(text, ["x" * 2000]) == (text, 0)
    assert (history.count_rows(""), history.count_rows("a"), history.count_rows(text)) == (0, 1, count)


def test_the_longest_object_is_far_below_the_limit_of_etcd() -> None:
    noise = random.Random(1).randbytes(history.MOST_TEXT // 2).hex()
    assert history.unpack(history.pack(noise)) == noise
    incompressible = base64.b64encode(zlib.compress(random.Random(1).randbytes(history.MOST_TEXT)))
    assert len(incompressible) < 400_000


@pytest.mark.parametrize(
    "data",
    [
        "no base64",
        base64.b64encode(b"no zlib").decode(),
        base64.b64encode(zlib.compress(b"cut off" * 99)[:-9]).decode(),
        base64.b64encode(zlib.compress(b"x" * (history.MOST_TEXT + 1))).decode(),
        base64.b64encode(zlib.compress(b"\xff\xfe")).decode(),
    ],
)
def test_what_is_no_text_of_ours_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        history.unpack(data)


def test_no_name_of_a_record_makes_another_row() -> None:
    hostile = Tenure("10.0.0.1", "p", "n", "a\tb", "web\n-10.0.0.9\tp", "u" * 999, "eth0", 100)
    (found,) = history.read([begun(hostile)])
    assert (found.namespace, found.pod, len(found.pod_uid)) == ("a?b", "web?-10.0.0.9?p", 253)


# --- What is read -----------------------------------------------------------------------------------------------------


def test_a_tenure_is_one_whichever_of_its_rows_are_there() -> None:
    expected = Tenure("10.0.0.1", "p", "n1", "shop", "web-1", "u1", "eth0", 100, 150, 150)
    assert history.read([begun(WEB), ended(WEB, 150, 150)]) == [expected]
    assert history.read([ended(WEB, 150, 150)]) == [expected]
    assert history.read([begun(WEB)]) == [WEB]
    assert WEB.lasts
    assert history.read(["\n".join((ended(WEB, 150, 150), begun(WEB)))]) == [expected], "a row that was written again"


def test_of_two_leaders_the_one_counts_that_saw_it() -> None:
    exact, late = ended(WEB, 150, 150), ended(WEB, 110, 170)
    for both in ([exact, late], [late, exact]):
        (found,) = history.read(both)
        assert (found.ended_after, found.ended_by) == (150, 150)


def test_a_tenure_that_two_leaders_saw_begin_is_one() -> None:
    later = replace(WEB, begun=101)
    for end in (150, 151):
        assert history.read([begun(WEB), begun(later), ended(later, 110, 170), ended(WEB, end, end)]) == [
            replace(WEB, ended_after=end, ended_by=end)
        ]
    assert history.read([begun(WEB), begun(later)]) == [WEB]
    assert history.read([ended(WEB, 150, 150), begun(replace(WEB, begun=150))]) == [WEB], "it got it back at once"
    back = replace(WEB, begun=160)
    assert history.read([ended(WEB, 150, 150), begun(back)]) == [replace(WEB, ended_after=150, ended_by=150), back]


def test_a_tenure_without_an_end_has_ended_when_the_next_one_began() -> None:
    first, second = history.read([begun(WEB), begun(NEXT)])
    assert (first.ended_after, first.ended_by, second.lasts) == (100, 150, True)


def test_only_what_is_wanted_is_read() -> None:
    assert history.read([begun(WEB), begun(NEXT)], lambda each: each.node == "n1") == [WEB]


def test_who_had_it_at_a_time() -> None:
    (found,) = history.read([ended(WEB, 150, 170)])
    assert [found.covers(at) for at in (99, 100, 149, 150, 169, 170)] == [False, True, True, None, None, False]
    assert WEB.covers(10**9) is True


def test_the_changes_of_pools_count_each_tenure_once() -> None:
    changes = history.PoolChanges()
    blue = replace(WEB, pool="blue", begun=1000)
    rows = [begun(WEB), ended(WEB, 350, 650), ended(WEB, 650, 650), begun(NEXT), ended(blue, 1500, 1500)]
    for text in ("\n".join(rows), begun(WEB), "", "rubbish", "+a\tb", "-" + "x\t" * 9):
        changes.add(text)
    assert {pool: dict(each) for pool, each in changes.by_pool()} == {"p": {0: 2, 600: -1}, "blue": {900: 1, 1500: -1}}


def test_records_of_now_bring_the_rows_up_to_date() -> None:
    with_records = history.with_records
    assert with_records([WEB], [WEB], {"10.0.0.1"}, 140, 160) == [WEB]
    (gone,) = with_records([WEB], [], {"10.0.0.1"}, 140, 160)
    assert (gone.ended_after, gone.ended_by) == (140, 160)
    (early,) = with_records([WEB], [], {"10.0.0.1"}, 0, 0)
    assert (early.ended_after, early.ended_by) == (100, 100)
    assert with_records([WEB], [], (), 140, 160) == [WEB], "nobody has looked"
    past = history.read([ended(WEB, 140, 140)])
    assert with_records(past, [NEXT], {"10.0.0.1"}, 140, 160) == [*past, NEXT]

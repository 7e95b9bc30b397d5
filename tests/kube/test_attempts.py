"""What fails again and again keeps nothing else from being done, and costs a bounded number of tries."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.errors import ApiUnavailable, NotReady
from spiderpool.kube.attempts import MOST_FAILURES, Attempts, on_all

pytestmark = pytest.mark.unit


class Pieces:
    """Pieces of work, some of which fail."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.tried: list[str] = []
        self.reported: list[str] = []
        self.attempts = Attempts(self.report)

    def report(self, key: str, error: Exception) -> None:
        self.reported.append(f"{key}: {error}")

    async def work(self, key: str) -> None:
        self.tried.append(key)
        if key in self.broken:
            raise ApiUnavailable("no answer")

    async def once(self, *keys: str) -> tuple[list[str], bool]:
        """What is tried of some pieces, in order, and whether that were all."""
        self.tried.clear()
        return self.tried, await self.attempts.on_each({key: key for key in keys}, self.work)


async def test_what_has_failed_is_tried_last() -> None:
    pieces = Pieces("a")
    assert await pieces.once("a", "b") == (["a", "b"], True)
    assert pieces.reported == ["a: no answer"]
    assert await pieces.once("a", "b") == (["b", "a"], True)
    pieces.broken.clear()
    await pieces.once("a", "b")
    assert await pieces.once("a", "b") == (["a", "b"], True), "it is as the others again"


async def test_after_some_failures_the_rest_waits_and_is_tried_first() -> None:
    pieces = Pieces(*"abcdefgh")
    assert await pieces.once(*"abcdefgh") == (["a", "b", "c"], False)
    assert len(pieces.tried) == MOST_FAILURES
    assert (await pieces.once(*"abcdefgh"))[0] == ["d", "e", "f"]
    assert (await pieces.once(*"abcdefgh"))[0] == ["g", "h", "a"]
    await pieces.once("h")
    assert (await pieces.once(*"gh"))[0] == ["g", "h"]


@pytest.mark.parametrize(("error", "tried"), [(ValueError("a bug"), ["a", "b"]), (ApiUnavailable("no answer"), ["a"])])
async def test_all_are_worked_on_while_the_api_server_is_there(error: Exception, tried: list[str]) -> None:
    begun: list[str] = []

    async def work(piece: str) -> None:
        begun.append(piece)
        if piece == "a":
            raise error

    with pytest.raises(type(error)):
        await on_all(["a", "b"], work)
    assert begun == tried
    begun.clear()
    with pytest.raises(type(error)):
        await on_all(["a", "b"], work, give_up=False)
    assert begun == ["a", "b"]


@pytest.mark.parametrize(
    ("failures", "raised", "logged"),
    [
        ([NotReady("one"), ValueError("two"), NotReady("three")], "one", ["two", "three"]),
        ([ValueError("one"), ApiUnavailable("two"), NotReady("three")], "two", ["one"]),
        ([asyncio.CancelledError("two")], "two", []),
        ([NotReady("one"), asyncio.CancelledError("two")], "two", ["one"]),
    ],
)
async def test_a_failure_that_is_not_raised_is_logged(
    failures: list[BaseException], raised: str, logged: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(failure: BaseException) -> None:
        raise failure

    with pytest.raises(BaseException, match=raised):
        await on_all(failures, work)
    told = capsys.readouterr().out
    assert [word for word in ("one", "two", "three") if f"error={word}" in told] == logged
    bugs = [str(failure) for failure in failures if isinstance(failure, ValueError)]
    assert told.count("Traceback") == len({*bugs} & {*logged}), "a bug is logged with its place"

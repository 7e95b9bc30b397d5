"""Jobs that are waited for side by side."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.cloud.alibaba import nlb_jobs
from spiderpool.cloud.alibaba.answers import Json
from spiderpool.cloud.alibaba.nlb_jobs import Jobs
from spiderpool.cloud.provider import CloudConflict, CloudUnavailable, NotPermitted, Throttled

pytestmark = pytest.mark.unit


class JobSource:
    """Answers with the status of jobs; the first calls end as told."""

    def __init__(self, *failures: Exception) -> None:
        self.statuses: dict[str, str] = {}
        self.asked: list[list[str]] = []
        self.failures = list(failures)

    async def call(self, action: str, parameters: Json) -> Json:
        if action == "GetJobStatus":
            self.asked.append([parameters["JobId"]])
            return {"Status": "Succeeded"}
        assert action == "ListAsynJobs"
        self.asked.append(list(parameters["JobIds"]))
        if self.failures:
            raise self.failures.pop(0)
        statuses = {job: self.statuses.get(job, "Processing") for job in parameters["JobIds"]}
        self.statuses |= {job: "Succeeded" for job, status in statuses.items() if status == "Processing"}
        return {"Jobs": [{"Id": job, "Status": status} for job, status in statuses.items()]}


async def test_one_call_asks_for_twenty_jobs() -> None:
    far = JobSource()
    jobs = Jobs(far.call, 0.001)
    await asyncio.gather(*(jobs.finished("CreateListener", f"job-{number}") for number in range(25)))
    assert [len(each) for each in far.asked] == [20, 5, 20, 5]
    await jobs.finished("CreateListener", "job-99")
    assert far.asked[4:] == [["job-99"], ["job-99"]]


async def test_a_failed_job_fails_alone() -> None:
    far = JobSource()
    far.statuses["job-2"] = "Failed"
    jobs = Jobs(far.call, 0.001)
    results = await asyncio.gather(*(jobs.finished("Do", f"job-{each}") for each in (1, 2)), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], CloudConflict)
    assert "job-2" in results[1].message


async def test_a_throttled_question_is_asked_again() -> None:
    far = JobSource(Throttled("slow", retry_after=0.001))
    await Jobs(far.call, 0.001).finished("Do", "job-1")
    assert len(far.asked) == 3


async def test_a_question_without_an_answer_ends_the_wait() -> None:
    far = JobSource(CloudUnavailable("no answer"))
    jobs = Jobs(far.call, 0.001)
    with pytest.raises(CloudUnavailable, match="no answer"):
        await jobs.finished("Do", "job-1")
    await jobs.finished("Do", "job-1")


async def test_where_the_policy_is_an_older_one_jobs_are_looked_at_one_by_one() -> None:
    far = JobSource(NotPermitted("no", action="ListAsynJobs"))
    jobs = Jobs(far.call, 0.001)
    await asyncio.gather(*(jobs.finished("Do", f"job-{number}") for number in range(2)))
    await jobs.finished("Do", "job-2")
    assert far.asked == [["job-0", "job-1"], ["job-0"], ["job-1"], ["job-2"]]


async def test_wrong_keys_say_nothing_of_the_policy() -> None:
    wrong = NotPermitted("no", action="ListAsynJobs", cloud_code="InvalidSecurityToken.Expired")
    far = JobSource(wrong)
    jobs = Jobs(far.call, 0.001)
    await jobs.finished("Do", "job-1")
    await asyncio.gather(*(jobs.finished("Do", f"job-{number}") for number in range(2, 4)))
    assert far.asked[-1] == ["job-2", "job-3"]


async def test_a_job_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nlb_jobs, "TIMEOUT", 0.02)

    async def call(action: str, parameters: Json) -> Json:
        return {"Jobs": []}

    with pytest.raises(CloudUnavailable, match="has not ended"):
        await Jobs(call, 0.001).finished("Do", "job-1")

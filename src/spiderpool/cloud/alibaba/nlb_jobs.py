"""Jobs of NLB 2022-04-30: many are waited for at the same time, and one call tells of all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from spiderpool.cloud.alibaba.answers import Call, objects, optional
from spiderpool.cloud.alibaba.error_codes import keys_are_wrong
from spiderpool.cloud.provider import CloudConflict, CloudUnavailable, NotPermitted, Throttled

TIMEOUT = 120.0
"""Seconds that we wait for a job; after that the Service is reconciled again later."""
PAUSE = 1.0
"""Seconds between two looks at jobs."""
JOBS_PER_CALL = 20


class Jobs:
    """Waits for jobs. One task looks at all that are waited for, and ends when there are none."""

    def __init__(self, call: Call, pause: float = PAUSE) -> None:
        self._call = call
        self._pause = pause
        self._waiting: dict[str, asyncio.Future[str]] = {}  # job → its last status
        self._may_list = True  # false: the policy is that of an older version
        self._watch: asyncio.Task[None] | None = None

    async def finished(self, action: str, job: str) -> None:
        """Waits for the job of an action. Raises CloudConflict when it fails, CloudUnavailable after `TIMEOUT`."""
        status = self._waiting.setdefault(job, asyncio.get_running_loop().create_future())
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look_until_all_have_ended())
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await asyncio.shield(status)
        except TimeoutError as error:
            text = f"{action} has not ended (job {job}) after {TIMEOUT:.0f} s; we look again later"
            raise CloudUnavailable(text) from error
        finally:
            self._waiting.pop(job, None)
        if answer == "Failed":
            raise CloudConflict(f"{action} was accepted and then failed (job {job}); it is tried again")

    async def _look_until_all_have_ended(self) -> None:
        while self._waiting:
            jobs = list(self._waiting)
            for start in range(0, len(jobs), JOBS_PER_CALL):
                part = jobs[start : start + JOBS_PER_CALL]
                try:
                    await self._look(part)
                except Exception as error:  # those who wait are told, of a bug too
                    self._fail(part, error)
            if self._waiting:
                await asyncio.sleep(self._pause)

    async def _look(self, jobs: Sequence[str]) -> None:
        """Looks at jobs once, and tells those who wait for one that has ended."""
        try:
            found = await self._statuses(jobs)
        except Throttled as error:
            await asyncio.sleep(error.retry_after)  # the jobs go on, and have a time limit
            return
        for job in jobs:
            if found.get(job) in ("Succeeded", "Failed") and (status := self._waiting.pop(job, None)) is not None:
                status.set_result(found[job])

    async def _statuses(self, jobs: Sequence[str]) -> dict[str, str]:
        """Returns the statuses of jobs: by one call, or by one for each where the policy lacks the other action."""
        if self._may_list:
            try:
                answer = await self._call("ListAsynJobs", {"JobIds": jobs})
            except NotPermitted as error:
                self._may_list = keys_are_wrong(error.cloud_code)  # which says nothing of the policy
            else:
                listed = objects(answer, "ListAsynJobs", "Jobs")
                return {optional(each, "Id"): optional(each, "Status") for each in listed}
        return {job: optional(await self._call("GetJobStatus", {"JobId": job}), "Status") for job in jobs}

    def _fail(self, jobs: Sequence[str], error: Exception) -> None:
        for job in jobs:
            if (status := self._waiting.pop(job, None)) is not None:
                status.set_exception(error)

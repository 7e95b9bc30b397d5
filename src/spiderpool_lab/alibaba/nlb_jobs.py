"""Asynchronous jobs of NLB 2022-04-30, and lookups of NLB resources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import NLB, AsyncJob, NLBGroup, NLBListener
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, not_found
from spiderpool_lab.alibaba.registry import Answer, action

JOBS_PER_CALL = 20
"""Jobs that one call of ListAsynJobs may name."""


def start(account: Account, work: Callable[[], None]) -> Answer:
    """Run ``work`` after ``account.delays.job`` seconds. Returns the job ID for the answer."""
    job = account.tables.jobs.put(AsyncJob(account.new_id("job-")))

    def finish() -> None:
        work()
        account.tables.jobs.put(replace(job, status="Succeeded"))

    account.schedule(account.delays.job, finish)
    return {"JobId": job.identity}


@action("nlb", "GetJobStatus", required="JobId", optional="ClientToken")
def get_job_status(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 GetJobStatus: the status of an asynchronous job."""
    job = account.tables.jobs.get(parameters.required("JobId"))
    if job is None:
        raise not_found("ResourceNotFound.JobId", "job", parameters.required("JobId"))
    return {"Status": job.status}


@action("nlb", "ListAsynJobs", optional="JobIds")
def list_asyn_jobs(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 ListAsynJobs: the status of several asynchronous jobs, at most 20."""
    named = parameters.texts("JobIds")
    if len(named) > JOBS_PER_CALL:
        raise invalid("JobIds", f"has more than {JOBS_PER_CALL} jobs")
    found = [job for job in account.tables.jobs if not named or job.identity in named][:JOBS_PER_CALL]
    return {"Jobs": [{"Id": job.identity, "Status": job.status} for job in found], "TotalCount": len(found)}


def balancer(account: Account, identity: str, *, idle: bool = False) -> NLB:
    """An NLB by its ID. Raises Refusal if it does not exist or, with ``idle``, is being changed."""
    found = account.tables.nlbs.get(identity)
    if found is None:
        raise not_found("ResourceNotFound.loadBalancer", "resource loadBalancer", identity)
    if idle and found.status != "Active":
        raise Refusal("IncorrectStatus.loadbalancer", f"The status of loadbalancer [{identity}] is incorrect.")
    return found


def listener(account: Account, identity: str, *, idle: bool = False) -> NLBListener:
    """A listener by its ID. Raises Refusal if it does not exist or, with ``idle``, is being changed."""
    found = account.tables.nlb_listeners.get(identity)
    if found is None:
        raise not_found("ResourceNotFound.listener", "resource listener", identity)
    if idle and found.status not in ("Running", "Stopped"):
        raise Refusal("ResourceInConfiguring.listener", f"The specified resource listener [{identity}] is configuring.")
    return found


def group(account: Account, identity: str, *, idle: bool = False) -> NLBGroup:
    """A server group by its ID. Raises Refusal if it does not exist or, with ``idle``, is being changed."""
    found = account.tables.nlb_groups.get(identity)
    if found is None:
        raise not_found("ResourceNotFound.serverGroup", "resource serverGroup", identity)
    if idle and found.status != "Available":
        raise Refusal("IncorrectStatus.serverGroup", f"The status of servergroup [{identity}] is incorrect.")
    return found

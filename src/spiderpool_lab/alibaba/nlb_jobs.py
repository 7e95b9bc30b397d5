"""NLB: changes that are carried out after the answer, and the jobs by which a caller follows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import NLB, AsyncJob, NLBGroup, NLBListener
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, absent
from spiderpool_lab.alibaba.registry import Answer, action


def start(account: Account, work: Callable[[], None]) -> Answer:
    """Have ``work`` done after ``account.delays.job`` seconds; the answer names the job."""
    job = account.world.jobs.put(AsyncJob(account.new_id("job-")))

    def finish() -> None:
        work()
        account.world.jobs.put(replace(job, status="Succeeded"))

    account.later(account.delays.job, finish)
    return {"JobId": job.identity}


@action("nlb", "GetJobStatus", needed="JobId", known="ClientToken")
def get_job_status(account: Account, parameters: Parameters) -> Answer:
    """How far a change has come."""
    job = account.world.jobs.get(parameters.needed("JobId"))
    if job is None:
        raise absent("ResourceNotFound.JobId", "job", parameters.needed("JobId"))
    return {"Status": job.status}


def balancer(account: Account, identity: str, *, settled: bool = False) -> NLB:
    """A balancer that exists and, if asked for, that nothing is being changed about."""
    found = account.world.nlbs.get(identity)
    if found is None:
        raise absent("ResourceNotFound.loadBalancer", "resource loadBalancer", identity)
    if settled and found.status != "Active":
        raise Refusal("IncorrectStatus.loadbalancer", f"The status of loadbalancer [{identity}] is incorrect.")
    return found


def listener(account: Account, identity: str, *, settled: bool = False) -> NLBListener:
    """A listener that exists and, if asked for, that nothing is being changed about."""
    found = account.world.nlb_listeners.get(identity)
    if found is None:
        raise absent("ResourceNotFound.listener", "resource listener", identity)
    if settled and found.status not in ("Running", "Stopped"):
        raise Refusal("ResourceInConfiguring.listener", f"The specified resource listener [{identity}] is configuring.")
    return found


def group(account: Account, identity: str, *, settled: bool = False) -> NLBGroup:
    """A server group that exists and, if asked for, that nothing is being changed about."""
    found = account.world.nlb_groups.get(identity)
    if found is None:
        raise absent("ResourceNotFound.serverGroup", "resource serverGroup", identity)
    if settled and found.status != "Available":
        raise Refusal("IncorrectStatus.serverGroup", f"The status of servergroup [{identity}] is incorrect.")
    return found

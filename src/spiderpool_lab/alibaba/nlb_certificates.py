"""Actions of NLB 2022-04-30 on the certificates that a listener has beside its own one."""

from __future__ import annotations

from dataclasses import replace

from spiderpool_lab.alibaba import nlb_jobs, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import NLBListener
from spiderpool_lab.alibaba.nlb_listeners import ADDITIONAL, finish
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, not_found
from spiderpool_lab.alibaba.registry import Answer, action

PER_CALL = 15
"""Certificates that one call may name."""


def _secure(account: Account, parameters: Parameters) -> NLBListener:
    found = nlb_jobs.listener(account, parameters.required("ListenerId"), idle=True)
    if found.protocol != "TCPSSL":
        raise Refusal("Mismatch.Protocol", "Only TCPSSL listeners have certificates.")
    return found


def _additional(found: NLBListener) -> list[str]:
    return [each for each in found.settings.get(ADDITIONAL, "").split(",") if each]


def _register(name: str, *, adds: bool) -> None:
    """Register Associate- or DisassociateAdditionalCertificatesWithListener."""

    @action(
        "nlb",
        f"{name}AdditionalCertificatesWithListener",
        required="ListenerId AdditionalCertificateIds",
        optional="ClientToken DryRun",
    )
    def change(account: Account, parameters: Parameters) -> Answer:
        found, sent = _secure(account, parameters), parameters.texts(ADDITIONAL)
        if len(sent) > PER_CALL:
            raise invalid(ADDITIONAL, f"has more than {PER_CALL} values")
        present = _additional(found)
        if not adds and (absent := [each for each in sent if each not in present]):
            raise not_found("ResourceNotFound.Certificate", "resource Certificate", absent[0])
        others = [each for each in present if each not in sent]
        done = replace(found, settings={**found.settings, ADDITIONAL: ",".join([*others, *sent] if adds else others)})
        account.tables.nlb_listeners.put(replace(found, status="Configuring"))
        return nlb_jobs.start(account, lambda: finish(account, done))


_register("Associate", adds=True)
_register("Disassociate", adds=False)


@action(
    "nlb", "ListListenerCertificates", required="ListenerId", optional="CertType CertificateIds MaxResults NextToken"
)
def list_listener_certificates(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 ListListenerCertificates: lists the certificates of a listener, its own one and the others."""
    found = nlb_jobs.listener(account, parameters.required("ListenerId"))
    own = [(each, "Server", True) for each in found.settings.get("CertificateIds", "").split(",") if each]
    own += [(each, "Ca", True) for each in found.settings.get("CaCertificateIds", "").split(",") if each]
    rows = [
        {"CertificateId": identity, "CertificateType": kind, "IsDefault": default, "Status": "Associated"}
        for identity, kind, default in (*own, *((each, "Server", False) for each in _additional(found)))
        if parameters.text("CertType") in ("", kind)
    ]
    page, token = paging.by_token(rows, parameters, default=20, most=50)
    return {"TotalCount": len(rows), "MaxResults": len(page), "NextToken": token, "Certificates": list(page)}

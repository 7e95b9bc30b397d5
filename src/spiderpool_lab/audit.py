"""What our accounts did at an API server, by its audit log, and what their roles allow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from spiderpool_lab.checks import CheckResult
from spiderpool_lab.control_plane import ControlPlane

OUR_NAMESPACE = "kube-system"
ACCOUNTS = ("spiderpool-agent", "spiderpool-controller", "spiderpool-cloud")

_PREFIX = f"system:serviceaccount:{OUR_NAMESPACE}:"


@dataclass(frozen=True, order=True, slots=True)
class Right:
    """A verb on a resource as a rule of a role has it, as in ``patch spidernodes/status.spiderpool.spidernet.io``."""

    account: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.account} {self.verb} {self.resource}"


@dataclass(frozen=True, slots=True)
class Call:
    """A request of one of our accounts, and whether a role allowed it."""

    right: Right
    allowed: bool


def check_calls(plane: ControlPlane) -> Iterator[CheckResult]:
    """Each account has called, and no role lacks what its daemon asked for."""
    seen = [*calls(plane.audit_log.read_text().splitlines())]
    for account in ACCOUNTS:
        own = [call for call in seen if call.right.account == account]
        refused = sorted({call.right for call in own if not call.allowed})
        text, detail = f"{account}: {len(own)} calls", ", ".join(map(str, refused))
        yield CheckResult("roles allow what daemons do", text, bool(own) and not refused, detail)


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """The calls of our accounts in an audit log; its last line may be incomplete, since the API server writes on."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        user, reference = event["user"]["username"], event.get("objectRef")
        account = user.removeprefix(_PREFIX)
        if reference is None or account not in ACCOUNTS or user == account:
            continue
        decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
        yield Call(Right(account, _resource(reference), event["verb"]), decision == "allow")


def granted(plane: ControlPlane) -> set[Right]:
    """What the roles of our accounts allow; the roles of an account have its name."""
    return {
        Right(account, f"{resource}.{group}".rstrip("."), verb)
        for account in ACCOUNTS
        for rule in _rules(plane, account)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _rules(plane: ControlPlane, account: str) -> Iterator[dict[str, Any]]:
    for kind in ("clusterroles", "roles"):
        listed = json.loads(plane.kubectl("get", kind, "-n", OUR_NAMESPACE, "-o", "json"))["items"]
        yield from (rule for role in listed if role["metadata"]["name"] == account for rule in role["rules"])


def _resource(reference: dict[str, str]) -> str:
    """``resource/subresource.group``, as rules name it."""
    path = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
    return f"{path}.{reference.get('apiGroup', '')}".rstrip(".")

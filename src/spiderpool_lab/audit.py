"""What our accounts did at an API server, by its audit log, and what their roles allow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from spiderpool_lab.checks import CheckResult
from spiderpool_lab.control_plane import ControlPlane

OUR_NAMESPACE = "kube-system"
ACCOUNTS = ("spiderpool-agent", "spiderpool-controller", "spiderpool-cloud")

FORBIDDEN = 403
"""Status of what a role or an admission policy refuses."""

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
    """A request of one of our accounts, whether a role allowed it, and whether the API server then refused it."""

    right: Right
    allowed: bool
    refused: bool = False


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
        refused = event.get("responseStatus", {}).get("code") == FORBIDDEN
        yield Call(Right(account, _resource(reference), event["verb"]), decision == "allow", refused)


def granted(objects: Iterable[Mapping[str, Any]]) -> set[Right]:
    """What the roles that are bound to our accounts allow; ``objects`` are manifests with roles and bindings."""
    listed = [*objects]
    rules = {_key(each["kind"], each): each["rules"] for each in listed if each["kind"] in ("ClusterRole", "Role")}
    return {
        Right(subject["name"], f"{resource}.{group}".rstrip("."), verb)
        for binding in listed
        if binding["kind"] in ("ClusterRoleBinding", "RoleBinding")
        for subject in binding["subjects"]
        if subject["name"] in ACCOUNTS
        for rule in rules.get(_key(binding["roleRef"]["kind"], binding, binding["roleRef"]["name"]), ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _key(kind: str, of: Mapping[str, Any], name: str = "") -> tuple[str, str, str]:
    """Kind, Namespace and name of a role: of itself, or as the object that binds it names it."""
    namespace = "" if kind == "ClusterRole" else of["metadata"].get("namespace", "")
    return kind, namespace, name or of["metadata"]["name"]


def _resource(reference: dict[str, str]) -> str:
    """``resource/subresource.group``, as rules name it."""
    path = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
    return f"{path}.{reference.get('apiGroup', '')}".rstrip(".")

"""On OpenShift each pod is admitted by constraints that are made for its account, and these allow no more than it has.

There is no OpenShift here: the rules of its admission are written down as its documentation has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from spiderpool_lab import chart

pytestmark = pytest.mark.unit

SERVED = "security.openshift.io/v1/SecurityContextConstraints"
ALWAYS, NEVER = (f"global.securityContextConstraints={when}" for when in ("always", "never"))
NAMESPACE = "net"
IN_PODS_NETWORK = ("spiderpoolController.hostnetwork=false", "spiderpoolCloud.hostnetwork=false")
VARIANTS = {
    "all features": chart.ALL_FEATURES,
    "network of pods": (*chart.ALL_FEATURES, *IN_PODS_NETWORK),
    "another capability": (
        *chart.ALL_FEATURES,
        "spiderpoolAgent.securityContext.capabilities.add={NET_ADMIN,NET_RAW,SYS_ADMIN,SYS_MODULE}",
    ),
    "OIDC": (
        *chart.ALL_FEATURES,
        "cloud.credentials.oidc.roleARN=acs:ram::1:role/x",
        "cloud.credentials.oidc.providerARN=acs:ram::1:oidc/y",
    ),
    "provided certificate": ("spiderpoolController.tls.method=provided",),
}


@cache
def rendered(*values: str) -> list[dict[str, Any]]:
    return [each for text in chart.templates(*values, namespace=NAMESPACE).values() for each in chart.documents(text)]


def constraints(*values: str) -> dict[str, dict[str, Any]]:
    """User → what its pods may have."""
    found = [each for each in rendered(*values) if each["kind"] == "SecurityContextConstraints"]
    return {user: each for each in found for user in each["users"]}


def pods(*values: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, annotations of the object and spec of the pods of each workload."""
    for each in rendered(*values):
        if "template" in each.get("spec", {}):
            metadata = each["metadata"]
            yield metadata["name"], metadata.get("annotations", {}), each["spec"]["template"]["spec"]


def refusals(spec: dict[str, Any], allowed: dict[str, Any]) -> Iterator[str]:
    """Why the admission of OpenShift would refuse a pod."""
    if spec.get("hostNetwork") and not (allowed["allowHostNetwork"] and allowed["allowHostPorts"]):
        yield "hostNetwork"
    for volume in spec.get("volumes", ()):
        (kind,) = volume.keys() - {"name"}
        if kind not in allowed["volumes"]:
            yield f"volume {kind}"
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        yield from refused_rights({**spec.get("securityContext", {}), **container["securityContext"]}, allowed)


def refused_rights(context: dict[str, Any], allowed: dict[str, Any]) -> Iterator[str]:
    """What of the rights of a container it would refuse."""
    faults = {
        "capabilities": not {*context["capabilities"].get("add", ())} <= {*allowed["allowedCapabilities"]},
        "privileged": context.get("privileged"),
        "a writable root": not context["readOnlyRootFilesystem"],
        "escalation": context.get("allowPrivilegeEscalation", True) and not allowed["allowPrivilegeEscalation"],
        "root": allowed["runAsUser"]["type"] == "MustRunAsNonRoot" and not context["runAsUser"],
        "SELinux": "seLinuxOptions" in context and allowed["seLinuxContext"]["type"] != "RunAsAny",
        "seccomp": context["seccompProfile"]["type"] != "RuntimeDefault",
    }
    yield from (name for name, is_wrong in faults.items() if is_wrong)


@pytest.mark.parametrize("name", VARIANTS)
def test_each_pod_is_admitted_by_what_is_made_for_its_account(name: str) -> None:
    values = (ALWAYS, *VARIANTS[name])
    made = constraints(*values)
    for workload, of_the_object, spec in pods(*values):
        own = made[f"system:serviceaccount:{NAMESPACE}:{spec['serviceAccountName']}"]
        assert [*refusals(spec, own)] == [], workload
        hook = own["metadata"].get("annotations", {}).get("helm.sh/hook")
        assert hook == of_the_object.get("helm.sh/hook"), "it exists when the pod does, and no longer"


def test_nobody_is_allowed_more_than_its_pods_have() -> None:
    for values in ((ALWAYS, *chart.ALL_FEATURES), (ALWAYS, *chart.ALL_FEATURES, *IN_PODS_NETWORK)):
        accounts: dict[str, list[dict[str, Any]]] = {}
        for _, _, spec in pods(*values):
            user = f"system:serviceaccount:{NAMESPACE}:{spec['serviceAccountName']}"
            accounts.setdefault(user, []).append(spec)
        made = constraints(*values)
        assert made.keys() == accounts.keys()
        for user, specs in accounts.items():
            allowed = made[user]
            volumes = {kind for spec in specs for each in spec.get("volumes", ()) for kind in each}
            contexts = [each["securityContext"] for spec in specs for each in spec["containers"]]
            capabilities = {name for context in contexts for name in context["capabilities"].get("add", ())}
            assert allowed["allowHostNetwork"] == any(spec.get("hostNetwork") for spec in specs)
            assert allowed["allowHostDirVolumePlugin"] == ("hostPath" in volumes)
            assert {*allowed["allowedCapabilities"]} == capabilities
            assert allowed["allowPrivilegeEscalation"] == bool(capabilities)
            for right in ("allowPrivilegedContainer", "allowHostIPC", "allowHostPID"):
                assert allowed[right] is False


def test_what_works_on_the_nodes_files_has_the_type_that_may() -> None:
    for workload, _, spec in pods(ALWAYS, *chart.ALL_FEATURES):
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            expected = {"type": "spc_t"} if workload in ("spiderpool-agent", "spiderpool-uninstall") else None
            assert container["securityContext"].get("seLinuxOptions") == expected, workload


@pytest.mark.parametrize(
    ("values", "served", "made"),
    [((), False, False), ((), True, True), ((ALWAYS,), False, True), ((NEVER,), True, False)],
)
def test_they_are_made_where_the_api_server_has_the_kind_or_as_the_value_says(
    values: tuple[str, ...], served: bool, made: bool
) -> None:
    flags = [word for value in values for word in ("--set", value)]
    versions = ["--api-versions", SERVED] if served else []
    text = chart.helm("template", chart.RELEASE, chart.CHART, "--namespace", NAMESPACE, *flags, *versions)
    assert ("kind: SecurityContextConstraints" in text) is made
    assert ("spc_t" in text) is made

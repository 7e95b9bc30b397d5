"""Which Secret the pods of a Deployment mount on the folder that a variable names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.mounts import MountingDeployment

pytestmark = pytest.mark.unit

VARIABLE, FOLDER = "CERTIFICATE_FOLDER", "/etc/certificate"
NAMED = {"name": VARIABLE, "value": FOLDER}
MOUNTED = {"name": "certificate", "mountPath": FOLDER}
SECRET = {"name": "certificate", "secret": {"secretName": "ours", "optional": True}}
OTHERS = [{"name": "tmp", "emptyDir": {}}, {"name": "credentials", "secret": {"secretName": "keys"}}]


def found(env: list[Any], mounts: list[Any], volumes: list[Any]) -> str | None:
    container = {"name": "c", "image": "i", "env": env, "volumeMounts": mounts}
    pod = {"containers": [{"name": "sidecar"}, container], "volumes": volumes}
    document = {"metadata": {"name": "d"}, "spec": {"replicas": 1, "template": {"spec": pod}}}
    return msgspec.convert(document, MountingDeployment).spec.template.spec.secret_in(VARIABLE)


def test_the_one_that_is_mounted_there() -> None:
    others = {"name": "credentials", "mountPath": "/keys"}
    assert found([NAMED], [others, MOUNTED], [*OTHERS, SECRET]) == "ours"
    assert found([{**NAMED, "value": f"{FOLDER}/"}], [MOUNTED], [SECRET]) == "ours"


@pytest.mark.parametrize(
    ("env", "mounts", "volumes"),
    [
        ([], [MOUNTED], [SECRET]),
        ([{"name": VARIABLE, "valueFrom": {}}], [MOUNTED], [SECRET]),
        ([NAMED], [{**MOUNTED, "mountPath": "/elsewhere"}], [SECRET]),
        ([NAMED], [MOUNTED], OTHERS),
        ([NAMED], [MOUNTED], [{"name": "certificate", "emptyDir": {}}]),
    ],
)
def test_none_where_the_folder_has_another_origin(env: list[Any], mounts: list[Any], volumes: list[Any]) -> None:
    assert found(env, mounts, volumes) is None


def test_a_deployment_without_pods_mounts_none() -> None:
    assert msgspec.convert({"metadata": {"name": "d"}}, MountingDeployment).spec.template.spec.secret_in("X") is None

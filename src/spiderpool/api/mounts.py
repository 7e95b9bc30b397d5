"""What the pods of a Deployment mount (apps/v1, core/v1), in part: read one at a time, so that no cache keeps it."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.applications import Deployment
from spiderpool.api.meta import Kind, Object


class EnvVar(msgspec.Struct):
    """core/v1 EnvVar, in part."""

    name: str
    value: str | None = None


class VolumeMount(msgspec.Struct):
    """core/v1 VolumeMount, in part."""

    name: str
    mountPath: str


class SecretVolume(msgspec.Struct):
    """core/v1 SecretVolumeSource, in part."""

    secretName: str | None = None


class Volume(msgspec.Struct):
    """core/v1 Volume, in part."""

    name: str
    secret: SecretVolume | None = None


class MountingContainer(msgspec.Struct):
    """core/v1 Container: its variables, and what it mounts."""

    env: list[EnvVar] = []
    volumeMounts: list[VolumeMount] = []

    def folder(self, name: str) -> str | None:
        """The folder that a variable names."""
        return next((each.value.rstrip("/") for each in self.env if each.name == name and each.value), None)


class MountingPodSpec(msgspec.Struct):
    """core/v1 PodSpec: what the containers mount."""

    containers: list[MountingContainer] = []
    volumes: list[Volume] = []

    def secret_in(self, variable: str) -> str | None:
        """Name of the Secret that is mounted on the folder that a variable of a container names."""
        secrets = {each.name: each.secret.secretName for each in self.volumes if each.secret}
        found = (
            secrets.get(mount.name)
            for container in self.containers
            for mount in container.volumeMounts
            if mount.mountPath.rstrip("/") == container.folder(variable)
        )
        return next(filter(None, found), None)


class MountingPodTemplate(msgspec.Struct):
    """core/v1 PodTemplateSpec, in part."""

    spec: MountingPodSpec = msgspec.field(default_factory=MountingPodSpec)


class MountingSpec(msgspec.Struct):
    """apps/v1 DeploymentSpec, in part."""

    template: MountingPodTemplate = msgspec.field(default_factory=MountingPodTemplate)


class MountingDeployment(Object, kw_only=True):
    """apps/v1 Deployment: what its pods mount, which watchers of workloads do not keep."""

    KIND: ClassVar[Kind] = Deployment.KIND

    spec: MountingSpec = msgspec.field(default_factory=MountingSpec)

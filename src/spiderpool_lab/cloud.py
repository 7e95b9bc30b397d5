"""The cloud of a lab beside its network, seen from the lab: its process is started here, and found again.

The process itself is :mod:`spiderpool_lab.cloud_process`; what can be asked of it is :mod:`spiderpool_lab.console`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from spiderpool.errors import IOFailure
from spiderpool_lab.alibaba.resources import VPC
from spiderpool_lab.console import Console
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.ports import free_ports
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import Topology

NAME = "cloud"
LAB_VPC = VPC("vpc-lab", "172.16.0.0/12", "2001:db8:0:100::/56")
PUBLIC, PUBLIC_IPV6 = "198.51.100.64/26", "2001:db8:0:1ff::/64"
"""Where balancers get their addresses in the internet, which leads both to the cloud."""


class CloudProcessConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All that the process is told. ``features`` are those of spiderpool-cloud that its role is made for.

    The ports are on loopback: of the API, of the administration, and of the metadata service that has keys.
    """

    topology: Topology
    name: str
    backend: str
    directory: str
    features: tuple[str, ...]
    openapi: int
    admin: int
    role: int

    @property
    def authority(self) -> Path:
        """The certificate of the authority by which the API is trusted, in PEM."""
        return Path(self.directory) / "ca.crt"


class LabCloud:
    """The cloud of one fabric, which must be up. ``directory`` is for its files; one made later finds it by these."""

    def __init__(self, fabric: Fabric, processes: Processes, directory: Path) -> None:
        self._fabric = fabric
        self._processes = processes
        self._directory = directory

    def start(self, features: Iterable[str]) -> None:
        """Start the process, without waiting; the role of spiderpool-cloud may do what its ``features`` need."""
        self._directory.mkdir(parents=True)
        openapi, admin, role = free_ports(3, self._processes.directory)
        config = CloudProcessConfig(
            topology=self._fabric.topology,
            name=self._fabric.name,
            backend=self._fabric.backend.value,
            directory=str(self._directory),
            features=tuple(features),
            openapi=openapi,
            admin=admin,
            role=role,
        )
        self._file.write_bytes(msgspec.json.encode(config))
        self._processes.start(NAME, [sys.executable, "-m", "spiderpool_lab.cloud_process", self._file])

    def stop(self) -> None:
        """End the process; nothing happens if it does not run."""
        self._processes.stop(NAME)

    @property
    def is_ready(self) -> bool:
        """Whether it serves. Raises IOFailure when the process has ended."""
        if self._processes.pid(NAME) is None:
            raise IOFailure(f"the cloud has ended: {self._processes.log(NAME).read_text()[-2000:]}")
        return self.console.is_ready

    @property
    def console(self) -> Console:
        """How it is looked at and broken."""
        return Console(self.config.admin)

    @property
    def config(self) -> CloudProcessConfig:
        """What the process was told. Raises IOFailure when it was not started."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=CloudProcessConfig)
        except FileNotFoundError as error:
            raise IOFailure(f"{self._file} is missing: no cloud was started here") from error

    def access(self) -> dict[str, str]:
        """The environment by which spiderpool-cloud reaches the API, and finds its keys as those of a role."""
        config = self.config
        return {
            "SPIDERPOOL_CLOUD_ENDPOINT": f"https://127.0.0.1:{config.openapi}",
            "SPIDERPOOL_CLOUD_CA": str(config.authority),
            "SPIDERPOOL_CLOUD_CREDENTIALS": "role",
            "METADATA_ENDPOINT": f"http://127.0.0.1:{config.role}",
        }

    @property
    def _file(self) -> Path:
        return self._directory / "config.json"

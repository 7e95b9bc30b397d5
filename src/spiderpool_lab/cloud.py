"""Starts the process of the simulated cloud, and finds the one that another process has started.

The process itself is :mod:`spiderpool_lab.cloud_process`; :mod:`spiderpool_lab.admin_client` is how a lab uses it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from spiderpool.errors import IOFailure
from spiderpool_lab.admin_client import AdminClient
from spiderpool_lab.alibaba.resources import VPC
from spiderpool_lab.fabric import Fabric
from spiderpool_lab.ports import free_ports
from spiderpool_lab.processes import Processes
from spiderpool_lab.topology import Topology

NAME = "cloud"
ERROR_TAIL = 2000
"""Characters of the log that an error quotes."""
LAB_VPC = VPC("vpc-lab", "172.16.0.0/12", "2001:db8:0:100::/56")
PUBLIC, PUBLIC_IPV6 = "198.51.100.64/26", "2001:db8:0:1ff::/64"
"""The public networks of load balancers; the internet routes both to the cloud."""


class CloudProcessConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of the process. The role of spiderpool-cloud may do what its ``features`` need.

    With ``servers_have_role`` the nodes have this role, otherwise spiderpool-cloud runs on the lab's machine.
    The ports are on loopback: of the API, of the administration, and of the metadata service that gives out keys.
    """

    topology: Topology
    name: str
    backend: str
    directory: str
    features: tuple[str, ...]
    servers_have_role: bool
    openapi_port: int
    admin_port: int
    role_port: int

    @property
    def authority(self) -> Path:
        """File with the certificate (PEM) of the authority that signed the API server's."""
        return Path(self.directory) / "ca.crt"


class LabCloud:
    """The cloud of one fabric, which must be up. An object made later finds the running cloud by its ``directory``."""

    def __init__(self, fabric: Fabric, processes: Processes, directory: Path) -> None:
        self._fabric = fabric
        self._processes = processes
        self._directory = directory

    def start(self, features: Iterable[str], *, servers_have_role: bool = False) -> None:
        """Start the process, without waiting, with these features of spiderpool-cloud, whose role servers may have."""
        self._directory.mkdir(parents=True)
        openapi_port, admin_port, role_port = free_ports(3, self._processes.directory)
        config = CloudProcessConfig(
            topology=self._fabric.topology,
            name=self._fabric.name,
            backend=self._fabric.backend.value,
            directory=str(self._directory),
            features=tuple(features),
            servers_have_role=servers_have_role,
            openapi_port=openapi_port,
            admin_port=admin_port,
            role_port=role_port,
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
            raise IOFailure(f"the cloud has ended: {self._processes.log(NAME).read_text()[-ERROR_TAIL:]}")
        return self.admin.is_ready

    @property
    def admin(self) -> AdminClient:
        """Client of its administration."""
        return AdminClient(self.config.admin_port)

    @property
    def config(self) -> CloudProcessConfig:
        """The configuration of the process. Raises IOFailure when it was not started."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=CloudProcessConfig)
        except FileNotFoundError as error:
            raise IOFailure(f"{self._file} is missing: no cloud was started here") from error

    def access(self) -> dict[str, str]:
        """The environment with which spiderpool-cloud reaches the API and gets its keys as those of a role."""
        config = self.config
        return {
            "SPIDERPOOL_CLOUD_ENDPOINT": f"https://127.0.0.1:{config.openapi_port}",
            "SPIDERPOOL_CLOUD_CA": str(config.authority),
            "SPIDERPOOL_CLOUD_CREDENTIALS": "role",
            "METADATA_ENDPOINT": f"http://127.0.0.1:{config.role_port}",
        }

    @property
    def _file(self) -> Path:
        return self._directory / "config.json"

"""Reservations of a lab on this machine: its name, which names its network namespaces, and TCP ports on loopback.

Both exist once per machine, whichever state folder a lab uses, so each is reserved by one file in a folder of the
machine, written under one lock. A reservation holds as long as the process that made it runs, or any process recorded
in the lab's folder of processes. After that it is stale: the next reservation removes it and what its lab left.

Addresses, links and umids need no reservation: they live in a lab's own namespaces and folders.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from spiderpool.errors import BadConfig
from spiderpool_lab import namespaces
from spiderpool_lab.egress import socket_of
from spiderpool_lab.processes import Processes, start_ticks

_LONGEST = 40
"""Characters of a name: the paths of sockets, which have it in them, are limited by the kernel."""
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{,{_LONGEST - 1}}}")


class LabReservation(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a name or a port. ``pid`` and ``start`` identify the process that reserved it.

    ``processes`` is the folder with the records of the lab's processes, None where a lab has none. ``namespaces`` and
    ``directory`` are removed when the reservation is stale. ``token`` tells the objects of one process apart.
    """

    pid: int
    start: int | None
    processes: str | None = None
    namespaces: tuple[str, ...] = ()
    directory: str | None = None
    token: str = ""

    @property
    def holds(self) -> bool:
        """Whether the process that made it, or any process of the lab, still runs."""
        return start_ticks(self.pid) == self.start or self._has_processes()

    def _has_processes(self) -> bool:
        if self.processes is None:
            return False
        recorded = Processes(Path(self.processes))
        return any(recorded.pid(name) is not None for name in recorded.names())


class LabName:
    """The name of one lab, to be reserved before anything is made under it.

    ``namespaces`` are the lab's network namespaces, ``processes`` and ``directory`` as in :class:`LabReservation`.
    """

    def __init__(
        self,
        name: str,
        namespaces: Iterable[str] = (),
        *,
        processes: Path | None = None,
        directory: Path | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise BadConfig(
                f"{name!r} cannot name a lab: use at most {_LONGEST} letters, digits, '-', '_' and '.', a letter or"
                " digit first"
            )
        self.name = name
        self._reservation = LabReservation(
            pid=os.getpid(),
            start=start_ticks(os.getpid()),
            processes=str(processes) if processes else None,
            namespaces=tuple(namespaces),
            directory=str(directory) if directory else None,
            token=secrets.token_hex(8),
        )

    def reserve(self) -> None:
        """Reserve the name, and remove what the labs of stale reservations left. Repeating it changes nothing.

        Raises BadConfig with the remedy if another lab of this name is up.
        """
        with _locked() as folder:
            file = self._file(folder)
            _remove_stale(folder)
            holder = _read(file)
            if holder is not None and holder.token != self._reservation.token:
                raise BadConfig(f"a lab named {self.name!r} is up already{self._remedy(holder)}")
            file.write_bytes(msgspec.json.encode(self._reservation))

    def check_ours(self) -> None:
        """Raise BadConfig with the remedy if the lab of this name that is up is not in our folder of processes."""
        with _locked() as folder:
            holder = _read(self._file(folder))
            if holder is not None and holder.holds and not self._is_ours(holder):
                raise BadConfig(f"the lab named {self.name!r} that is up is another one{self._remedy(holder)}")

    def release(self) -> None:
        """Give the name back; nothing happens if another lab has it."""
        with _locked() as folder:
            holder = _read(self._file(folder))
            if holder is not None and (self._is_ours(holder) or not holder.holds):
                self._file(folder).unlink()

    def _is_ours(self, holder: LabReservation) -> bool:
        same_folder = holder.processes is not None and holder.processes == self._reservation.processes
        return same_folder or holder.token == self._reservation.token

    def _remedy(self, holder: LabReservation) -> str:
        place = f" (started by process {holder.pid}, its files are in {holder.directory or 'a folder of a test'})"
        return f"{place}; take it down by: spiderpool-lab down --name {self.name}, or choose another --name"

    def _file(self, folder: Path) -> Path:
        return folder / f"name-{self.name}"


def reserve_ports(candidates: Iterable[int], count: int, processes: Path | None) -> list[int]:
    """Reserve the first ``count`` of the candidates that no other reservation holds, and return them.

    ``candidates`` is read under the lock, so it may check there whether a server listens. Raises BadConfig if there are
    fewer than ``count``.
    """
    pid = os.getpid()
    reservation = LabReservation(pid=pid, start=start_ticks(pid), processes=str(processes) if processes else None)
    with _locked() as folder:
        _remove_stale(folder)
        ports: list[int] = []
        for port in candidates:
            if len(ports) == count:
                break
            file = _port_file(folder, port)
            if not file.exists():
                file.write_bytes(msgspec.json.encode(reservation))
                ports.append(port)
    if len(ports) < count:
        raise BadConfig(f"only {len(ports)} of {count} TCP ports on loopback are free; take other labs down")
    return ports


def release_ports(processes: Path) -> None:
    """Give back every port that was reserved for a folder of processes."""
    with _locked() as folder:
        for file in folder.glob("port-*"):
            reservation = _read(file)
            if reservation is not None and reservation.processes == str(processes):
                file.unlink()


def directory() -> Path:
    """Where this machine's reservations are; those of a user who is not root, who can make no lab, are apart."""
    if os.geteuid() == 0:
        return Path("/run/spiderpool-lab")
    return Path(tempfile.gettempdir()) / f"spiderpool-lab-{os.geteuid()}"


@contextmanager
def _locked() -> Iterator[Path]:
    """The folder of reservations, for one process (and one thread) at a time."""
    folder = directory()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _remove_stale(folder: Path) -> None:
    """Remove stale reservations with the namespaces and files of their labs."""
    alive: dict[tuple[int, int | None, str | None], bool] = {}  # (process, folder of processes) → holds
    for file in (*folder.glob("name-*"), *folder.glob("port-*")):
        reservation = _read(file)
        if reservation is None:
            continue
        key = (reservation.pid, reservation.start, reservation.processes)  # the ports of a lab share it
        if key not in alive:
            alive[key] = reservation.holds
        if not alive[key]:
            _remove(file, reservation)


def _remove(file: Path, reservation: LabReservation) -> None:
    for name in reservation.namespaces:
        namespaces.remove(name)
        socket_of(name).unlink(missing_ok=True)
    if reservation.directory is not None:
        shutil.rmtree(reservation.directory, ignore_errors=True)  # what cannot be removed stays, and does no harm
    file.unlink()


def _read(file: Path) -> LabReservation | None:
    """The reservation in a file; None if there is none. A file that a crash left half-written counts as none."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=LabReservation)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        file.unlink()
        return None


def _port_file(folder: Path, port: int) -> Path:
    return folder / f"port-{port}"

"""Measures the run time of the CNI executable with a socket that answers immediately, compared with /bin/true."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from spiderpool_lab.executable import build

RESULT = b'{"cniVersion":"1.0.0"}\n'
ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(RESULT), RESULT)
STDIN = b'{"cniVersion":"1.0.0","name":"bench","type":"spiderpool-attach"}'


class ShimTimer:
    """Builds the executable, answers its calls in a thread and measures its run time."""

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="spiderpool-shim-"))
        self._shim = build(self._directory)
        path = self._directory / "agent.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._environment = {"SPIDERPOOL_SOCKET": str(path), "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c"}
        self._stdin = self._directory / "stdin"
        self._stdin.write_bytes(STDIN)
        threading.Thread(target=self._answer, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        shutil.rmtree(self._directory)

    def run_shim(self) -> float:
        """Seconds from spawn to exit of the executable."""
        return self._time([str(self._shim)])

    def run_true(self) -> float:
        """Seconds from spawn to exit of /bin/true."""
        return self._time(["/bin/true"])

    def _time(self, argv: list[str]) -> float:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, str(self._stdin), os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        ]
        start = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, self._environment, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise RuntimeError(f"{argv[0]} ended with status {status}")
        return seconds

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                request = b""
                while not request.endswith(STDIN):
                    request += connection.recv(65536)
                connection.sendall(ANSWER)

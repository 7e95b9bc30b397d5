"""Client of the simulated cloud's administration: read its state, act as a user at its console, make it fail.

The server's side is :mod:`spiderpool_lab.alibaba.admin`.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote

import msgspec

from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab.alibaba.faults import Fault

TIMEOUT = 30.0
"""Seconds for an answer; a fault may delay one."""

Json = dict[str, Any]


class AdminClient:
    """Sends requests to the cloud's administration on a port of loopback. Raises IOFailure when there is no answer."""

    def __init__(self, port: int) -> None:
        self._port = port

    @property
    def is_ready(self) -> bool:
        """Whether the cloud answers."""
        try:
            self.faults()
        except IOFailure:
            return False
        return True

    def state(self) -> dict[str, list[Json]]:
        """Every table of the account, by its name."""
        state: dict[str, list[Json]] = self._request("GET", "/state")
        return state

    def registered_addresses(self) -> dict[str, frozenset[str]]:
        """MAC of an ENI → the addresses of both families that are registered on it."""
        enis = self.state()["enis"]
        return {eni["mac"]: frozenset([eni["address"], *eni["secondaries"], *eni["ipv6_addresses"]]) for eni in enis}

    def calls(self) -> Json:
        """The calls of the API: ``counts`` by action, and the ``last`` ones with their caller and outcome."""
        calls: Json = self._request("GET", "/calls")
        return calls

    def call(self, product: str, action: str, **parameters: str) -> Json:
        """Carry out an API action as a user at the console. Raises BadConfig if the cloud refuses."""
        answer: Json = self._request("POST", f"/console/{quote(product)}/{quote(action)}", parameters)
        return answer

    def set_fault(self, fault: Fault) -> int:
        """Set a fault and return its number. Raises BadConfig if no call can match it."""
        return int(self._request("POST", "/faults", msgspec.to_builtins(fault))["number"])

    def faults(self) -> dict[str, Json]:
        """The faults that are set, by number."""
        faults: dict[str, Json] = self._request("GET", "/faults")
        return faults

    def clear_faults(self, number: int | None = None) -> list[int]:
        """Remove one fault, or all faults, and return their numbers. Raises BadConfig if that one is not set."""
        cleared: list[int] = self._request("DELETE", "/faults" if number is None else f"/faults/{number}")["cleared"]
        return cleared

    def set_vswitch_full(self, vswitch: str, *, full: bool = True) -> None:
        """Let a vSwitch have no free address, or have some again. Raises BadConfig if there is none of that name."""
        self._request("PUT" if full else "DELETE", f"/vswitches/{quote(vswitch)}/full")

    def remove_instance(self, instance: str) -> None:
        """Remove an instance with its ENIs. Raises BadConfig if there is none of that identity."""
        self._request("DELETE", f"/instances/{quote(instance)}")

    def _request(self, method: str, path: str, body: object = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            status, text = answer.status, answer.read().decode()
        except (OSError, HTTPException) as error:
            raise IOFailure(f"the cloud of the lab does not answer {method} {path}: {error}") from error
        finally:
            connection.close()
        if status != 200:
            raise BadConfig(f"the cloud of the lab refuses {method} {path}: {text}")
        return json.loads(text)

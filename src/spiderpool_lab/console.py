"""The cloud of a lab as those see it who run the lab: what it holds, what was asked of it, what it is to do wrong."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote

import msgspec

from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab.alibaba.faults import Fault

TIMEOUT = 30.0
"""Seconds; a fault may delay an answer."""

Json = dict[str, Any]


class Console:
    """Speaks to the cloud's administration on a port of loopback. Raises IOFailure when there is no answer."""

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
        state: dict[str, list[Json]] = self._ask("GET", "/state")
        return state

    def registered(self) -> dict[str, frozenset[str]]:
        """The addresses of both families that the cloud knows on each ENI, by the ENI's MAC."""
        enis = self.state()["enis"]
        return {eni["mac"]: frozenset([eni["address"], *eni["secondaries"], *eni["ipv6_addresses"]]) for eni in enis}

    def calls(self) -> Json:
        """``counts`` by action, and the ``last`` calls with who made them and their outcome."""
        calls: Json = self._ask("GET", "/calls")
        return calls

    def perform(self, product: str, action: str, **parameters: str) -> Json:
        """Carry out an action of the API as somebody does at the console. Raises BadConfig if the cloud refuses."""
        answer: Json = self._ask("POST", f"/console/{quote(product)}/{quote(action)}", parameters)
        return answer

    def break_down(self, fault: Fault) -> int:
        """Set a fault and return its number."""
        return int(self._ask("POST", "/faults", msgspec.to_builtins(fault))["number"])

    def faults(self) -> dict[str, Json]:
        """The faults that are set, by number."""
        faults: dict[str, Json] = self._ask("GET", "/faults")
        return faults

    def repair(self, number: int | None = None) -> None:
        """Take away one fault, or all."""
        self._ask("DELETE", "/faults" if number is None else f"/faults/{number}")

    def fill(self, vswitch: str, *, full: bool = True) -> None:
        """Have a vSwitch give no address any more, or some again. Raises BadConfig if there is none of that name."""
        self._ask("PUT" if full else "DELETE", f"/vswitches/{quote(vswitch)}/full")

    def lose(self, instance: str) -> None:
        """Have an instance vanish with its ENIs. Raises BadConfig if there is none of that identity."""
        self._ask("DELETE", f"/instances/{quote(instance)}")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
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


def _addresses(eni: Json) -> list[str]:
    return [eni["address"], *eni["secondaries"], *eni["ipv6_addresses"]]

"""Validates settings of load balancers, listeners and health checks, under their parameter names in the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spiderpool_lab.alibaba.balancers import Settings
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import invalid

ON_OFF = ("on", "off")
FLAG = ("true", "false")
"""Clients send booleans in upper or lower case; they are stored in lower case."""


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The rule for a number in a range, or one of the special numbers in ``also``."""

    low: int
    high: int
    also: tuple[int, ...] = ()

    def allows(self, text: str) -> bool:
        """Whether ``text`` is a number that the rule allows."""
        if not text.lstrip("-").isdigit():
            return False
        return self.low <= int(text) <= self.high or int(text) in self.also


Rule = NumberRange | tuple[str, ...]
"""The numbers or the texts that a setting allows."""


def read_settings(parameters: Parameters, names: Iterable[str], rules: Mapping[str, Rule]) -> dict[str, str]:
    """The settings among ``names`` that a call sends. Raises Refusal if a rule does not allow a value."""
    found = {name: _text(parameters, name, rules) for name in names if parameters.text(name)}
    for name, text in found.items():
        _check(name, text, rules.get(name))
    return found


def typed_settings(settings: Settings, rules: Mapping[str, Rule]) -> dict[str, str | int]:
    """Settings for an answer: as numbers where the rule is a NumberRange."""
    return {name: int(text) if isinstance(rules.get(name), NumberRange) else text for name, text in settings.items()}


def _text(parameters: Parameters, name: str, rules: Mapping[str, Rule]) -> str:
    text = parameters.text(name)
    return text.lower() if rules.get(name) == FLAG else text


def _check(name: str, text: str, rule: Rule | None) -> None:
    match rule:
        case None:
            return
        case NumberRange():
            if not rule.allows(text):
                raise invalid(name, f"must be a number from {rule.low} to {rule.high}")
        case _:
            if text not in rule:
                raise invalid(name, f"must be one of {', '.join(rule)}")

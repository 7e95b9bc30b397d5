"""Which values the settings of listeners and health checks may have, by the names that the OpenAPI gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spiderpool_lab.alibaba.balancers import Settings
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import invalid

ON_OFF = ("on", "off")
FLAG = ("true", "false")
"""Clients write these in any case of letters; we keep small ones."""


@dataclass(frozen=True, slots=True)
class NumberRange:
    """A number in a range, or one of some numbers with a meaning of their own."""

    low: int
    high: int
    also: tuple[int, ...] = ()

    def allows(self, text: str) -> bool:
        """Whether a text is such a number."""
        if not text.lstrip("-").isdigit():
            return False
        return self.low <= int(text) <= self.high or int(text) in self.also


Rule = NumberRange | tuple[str, ...]


def read_settings(parameters: Parameters, names: Iterable[str], rules: Mapping[str, Rule]) -> dict[str, str]:
    """The settings that a call sends. Raises Refusal for a value that its rule does not allow."""
    found = {name: _text(parameters, name, rules) for name in names if parameters.text(name)}
    for name, text in found.items():
        _check(name, text, rules.get(name))
    return found


def numbers(settings: Settings, rules: Mapping[str, Rule]) -> dict[str, str | int]:
    """Settings as an answer has them: numbers where the rule says so."""
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

"""The actions that the simulated cloud knows: by product, with the parameters that each takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.parameters import Parameters

Product = Literal["ecs", "vpc", "slb", "nlb"]
Answer = dict[str, Any]
Handler = Callable[[Account, Parameters], Answer]

VERSIONS: dict[str, Product] = {"2014-05-26": "ecs", "2016-04-28": "vpc", "2014-05-15": "slb", "2022-04-30": "nlb"}

COMMON = frozenset({"RegionId", "OwnerId", "OwnerAccount", "ResourceOwnerId", "ResourceOwnerAccount"})
"""Parameters that every action takes."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action: its handler, the parameters that it knows and those that it cannot do without."""

    product: Product
    name: str
    handler: Handler
    known: frozenset[str]
    needed: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """As a RAM policy names it."""
        return f"{self.product}:{self.name}"

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.name.startswith(("Describe", "List", "Get"))


ACTIONS: dict[tuple[Product, str], Action] = {}


def action(product: Product, name: str, *, needed: str = "", known: str = "") -> Callable[[Handler], Handler]:
    """Register a handler. ``needed`` and ``known`` are parameter names, blank-separated, without list positions."""

    def register(handler: Handler) -> Handler:
        names = tuple(needed.split())
        ACTIONS[product, name] = Action(product, name, handler, frozenset(names) | set(known.split()) | COMMON, names)
        return handler

    return register

"""The registry of API actions: each handler registers itself with the parameters that its action takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.parameters import Parameters

Product = Literal["ecs", "vpc", "slb", "nlb"]
Answer = dict[str, Any]
"""The JSON body of a successful answer, without its RequestId."""
Handler = Callable[[Account, Parameters], Answer]

VERSIONS: dict[str, Product] = {"2014-05-26": "ecs", "2016-04-28": "vpc", "2014-05-15": "slb", "2022-04-30": "nlb"}
"""The one API version of each product that is simulated. Other versions are refused as unknown."""

COMMON = frozenset({"RegionId", "OwnerId", "OwnerAccount", "ResourceOwnerId", "ResourceOwnerAccount"})
"""Parameters that every action takes."""


@dataclass(frozen=True, slots=True)
class Action:
    """An API action with its handler. ``allowed`` includes the ``required`` parameters."""

    product: Product
    name: str
    handler: Handler
    allowed: frozenset[str]
    required: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """``product:Action``, as in a RAM policy."""
        return f"{self.product}:{self.name}"

    @property
    def is_read(self) -> bool:
        """Whether the action only reads."""
        return self.name.startswith(("Describe", "List", "Get"))


ACTIONS: dict[tuple[Product, str], Action] = {}  # (product, action) → action; filled when handler modules are imported


def action(product: Product, name: str, *, required: str = "", optional: str = "") -> Callable[[Handler], Handler]:
    """Register a handler for an action. Parameter names are separated by blanks, without list positions (``Tag.1``)."""

    def register(handler: Handler) -> Handler:
        names = tuple(required.split())
        allowed = frozenset(names) | set(optional.split()) | COMMON
        ACTIONS[product, name] = Action(product, name, handler, allowed, names)
        return handler

    return register

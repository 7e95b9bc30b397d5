"""A client that changes nothing, for commands that only look: whatever calls it, and whatever its keys may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spiderpool.cloud.alibaba.client import OpenAPIClient, Product
from spiderpool.cloud.alibaba.policy import is_reading
from spiderpool.cloud.provider import NotPermitted


class ReadOnlyClient(OpenAPIClient):
    """Refuses every action that is none that `policy` calls reading before it is sent."""

    async def call(
        self,
        product: Product,
        action: str,
        parameters: Mapping[str, Any],
        *,
        region: str | None = None,
        token: bool = False,
    ) -> dict[str, Any]:
        """Calls an action that changes nothing. Raises NotPermitted for any other, CloudError."""
        if not is_reading(action):
            raise NotPermitted(f"{action} was not sent: this command changes nothing in the cloud", action=action)
        return await super().call(product, action, parameters, region=region, token=token)

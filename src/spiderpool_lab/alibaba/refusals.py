"""Error answers of the OpenAPI: a code, a message and an HTTP status, as the real one sends them."""

from __future__ import annotations


class Refusal(Exception):
    """The API refuses a call. ``retry_after`` is the header x-acs-retry-after of a throttled call, in milliseconds."""

    def __init__(self, code: str, message: str, status: int = 400, *, retry_after: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after = retry_after


def missing(name: str) -> Refusal:
    """The error for a required parameter that was not sent."""
    return Refusal(
        "MissingParameter",
        f'The input parameter "{name}" that is mandatory for processing this request is not supplied.',
    )


def invalid(name: str, reason: str = "is not valid") -> Refusal:
    """The error for a parameter whose value is not allowed."""
    return Refusal("InvalidParameter", f'The specified parameter "{name}" {reason}.')


def not_found(code: str, what: str, identity: str) -> Refusal:
    """The error for a resource that does not exist."""
    return Refusal(code, f"The specified {what} {identity} does not exist.", 404)


def throttled(milliseconds: int) -> Refusal:
    """The error for a call beyond the limit of calls per minute."""
    return Refusal(
        "Throttling.User", "Request was denied due to user flow control.", 400, retry_after=max(1, milliseconds)
    )

"""What the cloud says when it refuses: a code, a sentence and an HTTP status, as the OpenAPI answers them."""

from __future__ import annotations


class Refusal(Exception):
    """A call that the cloud refuses. ``retry_after`` is the hint in milliseconds that a throttled call gets."""

    def __init__(self, code: str, message: str, status: int = 400, *, retry_after: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after = retry_after


def missing(name: str) -> Refusal:
    """A mandatory parameter was not sent."""
    return Refusal(
        "MissingParameter",
        f'The input parameter "{name}" that is mandatory for processing this request is not supplied.',
    )


def invalid(name: str, reason: str = "is not valid") -> Refusal:
    """A parameter has a value outside what is allowed."""
    return Refusal("InvalidParameter", f'The specified parameter "{name}" {reason}.')


def absent(code: str, what: str, identity: str) -> Refusal:
    """A resource that does not exist."""
    return Refusal(code, f"The specified {what} {identity} does not exist.", 404)


def throttled(milliseconds: int) -> Refusal:
    """More calls than the account may make in this minute."""
    return Refusal(
        "Throttling.User", "Request was denied due to user flow control.", 400, retry_after=max(1, milliseconds)
    )

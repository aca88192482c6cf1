"""Why a request ended without its answer: one class per cause, each with the HTTP status it becomes.

`openai` writes these as bodies and events; `chat` carries them between nodes. `retryable` means that
nothing of an answer was sent yet and that another host, or the same one later, may do better.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_NAMES_SHOWN = 20


class RequestFailed(Exception):
    """Base of every error that ends a request. The attributes are what the client is told.

    kind: OpenAI's `type`.  retry_after_s: when trying again makes sense; None when it does not.
    """

    status = 500
    kind = "server_error"
    code: str | None = "internal_error"
    param: str | None = None
    retryable = False
    retry_after_s: int | None = None


class BadRequest(RequestFailed):
    """The client's fault: we could not read what it sent. `param` names the field, where there is one."""

    status = 400
    kind = "invalid_request_error"
    code = "bad_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BodyTooLarge(BadRequest):
    """The request's body is longer than we take."""

    status = 413
    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is larger than the limit of {limit_bytes >> 20} MiB")


class HeadersTooLarge(BadRequest):
    """More headers than engines take, or longer ones."""

    status = 431
    code = "headers_too_large"


class UnknownModel(RequestFailed):
    """No node offers a model of that name. `known`: the names that would have worked."""

    status = 404
    kind = "invalid_request_error"
    code = "model_not_found"
    param = "model"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no model {name[:100]!r} in this mesh; {list_models(known)}")
        self.known = tuple(known)


class NoHost(RequestFailed):
    """The model exists, but no node can answer for it now. The message says each one's reason."""

    status = 503
    code = "no_host"
    retryable = True
    retry_after_s = 5


class QueueFull(RequestFailed):
    """As many requests as a host takes for this model are running or waiting there."""

    status = 429
    kind = "rate_limit_error"
    code = "queue_full"
    retryable = True
    retry_after_s = 2

    def __init__(self, message: str, *, retry_after_s: int = 2) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class HostFailed(RequestFailed):
    """The node that was answering broke off, fell silent or could not be reached."""

    status = 502
    code = "host_failed"
    retry_after_s = 2

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class HostSilent(HostFailed):
    """There is no link to the node, its link broke, or it said nothing for longer than a living host does."""


class DeadlineExceeded(RequestFailed):
    """The request's time was over before its answer was."""

    status = 504
    kind = "timeout_error"
    code = "deadline_exceeded"


class RemoteFailure(RequestFailed):
    """What another node said went wrong there, attribute by attribute."""

    def __init__(self, message: str, *, status: int, kind: str, code: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code


def list_models(known: Sequence[str]) -> str:
    """The end of a sentence that tells which models exist and, when none does, what to do."""
    if not known:
        return "no node serves any model yet: start one with `meshd --model PATH.gguf`"
    shown = ", ".join(known[:MAX_NAMES_SHOWN])
    more = len(known) - MAX_NAMES_SHOWN
    return f"there are: {shown}" + (f" and {more} more" if more > 0 else "")

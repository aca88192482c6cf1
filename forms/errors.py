"""Why a form was not run: one table for text `(error (KIND "message"))` and for frames `BERR`."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """The kinds of errors with their codes in frames; 5 is also an operation that is not known."""

    SYNTAX = 1
    LIMIT = 2
    AUTH = 3
    ARGUMENT = 4
    NOT_FOUND = 5
    BUSY = 6
    LOST = 7
    INTERNAL = 8

    @property
    def word(self) -> str:
        """As text spells it."""
        return self.name.lower().replace("_", "-")


class FormFailed(Exception):
    """Base of everything that ends a call without its result. The message is what the caller is told."""

    kind = Kind.INTERNAL


class BadSyntax(FormFailed):
    """What came is no datum and no frame."""

    kind = Kind.SYNTAX


class BeyondLimit(FormFailed):
    """The call is larger than this node takes, or its answer would be."""

    kind = Kind.LIMIT


class NotAuthenticated(FormFailed):
    """A key is needed and did not come."""

    kind = Kind.AUTH


class BadArgument(FormFailed):
    """The call could be read, but asks for something that cannot be."""

    kind = Kind.ARGUMENT


class NotFound(FormFailed):
    """No such blob, or no such thing."""

    kind = Kind.NOT_FOUND


class UnknownOperation(NotFound):
    """No operation of that name. name: as it was asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no operation {name[:100]!r}; (forms) lists what there is")
        self.name = name


class Busy(FormFailed):
    """The queue was full until the caller's time was over."""

    kind = Kind.BUSY


class WorkerLost(FormFailed):
    """The process or the node that was computing has gone."""

    kind = Kind.LOST


class DeviceFailed(FormFailed):
    """The GPU, or its driver, gave up: out of memory, an illegal address. The worker's context is not to be trusted."""

    kind = Kind.LOST

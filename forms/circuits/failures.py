"""Why a circuit was not loaded or not run."""

from __future__ import annotations

from forms.errors import BadArgument, BeyondLimit


def _at(operation: int | None, message: str) -> str:
    return message if operation is None else f"op {operation}: {message}"


class BadCircuit(BadArgument):
    """The file is no circuit, or none that this check can judge. operation: the 0-based index of the one at fault."""

    def __init__(self, message: str, operation: int | None = None) -> None:
        super().__init__(_at(operation, message))
        self.operation = operation


class CircuitTooLarge(BeyondLimit):
    """A circuit, perhaps a valid one, that needs more than this node gives. operation: where that shows."""

    def __init__(self, message: str, operation: int | None = None) -> None:
        super().__init__(_at(operation, message))
        self.operation = operation

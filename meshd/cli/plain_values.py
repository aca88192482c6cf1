"""Plain values of options without pydantic, which typer else loads to convert any value at all.

Text, numbers without limits and what was not given are the values of nearly every command, and loading pydantic
takes half of the time of a small one. Whatever is not plain, or wrong, is typer's to convert and to tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer.core import TyperArgument, TyperOption

NOT_PLAIN = object()


def convert_plain_values_here() -> None:
    """Have typer's parameters ask this module first, in this process."""
    for kind in (TyperOption, TyperArgument):
        kind.process_value = _with_plain_first(kind.process_value)  # type: ignore[assignment, method-assign]


def _with_plain_first(convert: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    def process_value(self: Any, ctx: Any, value: Any) -> Any:
        found = _absent(self) if value is None else _given(self, value)
        if found is NOT_PLAIN:
            return convert(self, ctx, value)
        return found if self.callback is None else self.callback(ctx, self, found)

    return process_value


def _absent(parameter: Any) -> Any:
    if parameter.required:
        return NOT_PLAIN
    return () if parameter.multiple or parameter.nargs == -1 else None


def _given(parameter: Any, value: Any) -> Any:
    info = parameter.type_descriptor.parameter_info
    if info.min is not None or info.max is not None or info.parser is not None:
        return NOT_PLAIN
    return plain(parameter.type_descriptor.annotation, value)


def plain(annotation: Any, value: Any) -> Any:
    """`value` as the code of a command takes it; NOT_PLAIN where that wants more than `str`, `int` or `float`."""
    if annotation is str and isinstance(value, str):
        return value
    if annotation == list[str] and isinstance(value, tuple | list):
        return list(value)
    if annotation in (int, float) and isinstance(value, str):
        try:
            return annotation(value)
        except ValueError:
            return NOT_PLAIN
    return NOT_PLAIN

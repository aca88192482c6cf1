"""Plain values of options without pydantic, which typer else loads to convert any value at all.

Text, numbers without limits and what was not given are the values of nearly every command, and loading pydantic
takes half of the time of a small one. Whatever is not plain, or wrong, is typer's to convert and to tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer.core import TyperArgument, TyperOption

NOT_PLAIN = object()
MORE_THAN_PLAIN = ("min", "max", "parser", "click_type")


def convert_plain_values_here() -> None:
    """Have typer's parameters ask this module first, in this process."""
    for kind in (TyperOption, TyperArgument):
        kind.process_value = with_plain_first(kind.process_value)  # type: ignore[assignment, method-assign]


def with_plain_first(convert: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """What converts a parameter's value: here where that is plain, else by `convert`."""

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
    descriptor = getattr(parameter, "type_descriptor", None)  # no public part of typer: another version may have none
    info = getattr(descriptor, "parameter_info", None)
    if info is None or any(getattr(info, name, None) is not None for name in MORE_THAN_PLAIN):
        return NOT_PLAIN
    return plain(getattr(descriptor, "annotation", None), value)


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
